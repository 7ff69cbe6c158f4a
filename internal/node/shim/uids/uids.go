// Package uids lends each living attempt a Unix user of its own: a file per uid in
// a folder that all shims of the machine share, flocked by who uses it. No such
// user is in /etc/passwd, and none needs to be.
package uids

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Folder of leases: one for the machine and not for an installation, since uids
// are the machine's. A reboot empties it, and nothing lives then.
const Folder = "/run/ebb/users"

// First uid lent, and how many. Above what SSSD maps by default (to
// 2,000,200,000) and systemd-nspawn takes (to 1,879,048,191), below 2^31.
const (
	First = 2_100_000_000
	Count = 65_536
)

// Lease is a uid, for as long as it is open.
type Lease struct {
	UID  int // of the group too
	file *os.File
}

// Take leases the lowest uid that no other holds. Who, the attempt's folder, is
// kept in the file until [Lease.Close]: where a holder died, what runs as its
// user is killed before the uid is lent again.
func Take(folder, who string) (*Lease, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of users: %w", err)
	}
	for uid := First; uid < First+Count; uid++ {
		f, err := os.OpenFile(lease(folder, uid), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lease a user: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			continue
		}
		l := &Lease{UID: uid, file: f}
		if was, _ := os.ReadFile(f.Name()); len(was) > 0 {
			for _, pid := range Processes(uid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			if len(Processes(uid)) > 0 { // dying, or of somebody else: not ours to wait for
				f.Close()
				continue
			}
		}
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, fmt.Errorf("lease a user: %w", err)
		}
		if _, err := f.WriteAt([]byte(who+"\n"), 0); err != nil {
			f.Close()
			return nil, fmt.Errorf("lease a user: %w", err)
		}
		return l, nil
	}
	return nil, errors.New("lease a user: all are taken")
}

// Close gives the uid back. Nothing may run as it any more.
func (l *Lease) Close() error {
	err := l.file.Truncate(0)
	// A process that was just forked has the file too until its exec, and would hold
	// the lock.
	_ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// Of says whose a uid was last lent to, empty if it was given back.
func Of(folder string, uid int) string {
	if folder == "" {
		return ""
	}
	b, _ := os.ReadFile(lease(folder, uid))
	return strings.TrimSpace(string(b))
}

// Release gives back a uid whose holder died, if it is still in the name of who.
func Release(folder string, uid int, who string) {
	if folder == "" || uid == 0 {
		return
	}
	f, err := os.OpenFile(lease(folder, uid), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	defer func() { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }() // as Close does
	if Of(folder, uid) == who {
		_ = f.Truncate(0)
	}
}

// Processes lists what lives as a uid; zombies do not.
func Processes(uid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err != nil {
			continue
		}
		if own, live := parse(string(b)); live && own == uid {
			out = append(out, pid)
		}
	}
	return out
}

// parse reads the real uid from a status file, and whether the process lives.
func parse(status string) (uid int, live bool) {
	uid, live = -1, true
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "State:"); ok {
			live = !strings.HasPrefix(strings.TrimSpace(v), "Z") && !strings.HasPrefix(strings.TrimSpace(v), "X")
		}
		if v, ok := strings.CutPrefix(line, "Uid:"); ok {
			uid, _ = strconv.Atoi(strings.Fields(v)[0])
			break
		}
	}
	return uid, live
}

func lease(folder string, uid int) string { return path.Join(folder, strconv.Itoa(uid)) }
