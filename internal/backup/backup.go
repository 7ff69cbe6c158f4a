// Package backup copies a server's data folder while the server runs, and puts a
// copy back.
//
// A backup is a folder:
//
//	ebb.db          the rows, as of one commit
//	blobs/          every blob that was there at that commit, and some later ones
//	pki/ keys …     what the server cannot make again as it was
//	SHA256SUMS      of every file of these
//	backup.json     what the copy holds; written last, so that one without is not whole
//
// Nodes, their folders and caches are not in it: they are of the present. A restore
// begins a new epoch, by which the server knows them for what they are; control
// says what becomes of them. Start at [Make] and [Restore].
package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/store"
)

// manifest is backup.json.
type manifest struct {
	Layout   int       `json:"layout"`   // of the backup: 1
	Software string    `json:"software"` // that made it
	Made     time.Time `json:"made"`
	Rows     int64     `json:"rows"` // bytes of ebb.db
	Blobs    int       `json:"blobs"`
	Bytes    int64     `json:"bytes"` // of the blobs, with what is known of them
	Sums     string    `json:"sums"`  // SHA-256 of SHA256SUMS
}

const (
	layout       = 1
	manifestFile = "backup.json"
)

// kept is what a data folder has beside rows and blobs that a backup takes along,
// where it is there.
var kept = []string{"pki", "keys", "client.json", "ebb.yaml"}

// Made is what a backup holds.
type Made struct {
	Dir        string
	Rows       int64 // bytes
	Blobs      int
	BlobsBytes int64
	Also       []string // of the data folder
}

// Say is told of progress, a line at a time.
type Say func(format string, args ...any)

// Make copies the data folder into dir, which must be missing or empty. A server
// may run on it, and goes on; only deletes and moves of blobs wait, while what came
// since the first part is copied.
func Make(ctx context.Context, data, dir, software string, now time.Time, say Say) (_ Made, err error) {
	if _, err := os.Stat(filepath.Join(data, "ebb.db")); err != nil {
		return Made{}, fault.New(fault.NotFound, data, "%s is no server's data folder: it has no ebb.db. Name it with --data.", data)
	}
	if err := own(data, os.Geteuid()); err != nil {
		return Made{}, err
	}
	if err := within(data, dir); err != nil {
		return Made{}, err
	}
	if err := fresh(dir); err != nil {
		return Made{}, err
	}
	blobs := blob.Copy{From: filepath.Join(data, "blobs"), To: filepath.Join(dir, "blobs"), Say: progress(say)}
	rows, total, err := copyBlobs(ctx, data, &blobs, say)
	if err != nil {
		return Made{}, err
	}
	if err := errors.Join(rows.Copy(ctx, dir), rows.Close()); err != nil {
		return Made{}, err
	}
	made := Made{Dir: dir, Blobs: total.Files, BlobsBytes: total.Bytes}
	files := sums{}
	for rel, sum := range blobs.Sums() {
		files["blobs/"+filepath.ToSlash(rel)] = sum
	}
	if files["ebb.db"], err = sumOf(filepath.Join(dir, "ebb.db")); err != nil {
		return Made{}, err
	}
	for _, name := range kept {
		switch err := copyTree(data, dir, name, files); {
		case err == nil:
			made.Also = append(made.Also, name)
		case !errors.Is(err, fs.ErrNotExist):
			return Made{}, fmt.Errorf("copy %s: %w", name, err)
		}
	}
	fi, err := os.Stat(filepath.Join(dir, "ebb.db"))
	if err != nil {
		return Made{}, err
	}
	made.Rows = fi.Size()
	list, err := files.write(dir)
	if err != nil {
		return Made{}, err
	}
	if err := syncAll(dir); err != nil {
		return Made{}, err
	}
	err = writeJSON(filepath.Join(dir, manifestFile), manifest{layout, software, now.UTC(), made.Rows, made.Blobs, made.BlobsBytes, list})
	return made, err
}

// copyBlobs copies blobs, all while everything goes on that comes before the rows
// of one commit, and then the few that came meanwhile.
func copyBlobs(ctx context.Context, data string, blobs *blob.Copy, say Say) (*store.Snapshot, blob.Total, error) {
	const short = 5 * time.Second // a round that was: nothing much came meanwhile
	for try := 0; ; try++ {
		began := time.Now()
		total, err := blobs.Round(ctx)
		if err != nil {
			return nil, total, fmt.Errorf("copy the blobs: %w", err)
		}
		if try == 0 {
			say("%d blobs (%s) copied; now what came meanwhile, and the rows", total.Files, size(total.Bytes))
		}
		if try == 4 || time.Since(began) < short {
			break
		}
	}
	return hold(ctx, data, blobs)
}

// hold keeps blobs in their places while the last ones are copied. A row is written
// after the blobs that it names and goes before they do. So those of the snapshot's
// rows are there when it is taken, and stay until they are copied; rows can be
// copied later.
func hold(ctx context.Context, data string, blobs *blob.Copy) (_ *store.Snapshot, total blob.Total, err error) {
	held, release, err := blobs.Hold(ctx)
	if err != nil {
		return nil, total, fmt.Errorf("keep the blobs in their places: %w", err)
	}
	rows, err := store.Snap(held, data)
	if err == nil {
		total, err = blobs.Round(held)
	}
	if err = cmp.Or(release(), err); err != nil { // the limit first: it is the reason
		if rows != nil {
			err = errors.Join(err, rows.Close())
		}
		return nil, total, fmt.Errorf("copy the blobs: %w", err)
	}
	return rows, total, nil
}

// own refuses to work on a data folder of another user's: the server, which is that
// user's, could not open what is made in it.
func own(data string, euid int) error {
	fi, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner := int(fi.Sys().(*syscall.Stat_t).Uid)
	if owner == euid {
		return nil
	}
	name := strconv.Itoa(owner)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fault.New(fault.Forbidden, data, "%s is user %s's, and its server is to open what is made there. Run this as %s: sudo -u '%s' ebb ...", data, name, name, name)
}

// within refuses a backup inside the data folder: it would be lost with it.
func within(data, dir string) error {
	a, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	b, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(a, b); err == nil && (rel == "." || filepath.IsLocal(rel)) {
		return fault.New(fault.Invalid, dir, "%s lies in the data folder, and would be lost with it. Choose a folder elsewhere, best on another disk.", dir)
	}
	return nil
}

// fresh makes a folder, or takes one that is empty.
func fresh(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fault.New(fault.Conflict, dir, "%s is not empty. Choose a new folder for each backup.", dir)
	}
	return nil
}

// copyTree copies a file or folder of that name, with all in it and with modes, and
// notes what was copied.
func copyTree(from, to, name string, done sums) error {
	source, target := filepath.Join(from, name), filepath.Join(to, name)
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		done[filepath.ToSlash(name)], err = copyFile(source, target, fi.Mode().Perm())
		return err
	}
	if err := os.MkdirAll(target, fi.Mode().Perm()|0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := copyTree(from, to, filepath.Join(name, e.Name()), done); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string, mode fs.FileMode) (s sum, err error) {
	in, err := os.Open(from)
	if err != nil {
		return s, err
	}
	defer func() { _ = in.Close() }() // only read
	fi, err := in.Stat()
	if err != nil {
		return s, err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return s, err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err = errors.Join(err, out.Close()); err != nil {
		return s, err
	}
	return sum(h.Sum(nil)), os.Chtimes(to, fi.ModTime(), fi.ModTime()) // a blob's age is its file's
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	return errors.Join(err, syncDir(filepath.Dir(path)))
}

// syncAll makes all that was written to a folder's file system last.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// progress says every thousand blobs how far it is.
func progress(say Say) func(blob.Total) {
	told := 0
	return func(t blob.Total) {
		if t.Files >= told+1000 {
			told = t.Files
			say("%d blobs (%s)", t.Files, size(t.Bytes))
		}
	}
}

// size puts bytes into words.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
