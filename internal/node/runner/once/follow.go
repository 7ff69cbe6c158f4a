// Package once lets the agents of a machine make a thing together: one makes it,
// under a [Lock], and the others see its log meanwhile, by a [Follower].
package once

import (
	"io"
	"os"
	"sync"
	"time"
)

// Follower copies what is added to a file, which may not be there yet.
type Follower struct {
	Path string
	To   io.Writer // nil: nowhere

	mu  sync.Mutex
	was os.FileInfo
	off int64
}

// Copy takes what is there now.
func (f *Follower) Copy() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.To == nil {
		return
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return
	}
	if f.was != nil && !os.SameFile(f.was, info) {
		f.off = 0 // a build that was begun anew
	}
	f.was = info
	n, _ := io.Copy(f.To, io.NewSectionReader(file, f.off, 1<<40))
	f.off += n
}

// Follow copies now and then until stop is called, which waits. A build takes
// seconds: looking five times a second costs nothing and needs no watch.
func (f *Follower) Follow() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f.Copy()
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}
