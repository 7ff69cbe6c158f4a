package pyenv

import (
	"io"
	"os"
	"sync"
	"time"
)

// follower copies what is added to a file, which may not be there yet.
type follower struct {
	path string
	to   io.Writer

	mu  sync.Mutex
	was os.FileInfo
	off int64
}

// copy takes what is there now.
func (f *follower) copy() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to == nil {
		return
	}
	file, err := os.Open(f.path)
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
	n, _ := io.Copy(f.to, io.NewSectionReader(file, f.off, 1<<40))
	f.off += n
}

// follow copies now and then until stop is called, which waits. A build takes
// seconds: looking five times a second costs nothing and needs no watch.
func (f *follower) follow() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f.copy()
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}
