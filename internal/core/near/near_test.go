package near_test

import (
	"slices"
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
