// Package cli is the ebb command: what a person types, turned into calls of the
// public API by package client, and answers turned into tables, JSON, YAML or
// TSV. It decides nothing that the server does not, and can do nothing that
// another client could not.
//
// Start at [New], which builds the tree of commands. Where to look:
//
//   - cli.go, fields.go: global flags, errors and exit codes; flags over files
//   - compute*.go, job*.go, assets.go (with asset_kinds.go), datastore.go,
//     workspace.go: the groups of az ml v2, which "ebb" and "ebb ml" both have;
//     prepare.go uploads what they name, download.go fetches
//   - ml.go, computetarget*.go: "ebb ml", and v1's grammar
//   - az.go, az_defaults.go: "alias az=ebb", and what az would take where flags
//     are not given
//   - output.go, table.go, *shapes.go: what is printed, and in which shape
//   - exec.go, proxy.go: "ebb exec", a proxy that leads Azure's host names to the
//     server for one child process; env.go: the same for a shell
//
// Below: azml has az ml's schemas and the ARM documents made of them, yamlspec
// reads them, upload chooses and sends files.
package cli
