package blob_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// bench is a store with some blobs, whose content is their name.
func bench(t *testing.T, keys ...string) *blob.Store {
	t.Helper()
	s, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, key := range keys {
		if _, err := s.Put(t.Context(), key, strings.NewReader(key), blob.Meta{ContentType: "text/plain"}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// all says what is in a store, as "key=content".
func all(t *testing.T, s *blob.Store) string {
	t.Helper()
	list, err := s.List(t.Context(), "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, info := range list {
		r, _, err := s.Get(t.Context(), info.Key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		out = append(out, info.Key+"="+string(body))
	}
	return strings.Join(out, " ")
}

func TestMoveAll(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("l", 200)
	for name, c := range map[string]struct {
		have     []string
		from, to string
		want     string
		bad      error
	}{
		"a folder goes to where nothing is": {
			have: []string{"a/1/x", "a/1/y/z", "a/2"}, from: "a/1/", to: "b/deep/er/",
			want: "a/2=a/2 b/deep/er/x=a/1/x b/deep/er/y/z=a/1/y/z",
		},
		"a folder goes into one that has others, and takes the place of those of the same name": {
			have: []string{"a/x", "a/y/z", "b/out/x", "b/out/y/old"}, from: "a/", to: "b/out/",
			want: "b/out/x=a/x b/out/y/old=b/out/y/old b/out/y/z=a/y/z",
		},
		"a blob of the folder's name stays": {
			have: []string{"a/x", "b/out"}, from: "a/", to: "b/out/",
			want: "b/out=b/out b/out/x=a/x",
		},
		"names longer than a file's": {
			have: []string{"a/" + long + "/x", "b/" + long + "a"}, from: "a/" + long + "/", to: "b/" + long + "/",
			want: "b/" + long + "/x=a/" + long + "/x b/" + long + "a=b/" + long + "a",
		},
		"a whole container": {have: []string{"a/x"}, from: "a/", to: "b/", want: "b/x=a/x"},
		"nothing":           {have: []string{"a/x"}, from: "c/", to: "b/", want: "a/x=a/x"},
		"a name that would be too long leaves all as it was": {
			have: []string{"a/x", "a/" + strings.Repeat("n", 1100)}, from: "a/", to: "b/" + strings.Repeat("m", 90) + "/",
			want: "a/" + strings.Repeat("n", 1100) + "=a/" + strings.Repeat("n", 1100) + " a/x=a/x", bad: fault.Invalid,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bench(t, c.have...)
			for range 2 { // the second finds nothing to do
				if err := s.MoveAll(t.Context(), c.from, c.to); !errors.Is(err, c.bad) {
					t.Errorf("got %v, want %v", err, c.bad)
				}
			}
			if got := all(t, s); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMoveKeepsWhatIsSaid(t *testing.T) {
	t.Parallel()
	s := bench(t, "a/x", "a/y", "b/x", "b/y")
	say := func(key, word string) blob.Info {
		info, err := s.Amend(t.Context(), key, func(blob.Info) (blob.Meta, error) {
			return blob.Meta{Metadata: map[string]string{"said": word}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	x := say("a/x", "of x")
	say("b/x", "of what was there")
	say("b/y", "of what was there")
	y, err := s.Stat(t.Context(), "a/y")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y"} {
		if err := s.Move(t.Context(), "a/"+name, "b/"+name); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]blob.Info{"b/x": x, "b/y": y} {
		got, err := s.Stat(t.Context(), name)
		if err != nil || got.ETag != want.ETag || got.Meta.Metadata["said"] != want.Meta.Metadata["said"] || got.Meta.ContentType != want.Meta.ContentType {
			t.Errorf("%s: %+v, %v; want what %+v says", name, got, err, want)
		}
	}
	if err := s.Move(t.Context(), "a/x", "b/x"); !errors.Is(err, fault.NotFound) {
		t.Errorf("moved twice: %v", err)
	}
	if got := all(t, s); got != "b/x=a/x b/y=a/y" {
		t.Error(got)
	}
}

// TestMovesMeetWrites lets folders go to one place while others write there: no
// blob is lost, whoever comes first.
func TestMovesMeetWrites(t *testing.T) {
	t.Parallel()
	s := bench(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				from := fmt.Sprintf("a/%d/", w)
				for _, name := range []string{"x", "y/z"} {
					if _, err := s.Put(t.Context(), from+name, strings.NewReader("-"), blob.Meta{}); err != nil {
						t.Error(err)
					}
				}
				if err := s.MoveAll(t.Context(), from, fmt.Sprintf("b/%d/", i)+fmt.Sprint(w%2)+"/"); err != nil {
					t.Error(err)
				}
				if _, err := s.Create(t.Context(), fmt.Sprintf("b/%d/%d/of %d", i, w%2, w), strings.NewReader("-"), blob.Meta{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := s.List(t.Context(), "b/", "", 0)
	if want := 20 * 2 * (2 + 2); err != nil || len(list) != want {
		t.Errorf("%d blobs, want %d: %v", len(list), want, err)
	}
}

// A move that a crash broke off is ended by the next one, and what was said of the
// blob goes along.
func TestMoveAfterACrash(t *testing.T) {
	t.Parallel()
	s := bench(t, "c/a", "c/b")
	said := map[string]string{"said": "later"}
	before, err := s.Amend(t.Context(), "c/a", func(blob.Info) (blob.Meta, error) { return blob.Meta{Metadata: said}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.HalfMove("c/a", "c/b"); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Stat(t.Context(), "c/b"); err != nil || b.Meta.Metadata != nil {
		t.Errorf("in between, the blob that is replaced has what is said of the other: %+v, %v", b, err)
	}
	if err := s.Move(t.Context(), "c/a", "c/b"); err != nil {
		t.Fatal(err)
	}
	after, err := s.Stat(t.Context(), "c/b")
	if err != nil || after.ETag != before.ETag || after.Meta.Metadata["said"] != "later" {
		t.Errorf("%+v, %v; want what is said as before: %+v", after, err, before)
	}
}
