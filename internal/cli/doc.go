// Package cli is the ebb command: what a person types, turned into calls of the
// public API by package client, and answers turned into tables, JSON, YAML or
// TSV. It decides nothing that the server does not, and can do nothing that
// another client could not.
//
// Start at [New], which builds the tree of commands. "ebb exec" (exec.go,
// proxy.go) is the one part with a life of its own: a proxy that leads Azure's
// host names to the server for one child process.
package cli
