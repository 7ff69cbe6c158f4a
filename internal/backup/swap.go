package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/fault"
)

// movable refuses a folder with something that cannot be put aside, or would be
// replaced by what lies elsewhere than it did.
func movable(data string) error {
	var of unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, data, 0, unix.STATX_BASIC_STATS, &of); err != nil {
		return fmt.Errorf("look at %s: %w", data, err)
	}
	for _, name := range state {
		path := filepath.Join(data, name)
		var at unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		what := ""
		switch {
		case at.Mode&unix.S_IFMT == unix.S_IFLNK:
			what = "a symbolic link"
		case at.Dev_major != of.Dev_major || at.Dev_minor != of.Dev_minor || at.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
			what = "a mount point"
		}
		if what != "" {
			return fault.New(fault.Conflict, path, "%s is %s, and a restore puts a folder or file in its place. Restore into a new folder on the disk that is to have all of it, and start the server with that as --data; or take %s away first, if what it leads to need not be used any more. Nothing was changed.", path, what, what)
		}
	}
	return nil
}

// swap puts what is there aside and the stage in its place. Until it is done a
// server refuses the folder. Where something cannot be renamed all is put back.
func swap(data, stage string, epoch int64, now time.Time, rename func(from, to string) error) (aside string, err error) {
	mark := filepath.Join(data, unfinished)
	_, err = os.Lstat(mark)
	whole := errors.Is(err, fs.ErrNotExist) // what is there is what was before, and not half of another restore
	if err := errors.Join(os.WriteFile(mark, strconv.AppendInt(nil, epoch, 10), 0o600), syncAll(data)); err != nil {
		return "", err
	}
	m := moves{rename: rename}
	if aside, err = m.all(data, stage, now); err != nil {
		if undone := m.undo(); undone != nil {
			return "", errors.Join(err, fmt.Errorf("put back what was there: %w", undone))
		}
		if aside != "" {
			err = errors.Join(err, os.Remove(aside))
		}
		if whole {
			err = errors.Join(err, syncAll(data), os.Remove(mark))
		}
		return "", errors.Join(fmt.Errorf("put the backup in its place (what was there is there again): %w", err), syncDir(data))
	}
	if err := syncAll(data); err != nil {
		return "", err
	}
	return aside, errors.Join(os.Remove(mark), syncDir(data))
}

// moves are renames that can be undone.
type moves struct {
	rename func(from, to string) error
	done   [][2]string
}

func (m *moves) move(from, to string) error {
	if err := m.rename(from, to); err != nil {
		return err
	}
	m.done = append(m.done, [2]string{from, to})
	return nil
}

func (m *moves) undo() (err error) {
	for _, d := range slices.Backward(m.done) {
		err = errors.Join(err, m.rename(d[1], d[0]))
	}
	return err
}

// all moves what is there into a folder of its own, and what is in the stage to
// where that was. aside is empty where nothing was there.
func (m *moves) all(data, stage string, now time.Time) (aside string, err error) {
	for _, name := range state {
		path := filepath.Join(data, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if aside == "" {
			dir := filepath.Join(data, "replaced-"+now.UTC().Format("20060102T150405.000Z"))
			if err := os.Mkdir(dir, 0o700); err != nil {
				return "", err
			}
			aside = dir
		}
		if err := m.move(path, filepath.Join(aside, name)); err != nil {
			return aside, err
		}
	}
	entries, err := os.ReadDir(stage)
	for _, e := range entries {
		if err == nil {
			err = m.move(filepath.Join(stage, e.Name()), filepath.Join(data, e.Name()))
		}
	}
	return aside, err
}
