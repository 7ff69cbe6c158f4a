package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
)

// makeLogs makes the logs that ranks write themselves. Folders stay ours, so that
// a job puts nothing else there: whatever lies below DIR/log is sent to the server.
func makeLogs(root string, names []string) error {
	for _, name := range names {
		file := path.Join(root, name)
		if err := os.MkdirAll(path.Dir(file), 0o711); err != nil {
			return fmt.Errorf("make log folder: %w", err)
		}
		if err := os.Chmod(path.Dir(file), 0o711); err != nil {
			return fmt.Errorf("open log folder: %w", err)
		}
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("make log: %w", err)
		}
		f.Close()
	}
	return nil
}

func giveLogs(root string, names []string, uid int) error {
	for _, name := range names {
		if err := os.Lchown(path.Join(root, name), uid, uid); err != nil {
			return fmt.Errorf("give log to the job's user: %w", err)
		}
	}
	return nil
}

// maxFailed bounds what is read of a file that the job writes, in bytes.
const maxFailed = 64 << 10

// blame takes into the end of an attempt which of its processes failed first. It
// returns the log to quote, or what to say instead.
func (a *attempt) blame(e *queue.Exit) (log, words string) {
	log = a.spec.Log
	if a.spec.Ranks == nil || e.Cause != queue.ByExit || e.Code == 0 {
		return log, ""
	}
	fd, err := unix.Open(a.spec.Ranks.Failed, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return log, "" // none did, or none had the time to say so
	}
	file := os.NewFile(uintptr(fd), "failed.json")
	defer file.Close()
	b := make([]byte, maxFailed)
	n, _ := file.Read(b)
	var f rank.Failure
	if json.Unmarshal(b[:n], &f) != nil || f.Rank < 0 {
		return log, ""
	}
	switch {
	case f.Link:
		e.Cause = queue.ByNodeLoss
		return log, lastLines(f.Message)
	case f.Setup:
		e.Cause = queue.BySetup
		return log, lastLines(f.Message)
	}
	e.Process = fmt.Sprintf("rank %d", f.Rank)
	if f.Code > 0 && f.Code < 256 {
		e.Code = f.Code
	}
	if f.At.After(e.Started) && f.At.Before(e.Ended.Add(time.Second)) { // what it left took a moment longer
		e.Ended = f.At
	}
	for _, name := range a.spec.Ranks.Logs {
		if strings.HasSuffix(name, fmt.Sprintf("_%d.txt", f.Rank)) {
			log = name
		}
	}
	return log, lastLines(f.Message)
}
