package node

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a snapshot, far above Azure's own (300 MB, 2,000 files), so that a
// broken stream cannot fill the disk.
const (
	maxCodeFiles = 200_000
	maxCodeBytes = 10 << 30
)

// codeError says what is wrong with a snapshot; no second try mends it.
type codeError struct{ words string }

func (e *codeError) Error() string { return e.words }

// code puts the files of a snapshot into dir, by way of the machine's cache.
func (s *server) code(ctx context.Context, cache, snapshot, dir string) error {
	kept, err := s.fetchCode(ctx, cache, snapshot)
	if err != nil {
		return err
	}
	// The time says to "ebb prune" when the snapshot was last used.
	now := time.Now()
	_ = os.Chtimes(kept, now, now)
	if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
		return fmt.Errorf("copy the code: %w", err)
	}
	return nil
}

// fetchCode returns the folder in the cache that holds the snapshot. A snapshot
// never changes, so whoever finishes first is right for all.
func (s *server) fetchCode(ctx context.Context, cache, snapshot string) (string, error) {
	sum := sha256.Sum256([]byte(snapshot))
	parent := filepath.Join(cache, "snapshots")
	kept := filepath.Join(parent, hex.EncodeToString(sum[:16]))
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	res, err := s.do(ctx, "GET", "snapshots/"+escapePath(strings.TrimPrefix(snapshot, "/")), nil, nil, 0)
	if err != nil {
		return "", fmt.Errorf("fetch the code: %w", err)
	}
	defer res.Body.Close()
	tree := filepath.Join(tmp, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	if err := untar(res.Body, tree, maxCodeFiles, maxCodeBytes); err != nil {
		return "", fmt.Errorf("unpack the code: %w", err)
	}
	// One sync of the file system costs less than one of each file.
	if d, err := os.Open(tree); err == nil {
		_ = unix.Syncfs(int(d.Fd()))
		d.Close()
	}
	if err := os.Rename(tree, kept); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return "", err
	}
	return kept, nil
}

// untar unpacks files and folders into dir and nothing else: no links, no
// devices, nothing outside, at most so many files and bytes. It reads to the
// end of r, so that a stream cut short is an error.
func untar(r io.Reader, dir string, files int, size int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(h.Name, "/")
		if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
			return &codeError{fmt.Sprintf("the snapshot holds a file named %q, which leads outside", h.Name)}
		}
		if files--; files < 0 {
			return &codeError{"the snapshot holds too many files"}
		}
		if size -= h.Size; size < 0 || h.Size < 0 {
			return &codeError{"the snapshot is too large"}
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = unpackFile(root, name, h.FileInfo().Mode(), in)
		default:
			return &codeError{fmt.Sprintf("the snapshot holds %q, which is neither a file nor a folder", h.Name)}
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, mode fs.FileMode, r io.Reader) error {
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	perm := fs.FileMode(0o644)
	switch {
	case mode&0o111 != 0:
		perm = 0o755
	case mode&0o222 == 0: // shared with other jobs
		perm = 0o444
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// escapePath escapes each segment of a path for a URL.
func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
