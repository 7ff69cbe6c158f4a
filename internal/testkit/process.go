package testkit

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Flash starts the server and kills it after d, ready or not, as a machine does
// that fails while it comes up.
func (s *Server) Flash(d time.Duration) error {
	cmd := exec.Command(s.bin, "serve", "--data", s.Dir, "--listen", s.listen)
	cmd.Env = append(append(os.Environ(), "EBB_CLIENT=", "EBB_DATA=", "EBB_CONTAINER=never"), s.env...)
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return fmt.Errorf("the server ended by itself: %w\n%s", err, s.LogTail(20))
	case <-time.After(d):
	}
	_ = cmd.Process.Kill()
	<-ended
	return nil
}

// Move makes the next start listen on another port, which is kept for it as
// long as the test lasts.
func (s *Server) Move() {
	s.t.Helper()
	s.listen = ReservePort(s.t).Address
}

// Agents returns the process ids of the nodes' living agents, by node.
func (s *Server) Agents() map[string]int { return s.holders("nodes/*/lock") }

// Shims returns the process ids of the shims that live, by attempt.
func (s *Server) Shims() map[string]int { return s.holders("nodes/*/attempts/*/lock") }

// holders reads the pids out of lock files, each named by its folder. A process
// that is gone is left out.
func (s *Server) holders(pattern string) map[string]int {
	found := map[string]int{}
	paths, _ := filepath.Glob(filepath.Join(s.Dir, filepath.FromSlash(pattern)))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		fields := strings.Fields(string(text))
		if err != nil || len(fields) == 0 {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil || pid <= 0 {
			continue
		}
		// A pid alone proves nothing: it must be one of ours.
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !bytes.Contains(line, []byte(s.Dir)) {
			continue
		}
		found[filepath.Base(filepath.Dir(path))] = pid
	}
	return found
}

// Alive reports whether there is a process of that id which is no zombie.
func Alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), " ")
	return ok && !strings.HasPrefix(rest, "Z")
}

// Below returns the ids of all that descend from a process, as far as parents
// tell: what was orphaned is not among them.
func Below(pid int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1]) // the kernel's own writing
		children[parent] = append(children[parent], child)
	}
	var all []int
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, children[next[0]]...)
	}
	return all
}

// Memory is a process's resident memory in bytes; 0 when it is gone.
func Memory(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// Listening returns the local addresses on which a process accepts TCP.
func Listening(pid int) []string {
	own := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var found []string
	for _, table := range []string{"tcp", "tcp6"} {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		for line := range strings.Lines(string(text)) {
			const listen = "0A" // TCP_LISTEN of the kernel's tcp_states.h
			if f := strings.Fields(line); len(f) > 9 && f[3] == listen && own[f[9]] {
				found = append(found, f[1])
			}
		}
	}
	return found
}
