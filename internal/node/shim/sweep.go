package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/shim/cgroup"
	"github.com/ebb-compute/ebb/internal/node/shim/uids"
)

// marker is the environment variable by which a sweep without user or control
// group of the job's own knows its processes again.
const marker = "EBB_ATTEMPT_DIR"

// Sweep ends an attempt whose shim died without a record ([Died]): it kills all
// that is left of it, found by control group, user, environment and output, and
// writes a record that says so (ByNodeLoss). What hides from all of these its warden
// has killed, if it had one. It holds the attempt's lock meanwhile, so a
// shim that starts late finds itself shut out. A folder that has a record keeps
// it; one whose shim lives is an error.
func Sweep(dir string) (Record, error) {
	lock, err := openLock(dir)
	if err != nil {
		return Record{}, err
	}
	defer unlock(lock)
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return Record{}, fmt.Errorf("sweep %s: its shim lives: %w", dir, err)
	}
	if st, ok, err := lookRecord(dir); ok || err != nil {
		return st.Record, err
	}
	s, err := readLock(dir)
	if err != nil {
		return Record{}, err
	}
	abs, err := absolute(dir)
	if err != nil {
		return Record{}, err
	}
	group := cgroup.Open(s.Groups)
	group.Close()
	mine := func() []int {
		found := slices.Concat(group.PIDs(), byEnvironment(marker+"="+abs))
		if strings.HasSuffix(s.Output, "/"+outputName+gone) {
			found = append(found, byOutput(s.Output)...)
		}
		if s.UID != 0 && uids.Of(s.Users, s.UID) == abs {
			found = append(found, uids.Processes(s.UID)...)
		}
		return found
	}
	if err := killAll(mine); err != nil {
		return Record{}, fmt.Errorf("sweep %s: %w", dir, err)
	}
	if err := uncontain(dir); err != nil {
		return Record{}, fmt.Errorf("sweep %s: %w", dir, err)
	}
	_ = group.Remove()
	uids.Release(s.Users, s.UID, abs)

	rec := Record{Swept: true, Logs: logSizes(dir), Exit: queue.Exit{
		Cause:   queue.ByNodeLoss,
		Code:    128 + int(unix.SIGKILL),
		Message: "The process that watches over the job died; what was left of the job was killed.",
		Started: s.Started,
		Ended:   time.Now().UTC(),
	}}
	if s.Process == 0 {
		rec.Exit.Message = "The node died before the job's process was started."
	}
	return rec, writeJSON(path.Join(dir, "exit.json"), rec, true)
}

// Forget removes an attempt's folder, whatever modes its job gave what it made
// (only root may ignore them). One whose shim lives is left, with an error.
func Forget(dir string) error {
	if l, err := readLock(dir); err != nil || l.taken {
		return errors.Join(err, fmt.Errorf("forget %s: its shim lives", dir))
	}
	err := os.RemoveAll(dir)
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	_ = walk(dir, func(name string, d os.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			// Before it is read: walk calls first, then lists.
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
