package queue_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

var refs = map[string]string{"inputs.lr": "0.1", "inputs.evil": "${{inputs.lr}} $[[x]]", "outputs.m": "/m", "inputs.empty": ""}

func get(ref string) (string, bool) { v, ok := refs[ref]; return v, ok }

func TestFill(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ text, want string }{
		"no reference":                     {"echo $HOME ${X} $(ls) $", "echo $HOME ${X} $(ls) $"},
		"a reference":                      {"--lr ${{inputs.lr}}.", "--lr 0.1."},
		"with spaces":                      {"${{ inputs.lr }}${{outputs.m }}", "0.1/m"},
		"a value is not looked into":       {"${{inputs.evil}}", "${{inputs.lr}} $[[x]]"},
		"an empty value":                   {"a${{inputs.empty}}b", "ab"},
		"a block whose input is there":     {"x $[[--lr ${{inputs.lr}}]] y", "x --lr 0.1 y"},
		"a block whose input is not there": {"x $[[--no ${{inputs.no}}]] y", "x  y"},
		"a block goes whole or not at all": {"$[[${{inputs.lr}} ${{inputs.no}}]]z", "z"},
		"a block without a reference":      {"$[[always]]", "always"},
		"braces that do not close":         {"a ${{inputs.lr", "a ${{inputs.lr"},
		"brackets that do not close":       {"a $[[b ${{inputs.lr}}", "a $[[b ${{inputs.lr}}"},
		"a shell's own":                    {"if [[ $A ]]; then echo $$; fi", "if [[ $A ]]; then echo $$; fi"},
		"dollars before a reference":       {"$$${{inputs.lr}}", "$$0.1"},
	} {
		if got, err := queue.Fill(c.text, get); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", what, got, err, c.want)
		}
	}
	for _, text := range []string{"${{inputs.no}}", "${{}}", "${{search_space.lr}}", "x ${{inputs.lr}} ${{inputs.no}}"} {
		if got, err := queue.Fill(text, get); err == nil || !strings.Contains(text, err.Error()) {
			t.Errorf("%s: %q, %v, want an error that names it", text, got, err)
		}
	}
}

// checkFill is what must hold for any text: it ends, and without a dollar sign
// nothing changes.
func checkFill(t *testing.T, text string) {
	t.Helper()
	got, err := queue.Fill(text, get)
	if err == nil && !strings.Contains(text, "$") && got != text {
		t.Errorf("%q became %q", text, got)
	}
	if err != nil && !strings.Contains(text, err.Error()) {
		t.Errorf("%q: the error %q names nothing that is in it", text, err)
	}
}

func TestFillTakesAnything(t *testing.T) {
	t.Parallel()
	words := []string{"$", "{{", "${{", "}}", "$[[", "]]", "inputs.lr", "inputs.no", "inputs.evil", " ", "x", "ü", "\xff", "\x00"}
	r := rand.New(rand.NewPCG(4, 20))
	for range 5000 {
		var b strings.Builder
		for range r.IntN(16) {
			b.WriteString(words[r.IntN(len(words))])
		}
		checkFill(t, b.String())
	}
}

func FuzzFill(f *testing.F) {
	for _, s := range []string{"--lr ${{inputs.lr}} $[[--no ${{inputs.no}}]]", "${{ inputs.lr", "$[[${{inputs.lr}}"} {
		f.Add(s)
	}
	f.Fuzz(checkFill)
}
