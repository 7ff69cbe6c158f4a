package shim_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
)

// locked is a spec in a Landlock domain, without a user or control group.
func locked(abi int, write, script string, args ...string) shim.Spec {
	s := sh(script, args...)
	s.World = sandbox.World{Landlock: abi, Read: []string{"/"}, Write: []string{write, os.DevNull}}
	return s
}

// daemon starts $2 so that neither its parent nor its environment says whose it is,
// tells the pids and stays.
const daemon = `(env -i setsid /bin/sh -c "$2" "$1" &)
	echo $$ >> "$1"; while :; do sleep 5; done`

// What cleared its environment is found by what it holds, or held by its domain.
func TestNoDaemonOutlivesItsShim(t *testing.T) {
	t.Parallel()
	scoped := 6 // the first ABI by which a domain holds signals
	for name, tc := range map[string]struct {
		abi    int // at least
		script string
	}{
		"one that keeps its output": {0, `echo $$ >> "$0"; cd /; while :; do sleep 5; done`},
		"one that keeps nothing":    {scoped, `echo $$ >> "$0"; cd /; exec sleep 300 <&- >&- 2>&-`},
		"many that keep nothing": {scoped, `exec <&- >&- 2>&-; cd /; for i in 1 2 3 4 5 6 7 8; do
			(setsid /bin/sh -c 'echo $$ >> "$0"; exec sleep 300' "$0" &); done; echo $$ >> "$0"; exec sleep 300`},
		"one that kills all it can of the shim's": {scoped, `echo $$ >> "$0"; exec sleep 300 <&- >&- 2>&-`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			abi := sandbox.ABI()
			if abi < tc.abi {
				t.Skipf("this kernel's Landlock has ABI %d: nothing holds it (docs/operations.md)", abi)
			}
			if tc.abi == 0 {
				abi = 0
			}
			tmp := t.TempDir()
			file := filepath.Join(tmp, "pids")
			script, says := daemon, ""
			if strings.Contains(name, "kills") {
				script = `for p in $(cat /proc/$PPID/task/*/children); do [ $p = $$ ] || kill -9 $p 2>/dev/null || echo refused; done; ` + daemon
				says = "refused\n"
			}
			dir := start(t, locked(abi, tmp, script, file, tc.script))
			n := 2
			if strings.HasPrefix(name, "many") {
				n = 10
			}
			all := pids(t, file, n)
			until(t, "what the job says of its warden", func() bool { return log(t, dir) == says })
			st, err := shim.Look(dir)
			if err != nil || st.Phase != shim.Running {
				t.Fatalf("Look = %+v, %v", st, err)
			}
			if err := unix.Kill(st.PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if st, err = shim.Wait(t.Context(), dir); err != nil || st.Phase != shim.Died {
				t.Fatalf("Wait = %+v, %v, want died", st, err)
			}
			if _, err := shim.Sweep(dir); err != nil {
				t.Fatal(err)
			}
			for _, pid := range all {
				// What has its end from the kernel already may be seen for a moment.
				until(t, "the end of process", func() bool { return !alive(pid) })
			}
		})
	}
}

// A warden costs its job nothing: it ends as it would without one.
func TestAJobWithAWardenEndsByItself(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	file := filepath.Join(tmp, "pids")
	dir := start(t, locked(sandbox.ABI(), tmp, `(env -i setsid /bin/sh -c 'echo $$ >> "$0"; exec sleep 300' "$1" &)
		while [ ! -s "$1" ]; do sleep 0.01; done; echo over; exit 3`, file))
	if rec := wait(t, dir); rec.Exit.Code != 3 || log(t, dir) != "over\n" {
		t.Errorf("record %+v, log %q", rec, log(t, dir))
	}
	for _, pid := range pids(t, file, 1) {
		if alive(pid) {
			t.Errorf("process %d outlives its job", pid)
		}
	}
}

// What root may do is not what most may: the same as an ordinary user.
func TestWardensOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("the other tests run as one")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("/var/tmp", "ebb-test-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	tmp, bin := filepath.Join(dir, "tmp"), filepath.Join(dir, "test")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Copied by another process: what we have open for writing cannot be run by who
	// is forked meanwhile.
	copied, err := exec.Command("install", "-m", "755", self, bin).CombinedOutput()
	if err != nil {
		t.Fatalf("copy the test: %v\n%s", err, copied)
	}
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(tmp, 0o700), os.Chown(tmp, nobody, nobody)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), bin, "-test.run=NoDaemon|AJobWithAWarden|ADeadShim|StopEnds|WhatOutlives", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TMPDIR=" + tmp}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestNoDaemonOutlivesItsShim")) {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
}

// Until the warden has done its work nobody may say that nothing is left.
func TestAnAttemptIsNotDeadBeforeItsWarden(t *testing.T) {
	t.Parallel()
	if !(sandbox.World{Landlock: sandbox.ABI()}).CanScope() {
		t.Skip("this kernel's Landlock holds no signals")
	}
	tmp := t.TempDir()
	file := filepath.Join(tmp, "pids")
	dir := start(t, locked(sandbox.ABI(), tmp, `echo $$ >> "$1"; exec sleep 300`, file))
	job := pids(t, file, 1)[0]
	st, err := shim.Look(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob("/proc/" + strconv.Itoa(st.PID) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	warden := 0
	for _, name := range list {
		text, _ := os.ReadFile(name)
		for f := range strings.FieldsSeq(string(text)) {
			if pid, _ := strconv.Atoi(f); pid != job {
				warden = pid
			}
		}
	}
	if warden == 0 {
		t.Fatal("there is no warden")
	}
	gone, err := unix.PidfdOpen(st.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(gone)
	if err := unix.Kill(warden, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the warden to stand still", func() bool {
		text, _ := os.ReadFile("/proc/" + strconv.Itoa(warden) + "/stat")
		return strings.Contains(string(text), ") T ")
	})
	if err := unix.Kill(st.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// With all of its threads: the first may be a zombie while others have the lock.
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(gone), Events: unix.POLLIN}}, 20_000); n != 1 {
		t.Fatalf("waited 20 s for the shim's end: %v", err)
	}
	if st, err := shim.Look(dir); err != nil || st.Phase != shim.Running {
		t.Errorf("Look = %+v, %v, want running", st, err)
	}
	if _, err := shim.Sweep(dir); err == nil {
		t.Error("it was swept while its warden lives")
	}
	if err := unix.Kill(warden, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if st, err := shim.Wait(t.Context(), dir); err != nil || st.Phase != shim.Died {
		t.Errorf("Wait = %+v, %v, want died", st, err)
	}
}

// A pipe's number comes again, at the latest after the machine's next start: by what
// a shim wrote down before, nobody else may be killed.
func TestASweepLetsStrangersLive(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	stranger := exec.CommandContext(t.Context(), "/bin/sleep", "300")
	stranger.Stdout = w
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	w.Close()
	named, err := os.Readlink("/proc/" + strconv.Itoa(stranger.Process.Pid) + "/fd/1")
	if err != nil {
		t.Fatal(err)
	}
	for name, held := range map[string]string{
		"by a number":         fmt.Sprintf(`"pipe":%d`, st.Ino),
		"by a number as name": fmt.Sprintf(`"output":%q`, named),
		"by no name":          `"output":""`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			line := fmt.Sprintf("%-10d\n{%s,\"process\":4242,\"started\":\"2026-01-01T00:00:00Z\"}\n", 4241, held)
			if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(line), 0o600); err != nil {
				t.Fatal(err)
			}
			if rec, err := shim.Sweep(dir); err != nil || !rec.Swept {
				t.Errorf("Sweep = %+v, %v", rec, err)
			}
			// A killed one is a zombie until it is waited for, or about to be.
			if !alive(stranger.Process.Pid) {
				t.Error("a stranger was killed")
			}
		})
	}
}

// What a sweep knows a job by is no hindrance to it: it writes to its output by
// name, and leaves nothing in its folder.
func TestOutputThatASweepKnows(t *testing.T) {
	t.Parallel()
	for _, abi := range []int{0, sandbox.ABI()} {
		dir := start(t, locked(abi, t.TempDir(), `echo one > /dev/stdout; echo two >> /dev/stderr; echo three > /proc/self/fd/1; (echo four)`))
		if rec := wait(t, dir); rec.Exit.Code != 0 || log(t, dir) != "one\ntwo\nthree\nfour\n" {
			t.Errorf("in a domain of ABI %d: %+v, log %q", abi, rec.Exit, log(t, dir))
		}
		if b, err := os.ReadFile(filepath.Join(dir, "lock")); err != nil || !strings.Contains(string(b), "/output (deleted)") {
			t.Errorf("the lock says %q, %v", b, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "output")); !os.IsNotExist(err) {
			t.Errorf("something is left of its output: %v", err)
		}
	}
}
