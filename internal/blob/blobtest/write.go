package blobtest

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

var errNot = errors.New("not this one")

// only is a condition: the blob must be in that state.
func only(etag string) func(old *blob.Info) error {
	return func(old *blob.Info) error {
		if old == nil || old.ETag != etag {
			return errNot
		}
		return nil
	}
}

// oneWriter counts with a blob as clients do: read, add one, write if it is still
// the one that was read. No count may get lost.
func oneWriter(t *testing.T, s Store) {
	const writers, rounds = 8, 10
	put(t, s, "c/n", "0")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				r, info, err := s.Get(t.Context(), "c/n", 0, -1)
				if err != nil {
					t.Error(err)
					return
				}
				var n int
				_, err = fmt.Fscan(r, &n)
				if err := errors.Join(err, r.Close()); err != nil {
					t.Error(err)
					return
				}
				_, err = s.Replace(t.Context(), "c/n", strings.NewReader(fmt.Sprint(n+1)), blob.Write{May: only(info.ETag)})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, errNot):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := read(t, s, "c/n", 0, -1); got != fmt.Sprint(writers*rounds) {
		t.Errorf("counted to %s, want %d", got, writers*rounds)
	}
	info, err := s.Stat(t.Context(), "c/n")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteIf(t.Context(), "c/n", only("another")); !errors.Is(err, errNot) {
		t.Errorf("DeleteIf of another state: %v", err)
	}
	if err := s.DeleteIf(t.Context(), "c/n", only(info.ETag)); err != nil {
		t.Errorf("DeleteIf: %v", err)
	}
	if err := s.DeleteIf(t.Context(), "c/n", only(info.ETag)); !errors.Is(err, fault.NotFound) {
		t.Errorf("DeleteIf of nothing: %v", err)
	}
}

func amends(t *testing.T, s Store) {
	before := put(t, s, "c/a", "content")
	change := func(v string) func(blob.Info) (blob.Meta, error) {
		return func(old blob.Info) (blob.Meta, error) {
			m := old.Meta
			m.Metadata = map[string]string{"k": v}
			return m, nil
		}
	}
	for _, v := range []string{"1", "2"} {
		after, err := s.Amend(t.Context(), "c/a", change(v))
		if err != nil || after.Meta.Metadata["k"] != v || after.ETag == before.ETag || after.Written != before.Written || after.Size != before.Size {
			t.Fatalf("Amend: %+v, %v; it was %+v", after, err, before)
		}
		if stat, err := s.Stat(t.Context(), "c/a"); err != nil || stat.ETag != after.ETag || stat.Meta.Metadata["k"] != v {
			t.Errorf("Stat: %+v, %v; want %+v", stat, err, after)
		}
	}
	if got := read(t, s, "c/a", 0, -1); got != "content" {
		t.Errorf("the content is now %q", got)
	}
	if _, err := s.Amend(t.Context(), "c/a", func(blob.Info) (blob.Meta, error) { return blob.Meta{}, errNot }); !errors.Is(err, errNot) {
		t.Errorf("Amend that is refused: %v", err)
	}
	if _, err := s.Amend(t.Context(), "c/none", change("1")); !errors.Is(err, fault.NotFound) {
		t.Errorf("Amend of nothing: %v", err)
	}
	if size, err := s.Append(t.Context(), "c/a", 7, []byte("!")); err != nil || size != 8 {
		t.Errorf("Append: %d, %v", size, err)
	}
	if stat, err := s.Stat(t.Context(), "c/a"); err != nil || stat.Size != 8 || stat.Meta.Metadata["k"] != "2" {
		t.Errorf("after Append: %+v, %v", stat, err)
	}
	// A new blob of the name has nothing of the old one's.
	if now := put(t, s, "c/a", "content"); now.Meta.Metadata != nil {
		t.Errorf("Put after Amend: %+v", now)
	}
	if stat, err := s.Stat(t.Context(), "c/a"); err != nil || stat.Meta.Metadata != nil {
		t.Errorf("Stat after Put: %+v, %v", stat, err)
	}
	if list, err := s.List(t.Context(), "c/", "", 0); err != nil || len(list) != 1 {
		t.Errorf("List: %+v, %v", list, err)
	}
	if err := s.Delete(t.Context(), "c/a"); err != nil {
		t.Error(err)
	}
	if now := put(t, s, "c/a", "x"); now.Meta.Metadata != nil {
		t.Errorf("Put after Delete: %+v", now)
	}
}

func concats(t *testing.T, s Store) {
	a, big := put(t, s, "c/a", "0123456789"), put(t, s, "c/big", strings.Repeat("b", 1<<20))
	info, err := s.Concat(t.Context(), "c/whole", []blob.Piece{{Key: "c/a", Off: 2, N: 3, ETag: a.ETag}, {Key: "c/big", N: big.Size}, {Key: "c/a", Off: 9, N: 1}}, blob.Write{Meta: blob.Meta{ContentType: "t"}})
	if err != nil || info.Size != 3+1<<20+1 || info.Meta.ContentType != "t" {
		t.Fatalf("Concat: %+v, %v", info, err)
	}
	if got := read(t, s, "c/whole", 0, -1); got != "234"+strings.Repeat("b", 1<<20)+"9" {
		t.Errorf("%d bytes: %.20q", len(got), got)
	}
	for name, p := range map[string]blob.Piece{"of nothing": {Key: "c/none", N: 1}, "beyond the end": {Key: "c/a", Off: 9, N: 2}, "of another state": {Key: "c/a", N: 1, ETag: "x"}} {
		if _, err := s.Concat(t.Context(), "c/whole", []blob.Piece{p}, blob.Write{}); !errors.Is(err, fault.Conflict) {
			t.Errorf("a piece %s: %v", name, err)
		}
	}
	if got, err := s.Stat(t.Context(), "c/whole"); err != nil || got.ETag != info.ETag {
		t.Errorf("what failed changed it: %+v, %v", got, err)
	}
	// Its own parts, in another order.
	if _, err := s.Concat(t.Context(), "c/a", []blob.Piece{{Key: "c/a", Off: 5, N: 5}, {Key: "c/a", N: 5}}, blob.Write{May: only(a.ETag)}); err != nil || read(t, s, "c/a", 0, -1) != "5678901234" {
		t.Errorf("of itself: %v", err)
	}
}

func sums(t *testing.T, s Store) {
	for _, size := range []int{0, 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 3 << 20} {
		content := bytes.Repeat([]byte("s"), size)
		h := md5.New()
		put := func() (blob.Info, error) {
			h.Reset()
			return s.Replace(t.Context(), "c/a", io.TeeReader(bytes.NewReader(content), h), blob.Write{Sum: func() []byte { return h.Sum(nil) }})
		}
		info, err := put()
		want := md5.Sum(content)
		if err != nil || !bytes.Equal(info.Meta.MD5, want[:]) || info.Size != int64(size) {
			t.Fatalf("%d bytes: %+v, %v", size, info, err)
		}
		if stat, err := s.Stat(t.Context(), "c/a"); err != nil || !bytes.Equal(stat.Meta.MD5, want[:]) || stat.ETag != info.ETag {
			t.Errorf("%d bytes: Stat %+v, %v", size, stat, err)
		}
		if got := read(t, s, "c/a", 0, -1); got != string(content) {
			t.Errorf("%d bytes came back as %d", size, len(got))
		}
	}
	for _, bad := range []int{10, 400 << 10} { // within the first buffer, and behind it
		r := io.MultiReader(bytes.NewReader(make([]byte, bad)), failing{})
		if _, err := s.Replace(t.Context(), "c/a", r, blob.Write{}); !errors.Is(err, errNot) {
			t.Errorf("a reader that fails after %d bytes: %v", bad, err)
		}
	}
	if info, err := s.Stat(t.Context(), "c/a"); err != nil || info.Size != 3<<20 {
		t.Errorf("what failed changed it: %+v, %v", info, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errNot }
