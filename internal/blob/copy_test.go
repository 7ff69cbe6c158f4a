package blob_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// copying is a store with blobs c/a and c/b, and a copy of it after one round.
func copying(t *testing.T, limit time.Duration) (*blob.Store, *blob.Copy) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	for _, key := range []string{"c/a", "c/b"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader(key), blob.Meta{}); err != nil {
			t.Fatal(err)
		}
	}
	c := &blob.Copy{From: dir, To: t.TempDir(), Limit: limit}
	if total, err := c.Round(t.Context()); err != nil || total.Files != 2 {
		t.Fatalf("%+v, %v", total, err)
	}
	return s, c
}

// Deletes do not wait for a disk that hangs: a hold ends at its limit, and the copy
// is none.
func TestHoldEndsWhileTheDiskOfTheCopyHangs(t *testing.T) {
	t.Parallel()
	s, c := copying(t, 50*time.Millisecond)
	// What takes no bytes is a pipe that nobody reads, in place of a copy.
	pipe := filepath.Join(c.To, strings.TrimPrefix(fileOf(t, c.From), c.From))
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"c/a", "c/b"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("new"), blob.Meta{}); err != nil {
			t.Fatal(err)
		}
	}
	held, release, err := c.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	round := make(chan error, 1)
	go func() {
		_, err := c.Round(held)
		round <- err
	}()
	if err := errors.Join(s.Delete(t.Context(), "c/a"), s.Move(t.Context(), "c/b", "c/a")); err != nil {
		t.Error(err)
	}
	end, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0) // now it takes some
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = end.Close() }()
	<-round
	if err := release(); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), c.To) {
		t.Errorf("the backup goes on: %v", err)
	}
}

// A backup that was stopped in its tracks does not let go: what waits for it is told
// so, and what comes when it has ended is done.
func TestDeletesDoNotWaitForEver(t *testing.T) {
	t.Parallel()
	s, c := copying(t, time.Hour)
	_, release, err := c.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Patience(20 * time.Millisecond)
	done := make(chan error, 20)
	for i := range cap(done) {
		go func() {
			if i%2 == 0 {
				done <- s.Delete(context.Background(), "c/a")
			} else {
				done <- s.Move(context.Background(), "c/a", "c/c")
			}
		}()
	}
	for range cap(done) {
		if err := <-done; fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "backup") {
			t.Errorf("got %v", err)
		}
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "c/a"); err != nil {
		t.Error(err)
	}
}

// Only a file that is gone is gone: one that cannot be read ends the copy.
func TestAFileThatCannotBeReadIsNotDeleted(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{"one that the walk sees": "blobs/c.d/x.b", "one that it missed": "missed/x.b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := copying(t, 0)
			link := filepath.Join(c.From, at) // to itself: no open succeeds
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o700), os.Symlink(link, link)); err != nil {
				t.Fatal(err)
			}
			c.Had(at)
			if total, err := c.Round(t.Context()); err == nil || !strings.Contains(err.Error(), at) {
				t.Errorf("the copy is whole, of %+v: %v", total, err)
			}
		})
	}
}

func TestSumsOfACopy(t *testing.T) {
	t.Parallel()
	s, c := copying(t, 0)
	if _, err := s.Append(t.Context(), "c/a", 3, []byte(" more")); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "c/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for rel, sum := range c.Sums() {
		n++
		text, err := os.ReadFile(filepath.Join(c.To, rel))
		if err != nil || sha256.Sum256(text) != sum || !strings.HasSuffix(string(text), "c/a more") {
			t.Errorf("%s is %q, %v", rel, text, err)
		}
	}
	if n != 1 {
		t.Errorf("%d sums, want that of the one blob that is left", n)
	}
}
