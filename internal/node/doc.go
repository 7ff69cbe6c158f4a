// Package node is the agent: "ebb node DIR". It dials the server, takes the
// attempts that the server wants here, has each run under a shim of its own
// (node/shim), ships logs and outputs, and reports. It opens no port.
//
// What to do is decided by [Machine], which touches nothing; agent.go does it.
// An agent may die and come back at any moment: it finds its journal again, and
// the shims live on meanwhile.
//
// A node's folder:
//
//	node.json             what this node is (Config); written by the engine
//	lock                  flock held by the living agent; "pid starttime boot" inside
//	memory                Memory: the highest order seen, and the attempts taken; two slots, written in turn
//	agent.log             what the agent says of itself
//	attempts/{attempt}/   end.json, and what node/shim keeps there
package node
