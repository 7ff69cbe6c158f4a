package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/ebb-compute/ebb/internal/node/shim"
)

const (
	// removeWithin bounds one try of removing.
	removeWithin = 30 * time.Second
	// lateWithin is how long a container may still come up that was being made when
	// its holder died: an engine carries out what it was asked.
	lateWithin = 2 * time.Second
	// awayWithin is how long an engine may be away before a container whose process
	// 1 is dead counts as gone: engines remove it when they come back.
	awayWithin = 10 * time.Second
)

// removed removes the container, which the engine is doing already when it has
// ended, and returns once nothing is left of it.
func (h *holder) removed() error { return remove(".") }

// remove removes from the engine all that is marked as an attempt's; its folder
// says where and what. Nothing is left when it returns nil, and the folder says so.
func remove(dir string) error {
	file := filepath.Join(dir, shim.ContainerFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	c, err := dial(k.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
	defer cancel()
	begun := time.Now()
	for {
		left, err := sweep(ctx, c, k)
		since := time.Since(begun)
		switch {
		case err == nil && left == 0 && (k.Made || since > lateWithin):
			return os.Remove(file)
		case err != nil && client.IsErrConnectionFailed(err) && since > awayWithin && k.dead():
			return os.Remove(file)
		case ctx.Err() != nil:
			return fmt.Errorf("%d containers of attempt %s are left (%w)", left, k.Attempt, errors.Join(ctx.Err(), err))
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// sweep removes what it finds, and says how much that was.
func sweep(ctx context.Context, c *client.Client, k kept) (found int, err error) {
	marked := make(client.Filters).Add("label", labelInstallation+"="+k.Installation, labelAttempt+"="+k.Attempt)
	list, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: marked})
	if err != nil {
		return 0, err
	}
	for _, one := range list.Items {
		// In the way may be the engine itself, which removes it too: look again.
		_, _ = c.ContainerRemove(ctx, one.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
	nets, err := c.NetworkList(ctx, client.NetworkListOptions{Filters: marked})
	if err != nil {
		return len(list.Items), err
	}
	for _, one := range nets.Items {
		_, _ = c.NetworkRemove(ctx, one.ID, client.NetworkRemoveOptions{})
	}
	return len(list.Items) + len(nets.Items), nil
}

// dead reports whether the container's process 1 is known, and no more.
func (k kept) dead() bool { return k.Process != 0 && started(k.Process) != k.Since }

// started is when a process started, in the kernel's ticks; 0: there is none.
func started(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return 0
	}
	n, _ := strconv.ParseUint(f[19], 10, 64) // starttime is field 22, two are before the parenthesis
	return n
}

// Tidy removes an installation's network from an engine, if there is one and nobody
// uses it: whoever wants it next makes it anew.
func Tidy(ctx context.Context, socket, cache, installation string) error {
	c, err := dial(socket)
	if err != nil {
		return err
	}
	defer c.Close()
	lock, err := lockNetworks(cache)
	if err != nil {
		return err
	}
	defer lock.Close()
	nets, err := c.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("label", labelInstallation+"="+installation)})
	if err != nil {
		return err
	}
	for _, one := range nets.Items {
		// The engine refuses one that is used.
		_, _ = c.NetworkRemove(ctx, one.ID, client.NetworkRemoveOptions{})
	}
	return nil
}

// writeJSON writes a file whole, and durable if asked.
func writeJSON(file string, v any, durable bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", file, err)
	}
	if durable {
		d, err := os.Open(filepath.Dir(file))
		if err != nil {
			return err
		}
		defer d.Close()
		return d.Sync()
	}
	return nil
}
