package cli

import (
	"fmt"
	"iter"
	"strings"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/core/near"
)

// shortened is an error whose details list more names than anybody reads, as
// that of an unknown size does: the nearest ones, and where all of them are.
func shortened(e *client.Error) (string, bool) {
	_, after, ok := strings.Cut(e.Message, "specified value ")
	if !ok || len(e.Details) != 1 {
		return "", false
	}
	names := strings.Split(e.Details[0].Message, ",")
	if len(names) < 20 {
		return "", false
	}
	wrong, _, _ := strings.Cut(after, " ")
	return fmt.Sprintf("there is no size %s (%s). Near to it are %s; \"ebb size list\" shows all %d.", wrong, e.Code, strings.Join(near.Names(wrong, names, 5), ", "), len(names)), true
}

// namesOf gathers the names of what there is; most, unless 0, is where it stops:
// nobody chooses from thousands.
func namesOf[T any](seq iter.Seq2[T, error], most int, name func(T) string) ([]string, error) {
	var names []string
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		if names = append(names, name(v)); len(names) == most {
			break
		}
	}
	return names, nil
}

// noneNamed is the error for a name that nothing has, with those that there are,
// the nearest first; otherwise is what to do where there are none.
func noneNamed(what, name string, names []string, otherwise string) error {
	const few = 10
	if len(names) == 0 {
		return notFound{fmt.Errorf("no %s named %s; there is none yet%s", what, name, otherwise)}
	}
	list := strings.Join(near.Names(name, names, few), ", ")
	if len(names) > few {
		list += fmt.Sprintf(" and %d more", len(names)-few)
	}
	return notFound{fmt.Errorf("no %s named %s; there are: %s", what, name, list)}
}
