package near_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/core/near"
)

func TestMeant(t *testing.T) {
	t.Parallel()
	names := []string{"command", "compute", "code", "environment"}
	for word, want := range map[string]string{
		"comand": "command", "cmopute": "compute", "CODE": "code", "enviroment": "environment", "zebra": "", "co": "", "": "", "e": "",
	} {
		if got, _ := near.Meant(word, names); got != want {
			t.Errorf("Meant(%q) = %q, want %q", word, got, want)
		}
	}
	if _, ok := near.Meant("x", nil); ok {
		t.Error("something is meant where there is nothing")
	}
	if got := near.Names("compute", names, 2); !slices.Equal(got, []string{"compute", "command"}) {
		t.Errorf("Names: %v", got)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("name%02d", i))
	}
	for name, c := range map[string]struct {
		word  string
		names []string
		want  string
	}{
		"the nearest comes first":       {"modell", []string{"default", "model"}, "model, default"},
		"case does not count":           {"CPU", []string{"gpu", "cpu"}, "cpu, gpu"},
		"equally near keep their order": {"x", []string{"b", "a"}, "b, a"},
		"of nothing":                    {"x", nil, "none"},
		"of many, the rest is counted":  {"name19", many, "name19, name09, name10, name11, name12, name13, name14, name15 and 12 more"},
		"a word beyond all measure":     {strings.Repeat("x", 1<<20), []string{"a", "b"}, "a, b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := near.List(c.word, c.names); got != c.want {
				t.Errorf("List(%.20q, %v) = %q, want %q", c.word, c.names, got, c.want)
			}
		})
	}
}

// What somebody sent is cut once, and in no letter's middle.
func TestCut(t *testing.T) {
	t.Parallel()
	for name, word := range map[string]string{
		"a short one is whole":   "É",
		"letters of two bytes":   strings.Repeat("É", 1000),
		"the same, moved by one": "x" + strings.Repeat("É", 1000),
		"letters of four bytes":  "xx" + strings.Repeat("🐚", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if cut := near.Cut(word); !strings.HasPrefix(word, cut) || !utf8.ValidString(cut) || len(cut) > 260 || len(cut) < min(len(word), 256) {
				t.Errorf("Cut leaves %d bytes: %q", len(cut), cut)
			}
		})
	}
	if got := len(near.Cut(strings.Repeat("\x80", 300))); got > 260 || got < 250 {
		t.Errorf("Cut leaves %d bytes of what is no text", got)
	}
}

// A megabyte for a name costs one look at it, and not one for every name there is.
// It is alone (not parallel): what it counts is the whole process's.
func TestLongWordIsCopiedForNoName(t *testing.T) {
	names := make([]string, 200)
	for i := range names {
		names[i] = fmt.Sprintf("name%d", i)
	}
	huge := strings.Repeat("É", 1<<19)
	for what, f := range map[string]func(){
		"Names": func() { near.Names(huge, names, 1) },
		"Meant": func() { near.Meant(huge, names) },
		"List":  func() { near.List(huge, names) },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(len(huge)) {
			t.Errorf("%s of a word of %d bytes among %d names makes %d bytes", what, len(huge), len(names), got)
		}
	}
}
