// Package upload takes files of this machine to a container of the server:
// which of a folder go (.amlignore, .gitignore), the hash by which the server
// knows them again, and the sending.
package upload

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// File is one file that goes.
type File struct {
	Path string // on this machine
	Name string // below the folder, with slashes
	Size int64
}

// Folder is what goes of a path: a folder's files, or the one file that it is.
type Folder struct {
	Root   string // the path
	Base   string // its last name, which is the first of each blob's
	Files  []File // by name
	IsFile bool
}

// Bytes is the size of all files.
func (f *Folder) Bytes() (sum int64) {
	for _, file := range f.Files {
		sum += file.Size
	}
	return sum
}

// Read looks through a path. Links are followed, as az follows them; a link to a
// folder that it is in is not.
func Read(root string) (*Folder, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, err
	}
	f := &Folder{Root: abs, Base: filepath.Base(abs)}
	if !info.IsDir() {
		f.IsFile = true
		f.Files = []File{{Path: abs, Name: f.Base, Size: info.Size()}}
		return f, nil
	}
	ignore, err := readIgnore(abs)
	if err != nil {
		return nil, err
	}
	w := walk{folder: f, ignore: ignore}
	if err := w.into(abs, "", nil); err != nil {
		return nil, err
	}
	if len(f.Files) == 0 {
		return nil, fmt.Errorf("%s has no file to upload (%s)", root, ignore)
	}
	slices.SortFunc(f.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return f, nil
}

type walk struct {
	folder *Folder
	ignore *ignoreFile
}

func (w *walk) into(dir, below string, parents []fs.FileInfo) error {
	self, err := os.Stat(dir)
	if err != nil {
		return err
	}
	for _, p := range parents {
		if os.SameFile(self, p) {
			return nil
		}
	}
	parents = append(slices.Clone(parents), self)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, full := path.Join(below, e.Name()), filepath.Join(dir, e.Name())
		info, err := os.Stat(full)
		switch {
		case err != nil && e.Type()&fs.ModeSymlink != 0:
			continue // a link that leads nowhere
		case err != nil:
			return err
		case info.IsDir():
			if w.ignore.prunes(name) {
				continue
			}
			if err := w.into(full, name, parents); err != nil {
				return err
			}
		case !info.Mode().IsRegular() || w.ignore.matches(name):
		default:
			w.folder.Files = append(w.folder.Files, File{Path: full, Name: name, Size: info.Size()})
		}
	}
	return nil
}

// HashVersion is of the way that [Folder.Hash] goes, which is az's.
const HashVersion = 202208

// Hash is the content's, in the way of az: the same folder uploaded by either is
// known to the server already.
func (f *Folder) Hash() (string, error) {
	files := slices.Clone(f.Files)
	slices.SortStableFunc(files, func(a, b File) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	sum := sha256.New()
	io.WriteString(sum, strconv.Itoa(len(files)))
	for _, file := range files {
		io.WriteString(sum, "#"+file.Name+"#"+strconv.FormatInt(file.Size, 10))
	}
	for _, file := range files {
		if err := hashFile(sum, file.Path); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func hashFile(sum hash.Hash, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(sum, in)
	return err
}
