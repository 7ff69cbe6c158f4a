package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/container"
	"github.com/ebb-compute/ebb/internal/node/runner"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// shimPatience is how long a shim that is told to end at once may take before
// it is killed itself.
const shimPatience = 5 * time.Second

// EndAttempt makes whatever runs in an attempt's folder go and returns when that
// is proved: the shim is told, then killed, then what it left is swept. Engines
// use it to remove a node whose agent is dead.
func EndAttempt(ctx context.Context, dir string) error {
	_, err := endAttempt(ctx, shims{}, dir, queue.ByNodeLoss)
	return err
}

// EndNode removes what containers of the node's attempts shared, if there were any
// and nobody else needs it. Engines call it when they remove a node.
func EndNode(ctx context.Context, dir string) error {
	var used container.Engine
	if err := readJSON(filepath.Join(dir, runner.EngineFile), &used); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	cfg, err := readConfig(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, shimPatience)
	defer cancel()
	return container.Tidy(ctx, used.Socket, cfg.Cache, cfg.Installation)
}

func endAttempt(ctx context.Context, h holder, dir string, cause queue.Cause) (shim.Record, error) {
	st, err := h.Look(dir)
	if err != nil {
		return shim.Record{}, err
	}
	if st.Phase == shim.Running {
		if err := h.Stop(dir, cause, time.Millisecond); err != nil {
			return shim.Record{}, fmt.Errorf("stop the shim: %w", err)
		}
		if st, err = waitFor(ctx, h, dir); err != nil {
			return shim.Record{}, err
		}
	}
	if st.Phase == shim.Running {
		if err := h.Kill(dir); err != nil {
			return shim.Record{}, fmt.Errorf("kill the shim: %w", err)
		}
		if st, err = h.Wait(ctx, dir); err != nil {
			return shim.Record{}, err
		}
	}
	if st.Phase == shim.Ended {
		return st.Record, nil
	}
	return h.Sweep(dir)
}

// waitFor waits for the shim's end, shimPatience at most.
func waitFor(ctx context.Context, h holder, dir string) (shim.State, error) {
	short, cancel := context.WithTimeout(ctx, shimPatience)
	defer cancel()
	st, err := h.Wait(short, dir)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return h.Look(dir)
	}
	return st, err
}

// holder is node/shim as the agent uses it.
type holder interface {
	Start(dir string, spec shim.Spec) error
	Look(dir string) (shim.State, error)
	Wait(ctx context.Context, dir string) (shim.State, error)
	Stop(dir string, cause queue.Cause, grace time.Duration) error
	Kill(dir string) error
	Sweep(dir string) (shim.Record, error)
}

// shims is the real one.
type shims struct{}

func (shims) Start(dir string, spec shim.Spec) error                 { return shim.Start(dir, spec) }
func (shims) Look(dir string) (shim.State, error)                    { return shim.Look(dir) }
func (shims) Wait(ctx context.Context, d string) (shim.State, error) { return shim.Wait(ctx, d) }
func (shims) Sweep(dir string) (shim.Record, error)                  { return shim.Sweep(dir) }
func (shims) Stop(dir string, c queue.Cause, grace time.Duration) error {
	return shim.Stop(dir, c, grace)
}

// Kill sends SIGKILL to the shim that holds the folder's lock. The lock is seen
// held by the same pid after the pidfd was opened: it cannot be another's.
func (shims) Kill(dir string) error {
	st, err := shim.Look(dir)
	if err != nil || st.Phase != shim.Running || st.PID == 0 {
		return err
	}
	fd, err := unix.PidfdOpen(st.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if again, err := shim.Look(dir); err != nil || again.Phase != shim.Running || again.PID != st.PID {
		return err
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}
