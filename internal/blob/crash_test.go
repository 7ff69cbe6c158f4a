package blob_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// A process of this test's own is told by these what to do in place of its tests.
const (
	writerDir = "EBB_TEST_WRITE" // write blobs into this folder until killed
	fullDir   = "EBB_TEST_FULL"  // fill the disk at this folder
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(writerDir) != "":
		writeForever(os.Getenv(writerDir))
	case os.Getenv(fullDir) != "":
		fillDisk(os.Getenv(fullDir))
	}
	os.Exit(m.Run())
}

var bg = context.Background()

// content of a blob says whose it is, at its beginning and its end.
func content(key string, n int) []byte {
	return fmt.Appendf(nil, "<%s %d %s>", key, n, strings.Repeat("x", n))
}

// writeForever puts, replaces, amends and concatenates, and says what it has done.
func writeForever(dir string) {
	s, err := blob.Open(dir)
	check(err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("c/%d/%d", w, i%5)
				n := rand.IntN(600 << 10)
				body := content(key, n)
				// The room for MD5 at its beginning is filled last, of large ones.
				_, err := s.Replace(bg, key, bytes.NewReader(body), blob.Write{Sum: func() []byte { return make([]byte, 16) }})
				check(err)
				whole, err := s.Concat(bg, key+"/copy", []blob.Piece{{Key: key, N: int64(len(body))}}, blob.Write{})
				check(err)
				_, err = s.Amend(bg, key+"/copy", func(old blob.Info) (blob.Meta, error) {
					return blob.Meta{Metadata: map[string]string{"of": old.ETag}}, nil
				})
				check(err)
				mu.Lock()
				fmt.Println(key, n, whole.ETag)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// TestNothingIsHalfAfterAKill kills a process that writes, again and again: each
// blob is there whole, and none that was acknowledged is older than what was said.
func TestNothingIsHalfAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 10 {
		last := killed(t, dir, 1+rand.IntN(60))
		s, err := blob.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.List(t.Context(), "", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range list {
			key := strings.TrimSuffix(info.Key, "/copy")
			r, info, err := s.Get(t.Context(), info.Key, 0, -1)
			if err != nil {
				t.Fatalf("round %d: %s: %v", round, key, err)
			}
			got, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			n := len(got) - len(content(key, 0)) // less the digits of its length
			for n > 0 && len(content(key, n)) > len(got) {
				n--
			}
			if !bytes.Equal(got, content(key, n)) {
				t.Errorf("round %d: %s has %d bytes that were never written so: %.60q … %.20q", round, info.Key, len(got), got, got[max(0, len(got)-20):])
			}
			delete(last, info.Key)
		}
		for key := range last {
			t.Errorf("round %d: %s was acknowledged and is gone", round, key)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killed runs a writer until it has acknowledged so many rounds, and returns the keys
// that it said are there.
func killed(t *testing.T, dir string, lines int) map[string]bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	scan := bufio.NewScanner(out)
	for lines > 0 && scan.Scan() {
		key, _, _ := strings.Cut(scan.Text(), " ")
		said[key], said[key+"/copy"] = true, true
		lines--
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if lines > 0 {
		t.Fatalf("the writer ended by itself: %s", stderr.String())
	}
	return said
}

// TestAFullDiskTakesNothingAndGivesEverything runs on a small disk of its own.
func TestAFullDiskTakesNothingAndGivesEverything(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fullDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() == 4) {
		t.Skipf("no mounting here: %v %s", err, out)
	}
	if err != nil || !bytes.Contains(out, []byte("survived")) {
		t.Errorf("%v: %s", err, out)
	}
}

// fillDisk writes until nothing fits, and looks what is left.
func fillDisk(dir string) {
	for _, err := range []error{
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"),
	} {
		if err != nil {
			fmt.Println(err)
			os.Exit(4)
		}
	}
	s, err := blob.Open(dir)
	check(err)
	_, err = s.Put(bg, "c/first", bytes.NewReader(content("c/first", 1<<20)), blob.Meta{})
	check(err)
	_, err = s.Append(bg, "c/log", 0, []byte("line 1\n"))
	check(err)
	var refused error
	var fit []string
	for i := 0; refused == nil; i++ {
		key := fmt.Sprintf("c/%d", i)
		if _, refused = s.Put(bg, key, bytes.NewReader(content(key, 700<<10)), blob.Meta{}); refused == nil {
			fit = append(fit, key)
		}
	}
	need(errors.Is(refused, fault.Unavailable), "put: %v", refused)
	_, refused = s.Put(bg, "c/first", bytes.NewReader(content("c/first", 2<<20)), blob.Meta{})
	need(errors.Is(refused, fault.Unavailable), "replace: %v", refused)
	_, refused = s.Concat(bg, "c/all", []blob.Piece{{Key: "c/first", N: 1 << 20}}, blob.Write{})
	need(errors.Is(refused, fault.Unavailable), "concatenate: %v", refused)
	_, refused = s.Append(bg, "c/log", 7, make([]byte, 2<<20))
	need(errors.Is(refused, fault.Unavailable), "append: %v", refused)
	for _, key := range append(fit, "c/first") {
		r, info, err := s.Get(bg, key, 0, -1)
		check(err)
		got, err := io.ReadAll(r)
		check(errors.Join(err, r.Close()))
		need(int64(len(got)) == info.Size && bytes.HasPrefix(got, []byte("<"+key)) && got[len(got)-1] == '>', "%s is not whole: %d bytes", key, len(got))
	}
	list, err := s.List(bg, "", "", 0)
	check(err)
	need(len(list) == len(fit)+2, "%d blobs, want %d", len(list), len(fit)+2)
	left, err := os.ReadDir(dir + "/tmp")
	check(err)
	need(len(left) == 0, "%d half files are left", len(left))
	check(s.Delete(bg, fit[0]))
	_, err = s.Put(bg, "c/after", bytes.NewReader(content("c/after", 500<<10)), blob.Meta{})
	check(err)
	size, err := s.Append(bg, "c/log", 7, []byte("line 2\n"))
	check(err)
	need(size == 14, "the log has %d bytes", size)
	fmt.Println("survived")
	os.Exit(0)
}

func need(ok bool, format string, args ...any) {
	if !ok {
		fmt.Printf(format+"\n", args...)
		os.Exit(3)
	}
}
