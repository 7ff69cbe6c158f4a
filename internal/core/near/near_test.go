package near_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

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
