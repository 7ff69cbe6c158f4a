package node

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher wakes its reader when files under the folders it watches change. It
// may wake for nothing, and where the kernel has no inotify left for us
// (128 per user by default) it wakes by the clock.
type watcher struct {
	C    chan struct{} // capacity 1
	file *os.File      // nil: by the clock
	seen map[string]bool
}

func newWatcher() *watcher {
	w := &watcher{C: make(chan struct{}, 1), seen: map[string]bool{}}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	return w
}

// run turns kernel events into wakes until the watcher is closed.
func (w *watcher) run() {
	if w.file == nil {
		return
	}
	buf := make([]byte, 16<<10)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		select {
		case w.C <- struct{}{}:
		default:
		}
	}
}

// add watches a folder too. One that is watched already is passed over.
func (w *watcher) add(dir string) {
	if w.file == nil || w.seen[dir] {
		return
	}
	conn, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		if _, err := unix.InotifyAddWatch(int(fd), dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err == nil {
			w.seen[dir] = true
		}
	})
}

// pause is how long to wait for a wake before looking all the same.
func (w *watcher) pause(quiet time.Duration) time.Duration {
	switch {
	case w.file != nil && len(w.seen) > 0:
		return 2 * time.Second
	case quiet < 5*time.Second:
		return 20 * time.Millisecond
	}
	return 250 * time.Millisecond
}

func (w *watcher) close() {
	if w.file != nil {
		w.file.Close()
	}
}
