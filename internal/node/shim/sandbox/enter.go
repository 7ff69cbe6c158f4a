package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Enter makes the world around the calling OS thread, for good: the goroutine
// must be locked to it and must never unlock.
func (w World) Enter() error {
	if w.Mounts {
		if err := w.mount(); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	if w.Landlock > 0 {
		return w.restrict()
	}
	return nil
}

// CanScope reports whether [World.Scope] can do anything on this kernel.
func (w World) CanScope() bool {
	_, scoped := known(w.Landlock)
	return scoped&unix.LANDLOCK_SCOPE_SIGNAL != 0
}

// Scope puts the calling OS thread, as Enter does, into a domain in which it may
// touch everything and signal nobody outside.
func (w World) Scope() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	ruleset, err := w.ruleset(0, unix.LANDLOCK_SCOPE_SIGNAL)
	if err != nil {
		return err
	}
	defer unix.Close(ruleset)
	return enter(ruleset)
}

// mount leaves the host's mounts for copies and puts the job's over them.
func (w World) mount() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	if w.Hostname != "" {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("make a name of its own: %w", err)
		}
		if err := unix.Sethostname([]byte(w.Hostname)); err != nil {
			return fmt.Errorf("set the name %s: %w", w.Hostname, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	binds := w.binds()
	// Sources are opened before /tmp is covered, since they may lie below it, and in
	// this namespace, since no other's mounts can be bound.
	fds := make([]int, len(binds))
	for i, b := range binds {
		fd, err := unix.Open(b.From, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", b.From, err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	// Shared memory of its own: nothing is left in it, nobody else sees it.
	if err := unix.Mount("shm", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	for i, b := range binds {
		if err := bind(fds[i], b); err != nil {
			return fmt.Errorf("mount %s at %s: %w", b.From, b.To, err)
		}
		if w.Frame != "" && b.To == "/tmp" {
			if err := w.frame(); err != nil {
				return err
			}
		}
	}
	return nil
}

// frame makes the file system in memory, and the links in it.
func (w World) frame() error {
	if err := unix.Mount("frame", w.Frame, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return fmt.Errorf("mount %s: %w", w.Frame, err)
	}
	for at, to := range w.Links {
		if err := os.MkdirAll(path.Dir(at), 0o755); err != nil {
			return fmt.Errorf("make folder of %s: %w", at, err)
		}
		if err := os.Symlink(to, at); err != nil {
			return fmt.Errorf("link %s: %w", at, err)
		}
	}
	return nil
}

// binds are all mounts in order: /tmp, then what is asked for, then readable
// paths that the new /tmp covers.
func (w World) binds() []Bind {
	var out []Bind
	if w.Tmp != "" {
		out = append(out, Bind{From: w.Tmp, To: "/tmp"})
		if _, err := os.Stat("/var/tmp"); err == nil {
			out = append(out, Bind{From: w.Tmp, To: "/var/tmp"})
		}
	}
	out = append(out, w.Binds...)
	for _, p := range w.Read {
		if w.Tmp == "" || !within(p, "/tmp") && !within(p, "/var/tmp") {
			continue
		}
		made := false
		for _, b := range w.Binds {
			made = made || within(p, b.To)
		}
		if _, err := os.Lstat(p); err == nil && !made {
			out = append(out, Bind{From: p, To: p, ReadOnly: true})
		}
	}
	return out
}

func bind(fd int, b Bind) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	folder := b.To
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		folder = path.Dir(b.To)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if folder != b.To {
		f, err := os.OpenFile(b.To, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), b.To, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV)
	if b.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	return unix.Mount("", b.To, "", flags, "")
}

// within reports whether a path is root or lies below it.
func within(name, root string) bool {
	name, root = path.Clean(name), path.Clean(root)
	return name == root || root == "/" || strings.HasPrefix(name, root+"/")
}
