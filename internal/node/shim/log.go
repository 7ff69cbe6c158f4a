package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// logFile keeps what a job prints. The job writes to a pipe and the shim appends
// to the file: with the file itself a `> /dev/stdout` in a script would cut off
// what was said before, and what a log holds only ever grows.
type logFile struct {
	file *os.File
	r    *os.File
	w    int    // the job's end; blocking, as programs expect
	name string // of what is between them, see [held]
	done chan struct{}
	lost int64 // bytes that the disk did not take
	half bool  // what was written last is no whole line
}

// outputName is what a job's output goes through, in the attempt's folder.
const outputName = "output"

// gone is what /proc adds to the name of a file that was removed.
const gone = " (deleted)"

// openLog opens the log of that name. at, if not empty, is where what the output goes
// through gets a name by which a sweep knows who has it open.
func openLog(name, at string) (*logFile, error) {
	if err := os.MkdirAll(path.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("make log folder: %w", err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	p, called := namedPipe(at)
	if called == "" {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			f.Close()
			return nil, fmt.Errorf("make log pipe: %w", err)
		}
		_ = unix.SetNonblock(p[0], true)
	}
	l := &logFile{file: f, r: os.NewFile(uintptr(p[0]), "log pipe"), w: p[1], name: called, done: make(chan struct{})}
	go l.copy()
	return l, nil
}

// namedPipe makes a pipe that was a file once, so that /proc names it by its path,
// which nothing else ever has. It is removed at once: nobody else is to open it.
// Where a file system cannot do that there is none, and no name.
func namedPipe(at string) (p [2]int, name string) {
	if at == "" || unix.Mkfifo(at, 0o600) != nil {
		return p, ""
	}
	defer os.Remove(at)
	r, err := unix.Open(at, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return p, ""
	}
	w, err := unix.Open(at, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = os.Remove(at)
		name, _ = os.Readlink("/proc/self/fd/" + strconv.Itoa(w))
		if path.IsAbs(name) && strings.HasSuffix(name, "/"+outputName+gone) {
			return [2]int{r, w}, name
		}
		unix.Close(w)
	}
	unix.Close(r)
	return p, ""
}

// give lets a user open the pipe by name, as /dev/stdout.
func (l *logFile) give(uid int) error { return unix.Fchown(l.w, uid, uid) }

// started lets go of the job's end.
func (l *logFile) started() {
	if l.w >= 0 {
		unix.Close(l.w)
		l.w = -1
	}
}

func (l *logFile) copy() {
	defer close(l.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := l.r.Read(buf)
		l.write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return
		}
	}
	// Nobody of the job is left, but somebody may still hold its end open: take
	// what is there and go.
	conn, err := l.r.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			l.write(buf[:n])
		}
	})
}

func (l *logFile) write(b []byte) {
	n, err := l.file.Write(b)
	if n > 0 {
		l.half = b[n-1] != '\n'
	}
	if err != nil {
		l.lost += int64(len(b) - n) // a job does not stop because a disk is full
	}
}

// say writes a line of ours.
func (l *logFile) say(line string) {
	if l.half {
		line = "\n[ebb] " + line
	} else {
		line = "[ebb] " + line
	}
	l.write([]byte(line + "\n"))
}

// close makes the log final and durable. last is a line to end it; empty: none.
func (l *logFile) close(last string) {
	l.started()
	_ = l.r.SetReadDeadline(time.Unix(1, 0))
	<-l.done
	if l.lost > 0 {
		l.say(fmt.Sprintf("%d bytes of output could not be written", l.lost))
	}
	if last != "" {
		l.say(last)
	}
	// What is empty comes back empty, or not at all.
	if fi, err := l.file.Stat(); err != nil || fi.Size() > 0 {
		_ = l.file.Sync()
	}
	_ = l.file.Close()
	_ = l.r.Close()
}
