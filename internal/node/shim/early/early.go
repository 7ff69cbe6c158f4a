// Package early makes "ebb shim" and "ebb rank" begin before the rest of the binary
// is initialised: a machine starts one for every job and rank, and what the server
// and the command line prepare at their start (tables of SQLite, of terminals, of
// errors) costs more than all that a shim does. Packages are initialised in the order of
// their import paths, dependencies first; this one depends on node/shim alone,
// and so comes before most, as long as node/shim imports nothing late (as
// path/filepath). It is right wherever it comes: only the time differs.
//
// cmd/ebb imports it for its effect. Everything else starts at main.
package early

import (
	"os"

	"github.com/ebb-compute/ebb/internal/node/inside"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

func init() {
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case "shim":
		os.Exit(shim.Main(os.Args[2:]))
	case "rank":
		os.Exit(rank.Main())
	case "inside":
		os.Exit(inside.Main())
	}
}
