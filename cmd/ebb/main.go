// Command ebb is all of Ebb: the server, the node agent, the shim that holds an
// attempt, and the command line. It wires; it decides nothing.
//
// Start at [serve] for the server. node and contain, and launch and rsh, which run
// inside jobs, are dispatched before anything else is looked at. Shims, ranks and
// the first processes of containers, of which a machine starts many, never get as
// far as main: package early has them.
package main

import (
	"context"
	"os"

	"github.com/ebb-compute/ebb/internal/cli"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/node/container"
	"github.com/ebb-compute/ebb/internal/node/launch"
	_ "github.com/ebb-compute/ebb/internal/node/shim/early"
)

// version is set by the linker.
var version = "dev"

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "node":
			os.Exit(node.Main(os.Args[2:]))
		case "contain":
			os.Exit(container.Main(os.Args[2:]))
		case "launch":
			os.Exit(launch.Main())
		case "rsh":
			os.Exit(launch.RSH(os.Args[2:]))
		}
	}
	os.Exit(cli.Run(context.Background(), cli.Options{Version: version, Serve: serve, Backup: makeBackup, Restore: restoreBackup}, os.Args[1:]))
}
