// Package cgroup sets limits on the processes of one attempt through control
// groups, version 1 or 2, by their files. It knows no daemon and needs none.
//
// An agent calls [Detect] once; each shim makes a [Group] in the [Tree] found.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Tree is where groups are made. The zero Tree makes none.
type Tree struct {
	Version int `json:"version,omitempty"` // 1, 2; 0: none
	// Parents are folders that groups are made in, by controller ("cpu",
	// "memory", "pids"); with version 2 all in one, under "".
	Parents map[string]string `json:"parents,omitempty"`
}

// Limits of one attempt. A zero field sets none.
type Limits struct {
	VCPUs  float64 `json:"vcpus,omitempty"`
	Memory int64   `json:"memory,omitempty"` // bytes
	PIDs   int     `json:"pids,omitempty"`   // threads count too
}

// Group is one attempt's control group.
type Group struct {
	version int
	dirs    map[string]string // by controller
	fd      int               // version 2: of the folder; -1 otherwise
}

var wanted = []string{"cpu", "memory", "pids"}

// Detect finds where this process may make groups, trying it. The error says, for
// people, why it may not.
func Detect() (Tree, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Tree{}, fmt.Errorf("read mounts: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Tree{}, fmt.Errorf("read own control groups: %w", err)
	}
	v1, v2 := parse(string(mounts), string(own))
	if v1["memory"] != "" {
		return detect1(v1)
	}
	if v2.mount == "" {
		return Tree{}, errors.New("no control groups are mounted")
	}
	return detect2(v2)
}

// place is a version 2 hierarchy: where it is mounted and where we are in it.
type place struct{ mount, own string }

// parse finds our folder for each version 1 controller, and in version 2.
func parse(mountinfo, own string) (v1 map[string]string, v2 place) {
	paths := map[string]string{} // controller → path from the hierarchy's root
	for line := range strings.Lines(own) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			for c := range strings.SplitSeq(f[1], ",") {
				paths[c] = f[2]
			}
		}
	}
	v1 = map[string]string{}
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		root, mount := l[3], l[4]
		switch r[0] {
		case "cgroup2":
			if v2.mount == "" || mount == "/sys/fs/cgroup" {
				v2 = place{mount, below(mount, root, paths[""])}
			}
		case "cgroup":
			for c := range strings.SplitSeq(r[2], ",") {
				if slices.Contains(wanted, c) && v1[c] == "" {
					v1[c] = below(mount, root, paths[c])
				}
			}
		}
	}
	return v1, v2
}

// below turns a path of the hierarchy into one of the file system. Where a
// container shows a part of the hierarchy only, that part is its root.
func below(mount, root, own string) string {
	if rel, ok := strings.CutPrefix(own, strings.TrimSuffix(root, "/")); ok && (rel == "" || rel[0] == '/') {
		return path.Join(mount, rel)
	}
	return mount
}

func detect1(own map[string]string) (Tree, error) {
	t := Tree{Version: 1, Parents: map[string]string{}}
	for c, dir := range own {
		parent := path.Join(dir, "ebb")
		if err := try(parent); err != nil {
			return Tree{}, fmt.Errorf("make a control group for %s: %w", c, err)
		}
		t.Parents[c] = parent
	}
	return t, nil
}

// detect2 looks for the nearest folder at or above ours that may hand its
// controllers down: one with processes of its own may not (except the root), so
// ours usually cannot, and its parent can.
func detect2(p place) (Tree, error) {
	var last error
	for dir := p.own; strings.HasPrefix(dir, p.mount); dir = path.Dir(dir) {
		parent := path.Join(dir, "ebb")
		if last = enable(dir); last == nil {
			if last = os.MkdirAll(parent, 0o755); last == nil {
				if last = enable(parent); last == nil {
					if last = try(parent); last == nil {
						return Tree{Version: 2, Parents: map[string]string{"": parent}}, nil
					}
				}
			}
		}
		if dir == p.mount {
			break
		}
	}
	return Tree{}, fmt.Errorf("make a control group: %w", last)
}

// enable hands the controllers of a version 2 folder down to its children.
func enable(dir string) error {
	file := path.Join(dir, "cgroup.subtree_control")
	have, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	on := strings.Fields(string(have))
	for _, c := range wanted {
		if slices.Contains(on, c) {
			continue
		}
		if err := write(file, "+"+c); err != nil {
			return err
		}
	}
	return nil
}

// try makes a group and removes it.
func try(parent string) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	dir := path.Join(parent, "try-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Remove(dir)
}

// Make makes a group named id with limits. With an error nothing is left.
func Make(t Tree, id string, l Limits) (*Group, error) {
	g := &Group{version: t.Version, dirs: map[string]string{}, fd: -1}
	for c, parent := range t.Parents {
		if c == "cpu" && l.VCPUs == 0 || c == "pids" && l.PIDs == 0 {
			continue // moving into a group costs a millisecond each, or ten
		}
		dir := path.Join(parent, id)
		if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(dir, 0o755) // a reboot, or a cleaner, took the parent
			if err != nil {
				g.Remove()
				return nil, fmt.Errorf("make control group: %w", err)
			}
		} else if err != nil && !errors.Is(err, fs.ErrExist) {
			g.Remove()
			return nil, fmt.Errorf("make control group: %w", err)
		}
		g.dirs[c] = dir
	}
	if err := g.limit(l); err != nil {
		g.Remove()
		return nil, err
	}
	if g.version == 2 {
		fd, err := syscall.Open(g.dirs[""], syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			g.Remove()
			return nil, fmt.Errorf("open control group: %w", err)
		}
		g.fd = fd
	}
	return g, nil
}

// period of the CPU quota, in microseconds; the kernel's default.
const period = 100_000

func (g *Group) limit(l Limits) error {
	type setting struct{ controller, v1, v2, value1, value2 string }
	var set []setting
	if l.VCPUs > 0 {
		quota := strconv.Itoa(max(1000, int(l.VCPUs*period)))
		set = append(set, setting{"cpu", "cpu.cfs_quota_us", "cpu.max", quota, quota + " " + strconv.Itoa(period)})
	}
	if l.Memory > 0 {
		n := strconv.FormatInt(l.Memory, 10)
		set = append(set, setting{"memory", "memory.limit_in_bytes", "memory.max", n, n})
	}
	if l.PIDs > 0 {
		n := strconv.Itoa(l.PIDs)
		set = append(set, setting{"pids", "pids.max", "pids.max", n, n})
	}
	for _, s := range set {
		dir, file, value := g.dirs[s.controller], s.v1, s.value1
		if g.version == 2 {
			dir, file, value = g.dirs[""], s.v2, s.value2
		}
		if dir == "" {
			continue
		}
		if err := write(path.Join(dir, file), value); err != nil {
			return fmt.Errorf("set %s: %w", file, err)
		}
	}
	if l.Memory > 0 { // without swap a limit is a limit; not every kernel counts swap
		if g.version == 2 {
			_ = write(path.Join(g.dirs[""], "memory.swap.max"), "0")
		} else if dir := g.dirs["memory"]; dir != "" {
			_ = write(path.Join(dir, "memory.memsw.limit_in_bytes"), strconv.FormatInt(l.Memory, 10))
		}
	}
	return nil
}

// FD returns the folder to start a process in (version 2), or false.
func (g *Group) FD() (int, bool) { return g.fd, g.fd >= 0 }

// Enter puts one thread into the group, so that what it starts is in it. The group
// can be removed once the thread has ended. Version 1 only: with 2 use [Group.FD].
func (g *Group) Enter(tid int) error {
	if g.version != 1 {
		return nil
	}
	for _, dir := range g.dirs {
		if err := write(path.Join(dir, "tasks"), strconv.Itoa(tid)); err != nil {
			return fmt.Errorf("enter control group: %w", err)
		}
	}
	return nil
}

// Stir makes the entering of a group that is to come soon quicker, and returns when
// it would have been done. Whoever enters a group of version 1 waits until the
// kernel has heard of all CPUs, but not beside or shortly after another who does.
func Stir(t Tree) {
	if t.Version != 1 {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends where it has gone
		if syscall.Gettid() == syscall.Getpid() {
			// The main thread cannot end. While it is held here, another is found.
			defer runtime.UnlockOSThread()
			Stir(t)
			return
		}
		for _, parent := range t.Parents {
			_ = write(path.Join(parent, "tasks"), strconv.Itoa(syscall.Gettid()))
			return // one is enough for all
		}
	}()
	<-done
}

// Dirs are the group's folders, for [Open].
func (g *Group) Dirs() []string {
	var out []string
	for _, d := range g.dirs {
		out = append(out, d)
	}
	slices.Sort(out)
	return out
}

// Open finds a group again by its folders, to sweep it.
func Open(dirs []string) *Group {
	g := &Group{version: 1, dirs: map[string]string{}, fd: -1}
	for _, d := range dirs {
		g.dirs[d] = d
		if _, err := os.Stat(path.Join(d, "cgroup.kill")); err == nil {
			g.version = 2
		}
	}
	return g
}

// Close stops the group from growing: a fork bomb cannot outrun who kills it.
func (g *Group) Close() {
	for _, d := range g.dirs {
		_ = write(path.Join(d, "pids.max"), "0")
	}
}

// Kill sends SIGKILL to all in the group at once, where the kernel can (version
// 2). It reports whether it did.
func (g *Group) Kill() bool {
	dir, ok := g.dirs[""]
	return ok && write(path.Join(dir, "cgroup.kill"), "1") == nil
}

// PIDs lists the processes in the group.
func (g *Group) PIDs() []int {
	var out []int
	for _, d := range g.dirs {
		out = append(out, g.read(d)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (g *Group) read(dir string) []int {
	f, err := os.Open(path.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []int
	for s := bufio.NewScanner(f); s.Scan(); {
		if pid, err := strconv.Atoi(s.Text()); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// OOMKills is how many processes the kernel killed at the memory limit.
func (g *Group) OOMKills() int {
	n := 0
	for _, d := range g.dirs {
		for _, file := range []string{"memory.oom_control", "memory.events"} {
			b, _ := os.ReadFile(path.Join(d, file))
			for line := range strings.Lines(string(b)) {
				if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
					k, _ := strconv.Atoi(strings.TrimSpace(v))
					n = max(n, k)
				}
			}
		}
	}
	return n
}

// removeWithin is how long Remove waits for what is just ending, if it is.
const removeWithin = time.Minute

// Remove removes the group. All that was in it must have ended, or be about to.
func (g *Group) Remove() error {
	if g.fd >= 0 {
		syscall.Close(g.fd)
		g.fd = -1
	}
	var errs []error
	end := time.Now().Add(removeWithin)
	for _, d := range g.dirs {
		err := os.Remove(d)
		for pause := time.Millisecond; errors.Is(err, syscall.EBUSY) && !g.others(d) && time.Now().Before(end); pause *= 2 {
			time.Sleep(pause)
			err = os.Remove(d)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// others reports whether a process but this one has threads in a folder.
func (g *Group) others(dir string) bool {
	return slices.ContainsFunc(g.read(dir), func(pid int) bool { return pid != os.Getpid() })
}

// write writes to a control file in one call, as the kernel wants it.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
