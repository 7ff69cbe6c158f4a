// Package near finds which name somebody meant who wrote another. The server and
// the command line both ask it.
package near

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// longest is how many bytes of a name are compared: none is longer, and comparing
// costs their product.
const longest = 260

// shown is how many names a message gives.
const shown = 8

// List is a list of names for a message, the nearest to word first, with how many
// more there are; "none" of none.
func List(word string, names []string) string {
	if len(names) == 0 {
		return "none"
	}
	list := strings.Join(Names(word, names, shown), ", ")
	if more := len(names) - shown; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// Names returns the n names that take the fewest edits to become word.
func Names(word string, names []string, n int) []string {
	word = strings.ToLower(Cut(word))
	away := make(map[string]int, len(names))
	for _, name := range names {
		away[name] = Edits(word, strings.ToLower(Cut(strings.TrimSpace(name))))
	}
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return away[a] - away[b] })
	return names[:min(n, len(names))]
}

// Meant returns the one name that word is a slip of, if there is one: two letters
// that changed places are two edits, and more than a third wrong is no slip.
func Meant(word string, names []string) (string, bool) {
	word = Cut(word)
	most := max(2, len(word)/3)
	if len(word) < 4 {
		most = 1
	}
	best := Names(word, names, 1)
	if len(best) == 0 || Edits(strings.ToLower(word), strings.ToLower(best[0])) > most {
		return "", false
	}
	return best[0], true
}

// Cut returns as much of a word as is compared: somebody may have sent a megabyte,
// and all that is done to it is done once for every name.
func Cut(word string) string {
	if len(word) <= longest {
		return word
	}
	end := longest
	for end > longest-utf8.UTFMax && !utf8.RuneStart(word[end]) {
		end--
	}
	return word[:end]
}

// Edits counts the letters to put in, take out or change to make b of a.
func Edits(a, b string) int {
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
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
