package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/client"
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
	return fmt.Sprintf("there is no size %s (%s). Near to it are %s; \"ebb size list\" shows all %d.", wrong, e.Code, strings.Join(nearest(wrong, names, 5), ", "), len(names)), true
}

// nearest returns the n names that take the fewest edits to become word.
func nearest(word string, names []string, n int) []string {
	away := make(map[string]int, len(names))
	for _, name := range names {
		away[name] = edits(strings.ToLower(word), strings.ToLower(strings.TrimSpace(name)))
	}
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return away[a] - away[b] })
	return names[:min(n, len(names))]
}

// edits counts the letters to put in, take out or change to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
