package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/fault"
)

// tick is how often a lock or a process is looked at while waiting for it.
const tick = 5 * time.Millisecond

// maxLog is how large agent.log may be at a start before it is put aside; bytes.
const maxLog = 8 << 20

// start runs the agent, detached, and returns when it holds its lock. The
// caller holds the folder.
func (e *Engine) start(ctx context.Context, dir string) error {
	log, err := openLog(filepath.Join(dir, "agent.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	exe := e.Exe
	if len(exe) == 0 {
		exe = []string{"/proc/self/exe", "node"}
	}
	cmd := exec.Command(exe[0], append(exe[1:len(exe):len(exe)], dir)...)
	cmd.Args[0] = "ebb" // what people look for in a list of processes
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // ends with the agent, or with us
	patience := time.NewTimer(e.patience())
	defer patience.Stop()
	look := time.NewTicker(tick)
	defer look.Stop()
	for {
		select {
		case err := <-exited:
			return fmt.Errorf("the agent ended at once (%v); its last words: %s", err, lastWords(filepath.Join(dir, "agent.log")))
		case <-look.C:
			if h, err := readHolder(filepath.Join(dir, "lock")); err == nil && h.pid == cmd.Process.Pid {
				return nil
			}
			continue
		case <-patience.C:
			err = fault.New(fault.Unavailable, "", "The agent did not come up within %s.", e.patience())
		case <-ctx.Done():
			err = ctx.Err()
		}
		_ = cmd.Process.Kill()
		<-exited
		return err
	}
}

func openLog(path string) (*os.File, error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > 2000 {
		_, _ = f.Seek(-2000, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return strings.TrimSpace(string(b))
}

// Remove implements [engine.Driver].
func (e *Engine) Remove(ctx context.Context, id string) error {
	if !nodeName.MatchString(id) {
		return nil // none was ever launched by such a name
	}
	if err := e.remove(ctx, id); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

func (e *Engine) remove(ctx context.Context, id string) error {
	dir := filepath.Join(e.Dir, id)
	gone := filepath.Join(e.Dir, ".gone-"+id)
	folder, err := lockFolder(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return removeTree(gone) // proved dead before; the deleting was cut short
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	// From here on no agent starts in the folder, whatever becomes of us.
	marker, err := os.OpenFile(filepath.Join(dir, "removing"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	marker.Close()
	if err := syncDir(dir); err != nil {
		return err
	}
	lock, err := e.endAgent(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := e.endAttempts(ctx, filepath.Join(dir, "attempts")); err != nil {
		return err
	}
	if e.EndNode != nil {
		if err := e.EndNode(ctx, dir); err != nil {
			e.log().WarnContext(ctx, "not all of a node given back", "node", id, "err", err)
		}
	}
	if err := removeTree(gone); err != nil {
		return err
	}
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	if err := syncDir(e.Dir); err != nil {
		return err
	}
	return removeTree(gone)
}

// endAgent kills the agent and returns its lock, held: as long as it is, none
// lives. SIGTERM first; an agent needs no time to end, its shims live on.
func (e *Engine) endAgent(ctx context.Context, path string) (*os.File, error) {
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	look := time.NewTicker(tick)
	defer look.Stop()
	begun := time.Now()
	var asked, killed bool
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			lock.Close()
			return nil, err
		}
		if h, err := readHolder(path); err == nil && h.pid != 0 {
			if !asked {
				asked = h.signal(unix.SIGTERM)
			} else if !killed && time.Since(begun) > 2*time.Second {
				killed = h.signal(unix.SIGKILL)
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			lock.Close()
			return nil, ctx.Err()
		}
	}
}

func (e *Engine) endAttempts(ctx context.Context, parent string) error {
	dirs, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range dirs {
		// A dot begins what was never journalled, or is already forgotten.
		if strings.HasPrefix(d.Name(), ".") || !d.IsDir() {
			continue
		}
		if e.EndAttempt == nil {
			return errors.New("the engine was made without EndAttempt")
		}
		if err := e.EndAttempt(ctx, filepath.Join(parent, d.Name())); err != nil {
			return fmt.Errorf("end attempt %s: %w", d.Name(), err)
		}
	}
	return nil
}

// removeTree removes a folder that may hold folders without write permission,
// which a job can make. As root nothing stands in the way; otherwise they are ours.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
			if err != nil {
				// It could not be read before: its children were not walked.
				if inner, rerr := os.ReadDir(p); rerr == nil {
					for _, c := range inner {
						if c.IsDir() {
							_ = removeTree(filepath.Join(p, c.Name()))
						}
					}
				}
				return fs.SkipDir
			}
		}
		return nil
	})
	return os.RemoveAll(dir)
}
