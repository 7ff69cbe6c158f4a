package workspaces

import "github.com/ebb-compute/ebb/internal/core/row"

// ListedKinds counts how often each kind is named by what deletes.
func ListedKinds() map[row.Kind]int {
	n := map[row.Kind]int{}
	for _, k := range append(append([]row.Kind{}, within...), outside...) {
		n[k]++
	}
	return n
}
