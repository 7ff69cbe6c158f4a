// Package survival holds no code, only tests of what must never happen: real
// servers are killed, restarted, lied to and starved of nodes, and nothing that
// was acknowledged may be lost, run twice or left behind. Start at TestKill.
package survival
