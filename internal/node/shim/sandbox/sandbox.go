// Package sandbox makes the world that a job's process lives in, on one OS
// thread: a mount namespace with a private /tmp and the job's folders at fixed
// places, no new privileges, and a Landlock domain. A process forked from that
// thread inherits all of it; the program's other threads stay outside.
//
// Users and control groups are not its business.
package sandbox

// World is what a process sees and may touch. The zero World is everything.
type World struct {
	// Mounts: in a mount namespace of its own (needs root). Otherwise Tmp and Binds are not used.
	Mounts bool   `json:"mounts,omitempty"`
	Tmp    string `json:"tmp,omitempty"` // becomes /tmp and /var/tmp
	// Hostname is that of the job alone; empty: the machine's.
	Hostname string `json:"hostname,omitempty"`
	// Frame is a folder below /tmp, existing, that gets a file system in memory for
	// the folders on the way to Binds and for Links: on disk each would cost a job
	// an inode. A job may not write there. Empty: none.
	Frame string            `json:"frame,omitempty"`
	Binds []Bind            `json:"binds,omitempty"` // after Tmp, in order
	Links map[string]string `json:"links,omitempty"` // below Frame, and where each leads

	// Landlock is the ABI to use; 0: none. See [ABI].
	Landlock int      `json:"landlock,omitempty"`
	Read     []string `json:"read,omitempty"`  // may be read and executed, with all below; missing ones are skipped
	Show     []string `json:"show,omitempty"`  // as Read, though below what is in Hide
	Write    []string `json:"write,omitempty"` // as Show, and may be changed; missing ones are skipped
	// Hide is never granted, though a folder above it is in Read: the data folder.
	Hide []string `json:"hide,omitempty"`
}

// Bind shows a folder or file of the host at another place. Folders on the way are made.
type Bind struct {
	From     string `json:"from"`
	To       string `json:"to"` // below /tmp, or existing
	ReadOnly bool   `json:"readOnly,omitempty"`
}
