package once

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock takes the lock that is a file, following the log of who holds it.
func Lock(ctx context.Context, path string, f *Follower) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock environment: %w", err)
	}
	fd := int(file.Fd())
	unlock = func() {
		_ = unix.Flock(fd, unix.LOCK_UN) // what was just forked has the file too until its exec
		file.Close()
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return unlock, nil
	}
	got := make(chan error, 1)
	go func() {
		for {
			if err := unix.Flock(fd, unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
				got <- err
				return
			}
		}
	}()
	stop := f.Follow()
	defer stop()
	select {
	case err := <-got:
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("lock environment: %w", err)
		}
		f.Copy() // the end of what the other did
		return unlock, nil
	case <-ctx.Done():
		go func() { <-got; file.Close() }() // ends when the holder does
		return nil, ctx.Err()
	}
}
