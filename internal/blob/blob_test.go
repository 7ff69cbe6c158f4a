package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/blob/blobtest"
	"github.com/ebb-compute/ebb/internal/fault"
)

func open(t testing.TB, dir string) *blob.Store {
	t.Helper()
	s, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t *testing.T) blobtest.Store { return open(t, t.TempDir()) })
}

func mustPut(t testing.TB, s *blob.Store, key string, content []byte) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, bytes.NewReader(content), blob.Meta{}); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsWrittenOutsideTheFolder(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	dir := filepath.Join(above, "blobs")
	s := open(t, dir)
	for _, key := range []string{"../a", "c/../../../a", "c//a", "c/..", "../../" + above + "/a"} {
		mustPut(t, s, key, nil)
	}
	if err := os.Symlink(above, filepath.Join(dir, "blobs", "link.d")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "link/a", strings.NewReader(""), blob.Meta{}); err == nil {
		t.Error("a link led out of the folder")
	}
	entries, err := os.ReadDir(above)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the folder there are %v, %v", entries, err)
	}
}

func TestWhatACrashLeftIsTidied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	mustPut(t, s, "c/a", []byte("kept"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp", "half"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if info, err := s.Stat(t.Context(), "c/a"); err != nil || info.Size != 4 {
		t.Errorf("Stat after reopening: %+v, %v", info, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestADamagedFileIsRefusedByName(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty": "", "no header": "something else\n", "torn header": `ebb blob 1 {"stamp":"ab`, "no JSON": "ebb blob 1 }{\n", "long line": strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			mustPut(t, s, "c/a", []byte("x"))
			err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				return os.WriteFile(path, []byte(content), 0o600)
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Stat(t.Context(), "c/a"); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("Stat: %v, want a fault.Unavailable that says damaged", err)
			}
		})
	}
}

func BenchmarkPut64KB(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := open(b, b.TempDir())
			data := bytes.Repeat([]byte("x"), 64<<10)
			b.SetBytes(int64(len(data)))
			var wg sync.WaitGroup
			next := make(chan int)
			for range callers {
				wg.Go(func() {
					for i := range next {
						mustPut(b, s, fmt.Sprintf("c/dir%d/%d", i%10, i), data)
					}
				})
			}
			for i := range b.N {
				next <- i
			}
			close(next)
			wg.Wait()
		})
	}
}

func BenchmarkGet64KB(b *testing.B) {
	s := open(b, b.TempDir())
	data := bytes.Repeat([]byte("x"), 64<<10)
	mustPut(b, s, "c/a", data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, _, err := s.Get(b.Context(), "c/a", 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		var sink bytes.Buffer
		if _, err := sink.ReadFrom(r); err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}

func TestListWhileFoldersComeAndGo(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var all sync.WaitGroup
	for n := range 2 {
		all.Go(func() {
			for range 80 {
				key := fmt.Sprintf("c/deep/down/%d", n)
				if _, err := s.Put(t.Context(), key, strings.NewReader("x"), blob.Meta{}); err != nil {
					t.Error(err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
			if _, err := s.List(t.Context(), "c/deep/", "", 0); err != nil {
				t.Error(err)
			}
		}
	}
}

// An append writes over the tail alone: what else a header says, whoever wrote it,
// stays byte for byte.
func TestAppendLeavesTheHeader(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(line string) string{
		"text that is no UTF-8":         func(l string) string { return strings.Replace(l, "XXX", "f\xe9e", 1) },
		"an escape that we do not make": func(l string) string { return strings.Replace(l, "XXX", `\u00e9`, 1) },
		"a field of a later version":    func(l string) string { return strings.Replace(l, `,"stamp"`, `,"later":{"a":1},"stamp"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, err := blob.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if _, err := s.Put(t.Context(), "c/a", strings.NewReader("one"), blob.Meta{Metadata: map[string]string{"said": "XXX", "name": "caf\xe9"}}); err != nil {
				t.Fatal(err)
			}
			path := fileOf(t, dir)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(text), "\n")
			want := change(head)
			if want == head {
				t.Fatal("nothing was changed")
			}
			if err := os.WriteFile(path, []byte(want+"\none"), 0o600); err != nil {
				t.Fatal(err)
			}
			for i, more := range []string{" two", " three"} {
				if _, err := s.Append(t.Context(), "c/a", int64(3+4*i), []byte(more)); err != nil {
					t.Fatal(err)
				}
			}
			if text, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			got, content, _ := strings.Cut(string(text), "\n")
			const upTo = len(`ebb blob 1 {"tail":"`) + 12 + 1 + 16 + 1 + 16 + 1 + 8 // the tail's end
			if got[upTo:] != want[upTo:] || content != "one two three" {
				t.Errorf("the file has\n%s\n%s, want what follows the tail to be\n%s", got, content, want[upTo:])
			}
			if info, err := s.Stat(t.Context(), "c/a"); err != nil || info.Size != 13 {
				t.Errorf("%+v, %v", info, err)
			}
		})
	}
}

// fileOf is the file of a store's only blob.
func fileOf(t *testing.T, dir string) (path string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			path = p
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("no blob in %s: %v", dir, err)
	}
	return path
}
