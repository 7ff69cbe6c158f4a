package backup_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ebb-compute/ebb/internal/backup"
	"github.com/ebb-compute/ebb/internal/fault"
)

// What is no folder of the data's own is named before anything is moved.
func TestRestoreRefusesLinks(t *testing.T) {
	t.Parallel()
	data, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "blobs")
	open(t, data).close()
	from := make1(t, data)
	blobs := filepath.Join(data, "blobs")
	if err := errors.Join(os.Rename(blobs, elsewhere), os.Symlink(elsewhere, blobs)); err != nil {
		t.Fatal(err)
	}
	was := tree(t, data)
	_, err := backup.Restore(t.Context(), from, data, true, noon, quiet)
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), blobs+" is a symbolic link") {
		t.Errorf("got %v", err)
	}
	if is := tree(t, data); is != was {
		t.Errorf("it is\n%s\nand was\n%s", is, was)
	}
	if err := backup.Check(data); err != nil {
		t.Error(err)
	}
}

// A mount can be made by root alone, in a world of a thread's own.
func TestRestoreRefusesMounts(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	data := t.TempDir()
	open(t, data).close()
	from := make1(t, data)
	blobs := filepath.Join(data, "blobs")
	apart(t, func() error {
		if err := syscall.Mount(blobs, blobs, "", syscall.MS_BIND, ""); err != nil { // of the same device, too
			return fmt.Errorf("mount: %w", err)
		}
		_, err := backup.Restore(t.Context(), from, data, true, noon, quiet)
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), blobs+" is a mount point") {
			t.Errorf("got %v", err)
		}
		return backup.Check(data)
	})
}

// Whichever rename fails, what was there is there again, and a server may start.
func TestSwapIsUndone(t *testing.T) {
	t.Parallel()
	for fail := range 5 {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("rename %d, after one that was cut short: %v", fail, cut), func(t *testing.T) {
				t.Parallel()
				data := t.TempDir()
				stage := filepath.Join(data, ".restore-1")
				files := map[string]string{"ebb.db": "old", "blobs/a": "old", "keys": "old", ".restore-1/ebb.db": "new", ".restore-1/blobs/a": "new"}
				if cut {
					files["restoring"] = "7"
				}
				for name, text := range files {
					path := filepath.Join(data, name)
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
						t.Fatal(err)
					}
				}
				was := strings.Replace(tree(t, data), "restoring=7", "restoring=8", 1)
				n := 0
				_, err := backup.Swap(data, stage, 8, noon, func(from, to string) error {
					if n++; n == fail+1 {
						return syscall.EBUSY
					}
					return os.Rename(from, to)
				})
				if !errors.Is(err, syscall.EBUSY) {
					t.Errorf("got %v", err)
				}
				if is := tree(t, data); is != was {
					t.Errorf("it is\n%s\nand was\n%s", is, was)
				}
			})
		}
	}
}

// tree says what is in a folder, as "path=content".
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		text := ""
		if d.Type().IsRegular() && rel != "lock" {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(b)
		}
		out = append(out, rel+"="+text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

// apart runs do on a thread whose mounts nobody else sees, and which ends with it.
func apart(t *testing.T, do func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: nobody else gets this thread
		err := syscall.Unshare(syscall.CLONE_NEWNS)
		if err == nil {
			err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
		}
		if err != nil {
			ended <- errApart
			return
		}
		ended <- do()
	}()
	switch err := <-ended; {
	case errors.Is(err, errApart):
		t.Skip("no mounts of one's own are allowed here")
	case err != nil:
		t.Error(err)
	}
}

var errApart = errors.New("no namespace of mounts")
