package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// What a shim and the program that holds a container say to each other. The shim
// speaks to no engine: that would make it heavy, and there is one for every job.
const (
	// UserVariable tells that program the number of the job's own user; none: there is none.
	UserVariable = "EBB_JOB_USER"
	// ContainerFile is in the attempt's folder as long as there may be a container.
	ContainerFile = "container.json"
	// ContainerEndFile is how it ended, a [ContainerEnd].
	ContainerEndFile = "container-end.json"
	// BeganFD is where it writes a byte once the job's process runs.
	BeganFD = 3
)

// self is this program, also after its file was replaced.
const self = "/proc/self/exe"

// ContainerEnd is what is known of a container that has ended.
type ContainerEnd struct {
	// Failure says why the job's process never began, or is not known to have ended
	// by itself; empty: it did end, and the program with its code.
	Failure string    `json:"failure,omitempty"`
	Began   time.Time `json:"began,omitzero"`   // when the job's process started; zero: it never did
	Setup   bool      `json:"setup,omitempty"`  // of a failure: its user can mend it
	Code    int       `json:"code,omitempty"`   // of a failure that is the user's, as shells say it
	Killed  int       `json:"killed,omitempty"` // processes that the kernel took for want of memory
}

// input is a file that holds what a program is to read.
func input(b []byte) (*os.File, error) {
	if len(b) == 0 {
		return os.Open(os.DevNull)
	}
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the program's input: %w", err)
	}
	f := os.NewFile(uintptr(fd), "input")
	if _, err = f.Write(b); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make the program's input: %w", err)
	}
	return f, nil
}

// contain prepares the start of the program that holds a container, and takes its
// word that the job began. The caller closes what is returned once it is started.
func (a *attempt) contain(attr *syscall.ProcAttr) (*os.File, error) {
	if a.user != nil {
		attr.Env = append(attr.Env, UserVariable+"="+strconv.Itoa(a.user.UID))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	attr.Files[2] = os.Stderr.Fd() // what it has to say is for us
	attr.Files = append(attr.Files, w.Fd())
	go func() { // ends with the program
		defer r.Close()
		if n, _ := r.Read(make([]byte, 1)); n == 1 {
			a.events <- Event{Began: true, At: now()}
		}
	}()
	return w, nil
}

// settle is called when nothing descends from us any more: it removes what is left
// of a container, however long that takes, and takes from what its holder wrote how
// the job ended. It returns how many of its processes the kernel killed.
func (a *attempt) settle() (killed int) {
	if !a.spec.Contained {
		return 0
	}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := uncontain(a.dir)
		if err == nil {
			break
		}
		fmt.Fprintln(os.Stderr, "shim:", err)
		time.Sleep(pause)
	}
	e := &a.machine.Exit
	var end ContainerEnd
	err := readJSON(path.Join(a.dir, ContainerEndFile), &end)
	switch {
	case err == nil:
		e.Started = end.Began
	case a.held.Process == 0:
		e.Started = time.Time{} // it was the holder that was started
	}
	if e.Cause != queue.ByExit { // it was stopped
		return end.Killed
	}
	switch {
	case err != nil:
		e.Cause, e.Code = queue.ByNodeLoss, 128+int(unix.SIGKILL)
		a.failure = "The process that watches over the job's container died; what was left of the job was killed."
	case end.Failure != "" && end.Setup:
		e.Cause, e.Code, a.failure = queue.BySetup, end.Code, end.Failure
	case end.Failure != "":
		e.Cause, e.Code, a.failure = queue.ByNodeLoss, 128+int(unix.SIGKILL), end.Failure
	}
	return end.Killed
}

// uncontain removes what there is of an attempt's container. Nothing is left when
// it returns nil.
func uncontain(dir string) error {
	if _, err := os.Stat(path.Join(dir, ContainerFile)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	abs, err := absolute(dir)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := os.StartProcess(self, []string{"ebb", "contain", "remove", abs}, &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}, Files: []*os.File{nil, w, w},
	})
	w.Close()
	if err != nil {
		return fmt.Errorf("remove the container: %w", err)
	}
	words := make([]byte, 2000)
	n, _ := r.Read(words)
	st, err := p.Wait()
	if err == nil && !st.Success() {
		err = errors.New(strings.TrimSpace(string(words[:max(n, 0)])) + " (" + strconv.Itoa(st.ExitCode()) + ")")
	}
	if err != nil {
		return fmt.Errorf("remove the container: %w", err)
	}
	return nil
}
