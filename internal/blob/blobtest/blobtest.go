// Package blobtest says what a blob store promises, as tests that every driver
// passes.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Store is what is promised of [blob.Store].
type Store interface {
	Put(ctx context.Context, key string, r io.Reader, m blob.Meta) (blob.Info, error)
	Create(ctx context.Context, key string, r io.Reader, m blob.Meta) (blob.Info, error)
	Get(ctx context.Context, key string, off, n int64) (blob.Content, blob.Info, error)
	Stat(ctx context.Context, key string) (blob.Info, error)
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix, after string, limit int) ([]blob.Info, error)
	Append(ctx context.Context, key string, offset int64, data []byte) (size int64, err error)
	Replace(ctx context.Context, key string, r io.Reader, w blob.Write) (blob.Info, error)
	Concat(ctx context.Context, key string, pieces []blob.Piece, w blob.Write) (blob.Info, error)
	Amend(ctx context.Context, key string, change func(old blob.Info) (blob.Meta, error)) (blob.Info, error)
	DeleteIf(ctx context.Context, key string, may func(old *blob.Info) error) error
	Extend(ctx context.Context, key string, data []byte, may func(old *blob.Info) error) (blob.Info, error)
}

// Run checks every promise on stores that open makes, empty and each its own.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for name, check := range map[string]func(t *testing.T, s Store){
		"what is put is read back":                        comesBack,
		"ranges are clipped to the blob":                  ranges,
		"hostile names are names like others":             hostileNames,
		"keys that are none are refused":                  badKeys,
		"lists are in byte order, from a place on":        lists,
		"a put that fails leaves what was there":          failedPut,
		"of many creates one succeeds":                    oneCreate,
		"an append goes on at the size, or is told it":    appends,
		"an ETag changes with the content":                etags,
		"a blob that is not there is not found":           notFound,
		"putting and deleting side by side loses nothing": putAndDelete,
		"of many writers of one state one succeeds":       oneWriter,
		"what is said of a blob changes without it":       amends,
		"a blob is made of parts of others":               concats,
		"a sum of the content is kept with it":            sums,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, open(t))
		})
	}
}

func put(t testing.TB, s Store, key, content string) blob.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, strings.NewReader(content), blob.Meta{})
	if err != nil {
		t.Fatalf("Put(%.80q): %v", key, err)
	}
	return info
}

func read(t testing.TB, s Store, key string, off, n int64) string {
	t.Helper()
	r, _, err := s.Get(t.Context(), key, off, n)
	if err != nil {
		t.Errorf("Get(%.80q): %v", key, err)
		return ""
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Errorf("Get(%.80q): %v", key, err)
	}
	return string(data)
}

func comesBack(t *testing.T, s Store) {
	meta := blob.Meta{ContentType: "text/plain", MD5: bytes.Repeat([]byte{7}, 16), Metadata: map[string]string{"k": "v\n\"é"}}
	big := strings.Repeat("0123456789", 300_000)
	for _, content := range []string{"", "x", "\n", "ebb blob 1 {}\n", big} {
		info, err := s.Put(t.Context(), "c/a", strings.NewReader(content), meta)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, s, "c/a", 0, -1); got != content {
			t.Errorf("%d bytes came back as %d", len(content), len(got))
		}
		stat, err := s.Stat(t.Context(), "c/a")
		if err != nil || !reflect.DeepEqual(stat, info) || info.Size != int64(len(content)) || info.Key != "c/a" || !reflect.DeepEqual(stat.Meta, meta) || stat.Modified.IsZero() {
			t.Errorf("Stat = %+v, %v; Put said %+v", stat, err, info)
		}
	}
}

func ranges(t *testing.T, s Store) {
	put(t, s, "c/a", "0123456789")
	for _, tt := range []struct {
		off, n int64
		want   string
	}{{0, -1, "0123456789"}, {0, 3, "012"}, {7, -1, "789"}, {7, 99, "789"}, {10, -1, ""}, {11, 5, ""}, {3, 0, ""}, {9, 1, "9"}} {
		if got := read(t, s, "c/a", tt.off, tt.n); got != tt.want {
			t.Errorf("%d bytes from %d: %q, want %q", tt.n, tt.off, got, tt.want)
		}
	}
}

// hostile are names that a careless driver mixes up, loses, or writes elsewhere.
func hostile() []string {
	names := []string{
		"c/a", "c/a/b", "c/a/b/c", "c/a.b", "c/a.d/b", "c/a/", "c/a//b", "c//", "c//a", "c/ ", "c/.", "c/..", "c/../..", "c/../../etc/passwd", "../c/a", "./a", "../..",
		"c/./a", "c/a/../b", "c//etc/passwd", "c/\x00", "c/a\x00b", "c/a\nb", "c/a\\b", "c/%2F", "c/%2f", "c/%", "c/A", "c/é", "c/e\u0301", "c/\xff\xfe", "c/💾", "c/-rf", "c/~", "c/con", "C/a",
		"c/a-", "c/a0", "c/a b", "c/.b", "c/.d", "c/.c", "c/b", "c/x.c/y", "c/tmp", "tmp/c",
		"c/" + strings.Repeat("/", 253), "c/" + strings.Repeat("../", 100) + "x",
		"c/" + strings.Repeat("💾", 1024), "c/" + strings.Repeat("\x00", 1024), strings.Repeat("\x00", 63) + "/" + strings.Repeat("\x01", 1024),
	}
	for _, n := range []int{79, 80, 81, 159, 160, 161, 240, 255, 256, 1022} { // about where drivers cut
		long := "c/" + strings.Repeat("l", n)
		names = append(names, long, long+"/", long+"-", long+"0", long[:len(long)-1]+"m")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func hostileNames(t *testing.T, s Store) {
	names := hostile()
	for i, key := range names {
		put(t, s, key, fmt.Sprint("content ", i))
	}
	for i, key := range names {
		if got, want := read(t, s, key, 0, -1), fmt.Sprint("content ", i); got != want {
			t.Errorf("%.80q holds %q, want %q", key, got, want)
		}
	}
	list, err := s.List(t.Context(), "", "", len(names)+10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, info := range list {
		got = append(got, info.Key)
	}
	if !slices.Equal(got, names) {
		t.Errorf("List gave %d keys in this order: %.300q; want %d: %.300q", len(got), got, len(names), names)
	}
	for _, key := range names {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%.80q): %v", key, err)
		}
	}
	if list, err := s.List(t.Context(), "", "", 0); err != nil || len(list) != 0 {
		t.Errorf("after deleting all: %d blobs, %v", len(list), err)
	}
}

func badKeys(t *testing.T, s Store) {
	for _, key := range []string{"", "c", "/", "c/", "/a", "c/" + strings.Repeat("é", 1200), strings.Repeat("a/", 100_000), "c/" + strings.Repeat("/", 254)} {
		_, putErr := s.Put(t.Context(), key, strings.NewReader(""), blob.Meta{})
		_, statErr := s.Stat(t.Context(), key)
		_, appendErr := s.Append(t.Context(), key, 0, []byte("x"))
		for _, err := range []error{putErr, statErr, appendErr, s.Delete(t.Context(), key)} {
			if !errors.Is(err, fault.Invalid) {
				t.Errorf("%.20q: %v, want a fault.Invalid", key, err)
			}
		}
	}
}

func lists(t *testing.T, s Store) {
	all := hostile()
	for _, key := range all {
		put(t, s, key, "")
	}
	for _, prefix := range []string{"", "c", "c/", "c/a", "c/a/", "c/l", "c/" + strings.Repeat("l", 79), "c/" + strings.Repeat("l", 80), "c/" + strings.Repeat("l", 200), "c/..", "zzz", "c/a//"} {
		var want []string
		for _, key := range all {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		for _, limit := range []int{1, 2, 7, 1000} {
			var got []string
			for after := ""; ; {
				page, err := s.List(t.Context(), prefix, after, limit)
				if err != nil || len(page) > limit {
					t.Fatalf("List(%q, %q, %d): %d blobs, %v", prefix, after, limit, len(page), err)
				}
				if len(page) == 0 {
					break
				}
				for _, info := range page {
					got = append(got, info.Key)
				}
				after = got[len(got)-1]
			}
			if !slices.Equal(got, want) {
				t.Errorf("List(%q) by %d: %.200q, want %.200q", prefix, limit, got, want)
			}
		}
	}
	if page, err := s.List(t.Context(), "c/", "c/a/bb", 1); err != nil || len(page) != 1 || page[0].Key <= "c/a/bb" {
		t.Errorf("List after a key that is not there: %+v, %v", page, err)
	}
}

type brokenReader struct{ io.Reader }

var errBroken = errors.New("the client went away")

func (r brokenReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		err = errBroken
	}
	return n, err
}

func failedPut(t *testing.T, s Store) {
	before := put(t, s, "c/a", "old")
	for _, key := range []string{"c/a", "c/new"} {
		if _, err := s.Put(t.Context(), key, brokenReader{strings.NewReader("half")}, blob.Meta{}); !errors.Is(err, errBroken) {
			t.Errorf("Put(%s): %v, want the reader's error", key, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, "c/a", strings.NewReader("new"), blob.Meta{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with an ended context: %v", err)
	}
	after, err := s.Stat(t.Context(), "c/a")
	if err != nil || !reflect.DeepEqual(before, after) || read(t, s, "c/a", 0, -1) != "old" {
		t.Errorf("the blob is now %+v, %v", after, err)
	}
	if _, err := s.Stat(t.Context(), "c/new"); !errors.Is(err, fault.NotFound) {
		t.Errorf("half a blob is there: %v", err)
	}
}

func oneCreate(t *testing.T, s Store) {
	var wg sync.WaitGroup
	var made atomic.Int32
	for i := range 16 {
		wg.Go(func() {
			_, err := s.Create(t.Context(), "c/dir/a", strings.NewReader(fmt.Sprint(i)), blob.Meta{})
			if err == nil {
				made.Add(1)
			} else if !errors.Is(err, fault.Conflict) {
				t.Errorf("Create: %v, want a fault.Conflict", err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d creates succeeded", made.Load())
	}
}

func appends(t *testing.T, s Store) {
	want := ""
	for i, part := range []string{"first line\n", "", "second", strings.Repeat("x", 100_000)} {
		for _, wrong := range []int64{int64(len(want)) + 1, int64(len(want)) - 1} {
			if size, err := s.Append(t.Context(), "c/log", wrong, []byte("?")); wrong >= 0 && (!errors.Is(err, fault.Conflict) || size != int64(len(want))) {
				t.Errorf("part %d at %d: %d, %v; want a fault.Conflict and %d", i, wrong, size, err, len(want))
			}
		}
		size, err := s.Append(t.Context(), "c/log", int64(len(want)), []byte(part))
		want += part
		if err != nil || size != int64(len(want)) {
			t.Fatalf("part %d: %d, %v", i, size, err)
		}
		if got := read(t, s, "c/log", 0, -1); got != want {
			t.Fatalf("after part %d it has %d bytes, want %d", i, len(got), len(want))
		}
	}
	// Many at the same place: one writes, the others are told.
	var wg sync.WaitGroup
	var wrote atomic.Int32
	for range 16 {
		wg.Go(func() {
			size, err := s.Append(t.Context(), "c/log", int64(len(want)), []byte("tail"))
			if err == nil {
				wrote.Add(1)
			} else if !errors.Is(err, fault.Conflict) || size != int64(len(want)+4) {
				t.Errorf("Append: %d, %v", size, err)
			}
		})
	}
	wg.Wait()
	if got := read(t, s, "c/log", 0, -1); wrote.Load() != 1 || got != want+"tail" {
		t.Errorf("%d appends wrote, and it has %d bytes, want %d", wrote.Load(), len(got), len(want)+4)
	}
}

func etags(t *testing.T, s Store) {
	seen := map[string]bool{put(t, s, "c/a", "x").ETag: true, put(t, s, "c/a", "x").ETag: true}
	if _, err := s.Append(t.Context(), "c/a", 1, []byte("y")); err != nil {
		t.Fatal(err)
	}
	info, err := s.Stat(t.Context(), "c/a")
	seen[info.ETag] = true
	if err != nil || len(seen) != 3 || seen[""] {
		t.Errorf("three contents, ETags %v, %v", slices.Collect(maps.Keys(seen)), err)
	}
}

func notFound(t *testing.T, s Store) {
	put(t, s, "c/a/b", "")
	for _, key := range []string{"c/a", "c/a/b/c", "c/a/B", "d/a", "c/" + strings.Repeat("l", 500)} {
		_, _, getErr := s.Get(t.Context(), key, 0, -1)
		_, statErr := s.Stat(t.Context(), key)
		for _, err := range []error{getErr, statErr, s.Delete(t.Context(), key)} {
			if !errors.Is(err, fault.NotFound) {
				t.Errorf("%s: %v, want a fault.NotFound", key, err)
			}
		}
	}
}

// Deleting prunes empty folders, perhaps those that a put has just made.
func putAndDelete(t *testing.T, s Store) {
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 15 {
				key := fmt.Sprintf("c/shared/deep/%d-%d", c, i)
				if _, err := s.Put(t.Context(), key, strings.NewReader("x"), blob.Meta{}); err != nil {
					t.Errorf("Put: %v", err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
