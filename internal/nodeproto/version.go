package nodeproto

import "fmt"

// Version is the protocol's newest, which our agents speak; Oldest is the last
// that a server still serves. Agents outlive the server that started them, and
// jobs run for weeks: whoever upgrades finds agents of the version before.
//
// What may change, and how:
//
//   - Within a version fields are only added, each optional (omitempty) and without
//     meaning where it is missing. Nothing is renamed, removed, or given another
//     meaning: testdata/vN holds every message of version N, and fails the test.
//   - Anything else is a new version: raise Version, and Oldest to the one before;
//     keep testdata of both; make the server speak to either as its hello says.
//   - The same holds for what an agent and a shim leave on disk for the next of
//     their kind (internal/node/testdata, internal/node/shim/testdata), except that
//     there is no hello: it must be read as long as a node of that age may live.
const (
	Version = 1
	Oldest  = 1
)

// A server serves two versions at most, or nobody would ever end one.
const (
	_ = uint(Version - Oldest)
	_ = uint(1 - (Version - Oldest))
)

// Refusal says why a server does not speak to an agent of a version, and which
// side is to be upgraded; empty: it does. It fits into the reason of a close.
func Refusal(version int) string { return refusal(version, Oldest, Version) }

func refusal(version, oldest, newest int) string {
	switch {
	case version > newest:
		return fmt.Sprintf("The agent speaks node protocol %d, and this server %s: upgrade the server.", version, span(oldest, newest))
	case version < oldest:
		return fmt.Sprintf("The agent speaks node protocol %d, and this server %s: the node needs a newer ebb.", version, span(oldest, newest))
	}
	return ""
}

func span(oldest, newest int) string {
	if oldest == newest {
		return fmt.Sprintf("only %d", newest)
	}
	return fmt.Sprintf("%d and %d", oldest, newest)
}
