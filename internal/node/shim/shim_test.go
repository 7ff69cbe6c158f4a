package shim_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/node/shim/uids"
)

// The test binary is its own shim.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "shim" {
		os.Exit(shim.Main(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "start-and-die" { // an agent that starts and is gone
		if err := shim.Start(os.Args[2], sh(`while [ ! -e "$1" ]; do sleep 0.01; done; echo done`, filepath.Join(os.Args[2], "go"))); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const path = "PATH=/usr/local/bin:/usr/bin:/bin"

func sh(script string, args ...string) shim.Spec {
	return shim.Spec{
		Argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...),
		Env:  []string{path}, Dir: "/", Log: "user_logs/std_log.txt", Grace: 5 * time.Second,
	}
}

func start(t *testing.T, spec shim.Spec) string {
	t.Helper()
	dir := t.TempDir()
	if err := shim.Start(dir, spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // nothing outlives its test, however it went
		_ = shim.Stop(dir, queue.ByCancel, 0)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if st, _ := shim.Wait(ctx, dir); st.Phase == shim.Died {
			_, _ = shim.Sweep(dir)
		}
	})
	return dir
}

func wait(t *testing.T, dir string) shim.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	st, err := shim.Wait(ctx, dir)
	if err != nil || st.Phase != shim.Ended {
		b, _ := os.ReadFile(filepath.Join(dir, "shim.log"))
		t.Fatalf("Wait = %+v, %v, want an ended attempt; the shim said %q", st, err, b)
	}
	return st.Record
}

func log(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log/user_logs/std_log.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// until waits for a condition that another process brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// pids reads the pids that a script wrote, once there are n.
func pids(t *testing.T, file string, n int) []int {
	t.Helper()
	var out []int
	until(t, "pids of the job", func() bool {
		b, _ := os.ReadFile(file)
		out = nil
		for line := range strings.Lines(string(b)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && strings.HasSuffix(line, "\n") {
				out = append(out, pid)
			}
		}
		return len(out) >= n
	})
	return out
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b[strings.LastIndexByte(string(b), ')'):]), ") Z")
}

func TestRecords(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("line\\n", 50)
	tests := map[string]struct {
		spec  shim.Spec
		cause queue.Cause
		code  int
		words []string // of the message, in it
		none  bool     // there is no message
	}{
		"a process that ends well says nothing":      {spec: sh("echo hello"), cause: queue.ByExit, none: true},
		"a non-zero exit carries the last lines":     {spec: sh("echo oh no >&2; exit 3"), cause: queue.ByExit, code: 3, words: []string{"code 3", "oh no", "user_logs/std_log.txt"}},
		"a log is named as people know it":           {spec: func() shim.Spec { s := sh("echo oh; exit 3"); s.LogWords = "the shown name"; return s }(), cause: queue.ByExit, code: 3, words: []string{"lines of the shown name:\noh"}},
		"only the last twenty lines are carried":     {spec: sh("printf 'first\\n" + long + "'; exit 1"), cause: queue.ByExit, code: 1, words: []string{"line\nline"}},
		"a signal is named":                          {spec: sh("kill -SEGV $$"), cause: queue.ByExit, code: 139, words: []string{"SIGSEGV", "139"}},
		"a program that is not there is setup":       {spec: shim.Spec{Argv: []string{"/no/such"}, Env: []string{path}, Dir: "/", Log: "l"}, cause: queue.BySetup, code: 127, words: []string{"/no/such", "no such file"}},
		"a program that is not in PATH is setup":     {spec: shim.Spec{Argv: []string{"no-such-program"}, Env: []string{path}, Dir: "/", Log: "l"}, cause: queue.BySetup, code: 127, words: []string{"no-such-program", "PATH"}},
		"a program that is not executable is setup":  {spec: shim.Spec{Argv: []string{"/etc/passwd"}, Env: []string{path}, Dir: "/", Log: "l"}, cause: queue.BySetup, code: 126, words: []string{"not executable"}},
		"a working folder that is not there says so": {spec: shim.Spec{Argv: []string{"/bin/true"}, Env: []string{path}, Dir: "/no/dir", Log: "l"}, cause: queue.ByNodeLoss, code: 137, words: []string{"/no/dir"}},
		"arguments with a zero byte are setup":       {spec: sh("echo a\x00b"), cause: queue.BySetup, code: 126, words: []string{"zero byte"}},
		"a process past its time is stopped": {
			spec:  func() shim.Spec { s := sh("exec sleep 60"); s.TimeLimit = 30 * time.Millisecond; return s }(),
			cause: queue.ByTimeout, code: 143, words: []string{"time limit of 30ms"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := wait(t, start(t, tt.spec))
			e := rec.Exit
			if e.Cause != tt.cause || e.Code != tt.code {
				t.Errorf("ended by %q with %d (%s), want %q with %d", e.Cause, e.Code, e.Message, tt.cause, tt.code)
			}
			for _, w := range tt.words {
				if !strings.Contains(e.Message, w) {
					t.Errorf("message %q lacks %q", e.Message, w)
				}
			}
			if tt.none && e.Message != "" {
				t.Errorf("message %q, want none", e.Message)
			}
			if strings.Contains(e.Message, "first") || len(e.Message) > 2300 {
				t.Errorf("message carries more than the last lines: %q", e.Message)
			}
			if e.Ended.IsZero() || e.Ended.Before(e.Started) {
				t.Errorf("started %v, ended %v", e.Started, e.Ended)
			}
		})
	}
}

func TestAnInterpreterThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "run")
	if err := os.WriteFile(script, []byte("#!/no/such/python\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rec := wait(t, start(t, shim.Spec{Argv: []string{script}, Env: []string{path}, Dir: "/", Log: "l"}))
	if rec.Exit.Code != 127 || !strings.Contains(rec.Exit.Message, "interpreter") {
		t.Errorf("record %+v, want 127 and a word about the interpreter", rec.Exit)
	}
}

// Whoever reads the log of a job that ran too long reads why it says no more.
func TestTheTimeLimitEndsTheLog(t *testing.T) {
	t.Parallel()
	const last = "[ebb] The job ran longer than its time limit of 2s and was stopped.\n"
	for command, want := range map[string]string{
		"echo one; exec sleep 60":             "one\n" + last,
		"printf 'half a line'; exec sleep 60": "half a line\n" + last,
		"exec sleep 60":                       last,
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			spec := sh(command)
			spec.TimeLimit = 2 * time.Second
			dir := start(t, spec)
			rec := wait(t, dir)
			if got := log(t, dir); got != want || rec.Logs[spec.Log] != int64(len(want)) {
				t.Errorf("log = %q of %v, want %q", got, rec.Logs, want)
			}
		})
	}
}

func TestLogHasEverythingInOrderAndItsSize(t *testing.T) {
	t.Parallel()
	dir := start(t, sh(`echo one; echo two >&2; echo three > /dev/stdout; seq 1 20000`))
	rec := wait(t, dir)
	got := log(t, dir)
	if !strings.HasPrefix(got, "one\ntwo\nthree\n1\n2\n") || !strings.HasSuffix(got, "\n19999\n20000\n") {
		t.Errorf("log is %d bytes, begins %.40q", len(got), got)
	}
	if rec.Logs["user_logs/std_log.txt"] != int64(len(got)) {
		t.Errorf("record has sizes %v, log is %d bytes", rec.Logs, len(got))
	}
}

func TestEnvironmentIsTheSpecsAlone(t *testing.T) {
	t.Setenv("EBB_TEST_SECRET", "canary")
	dir := start(t, sh("env; pwd; ls -l /proc/self/fd"))
	wait(t, dir)
	got := log(t, dir)
	if strings.Contains(got, "canary") || !strings.Contains(got, path) {
		t.Errorf("the job's environment is not the spec's: %s", got)
	}
	if strings.Contains(got, "/lock") {
		t.Errorf("the job has a descriptor of ours: %s", got)
	}
}

func TestASpecWithoutCommandOrWithAStrayLogIsRefused(t *testing.T) {
	t.Parallel()
	for _, spec := range []shim.Spec{{Log: "l"}, {Argv: []string{"true"}, Log: "../l"}, {Argv: []string{"true"}, Log: "/l"}, {Argv: []string{"true"}}} {
		dir := t.TempDir()
		if err := shim.Start(dir, spec); err == nil {
			t.Errorf("Start(%+v) was not refused", spec)
		}
		if st, err := shim.Look(dir); err != nil || st.Phase != shim.None {
			t.Errorf("Look = %+v, %v, want none", st, err)
		}
	}
}

func TestStartIsOnce(t *testing.T) {
	t.Parallel()
	dir := start(t, sh("echo ran; exec sleep 0.1"))
	if err := shim.Start(dir, sh("echo again")); !errors.Is(err, shim.ErrStarted) {
		t.Errorf("second Start while running = %v, want ErrStarted", err)
	}
	wait(t, dir)
	if err := shim.Start(dir, sh("echo again")); !errors.Is(err, shim.ErrStarted) {
		t.Errorf("second Start after the end = %v, want ErrStarted", err)
	}
	if got := log(t, dir); got != "ran\n" {
		t.Errorf("log = %q, want one run", got)
	}
}

func TestStopEndsEverythingThatDescends(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	// One that ignores SIGTERM in a session of its own, whose parent is gone.
	dir := start(t, sh(`(setsid sh -c 'trap "" TERM; echo $$ >> "$0"; while :; do sleep 1; done' "$1" &) &
		echo $$ >> "$1"; trap "" TERM; while :; do sleep 1; done`, file))
	all := pids(t, file, 2)
	begun := time.Now()
	for range 3 { // it may be asked again
		if err := shim.Stop(dir, queue.ByCancel, 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	rec := wait(t, dir)
	if rec.Exit.Cause != queue.ByCancel || rec.Exit.Code != 137 {
		t.Errorf("record %+v, want cancel and 137", rec.Exit)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v with a grace of 50 ms", took)
	}
	for _, pid := range all {
		if alive(pid) {
			t.Errorf("process %d of the job lives after its record", pid)
		}
	}
}

func TestStopLetsAProcessEndInItsGrace(t *testing.T) {
	t.Parallel()
	dir := start(t, sh(`trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.01; done`))
	until(t, "the job to be ready", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "log/user_logs/std_log.txt"))
		return len(b) > 0
	})
	if err := shim.Stop(dir, queue.ByPreemption, time.Minute); err != nil {
		t.Fatal(err)
	}
	rec := wait(t, dir)
	if rec.Exit.Cause != queue.ByPreemption || rec.Exit.Code != 0 || !strings.HasSuffix(log(t, dir), "saved\n") {
		t.Errorf("record %+v, log %q", rec.Exit, log(t, dir))
	}
}

func TestWhatOutlivesItsMainProcessIsKilled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := start(t, sh(`for i in 1 2 3; do (setsid sh -c 'trap "" TERM HUP; echo $$ >> "$0"; while :; do sleep 5; done' "$1" &) ; done
		while [ "$(wc -l < "$1")" -lt 3 ]; do sleep 0.01; done; exit 0`, file))
	rec := wait(t, dir)
	if rec.Exit.Cause != queue.ByExit || rec.Exit.Code != 0 {
		t.Errorf("record %+v, want a good exit", rec.Exit)
	}
	for _, pid := range pids(t, file, 3) {
		if alive(pid) {
			t.Errorf("process %d outlived its job", pid)
		}
	}
}

func TestAFolderStoppedBeforeItStartsRunsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := shim.Stop(dir, queue.ByCancel, 0); err != nil {
		t.Fatal(err)
	}
	if st, err := shim.Look(dir); err != nil || st.Phase != shim.None {
		t.Fatalf("Look = %+v, %v, want none", st, err)
	}
	if err := shim.Start(dir, sh("echo ran")); err != nil {
		t.Fatal(err)
	}
	rec := wait(t, dir)
	if rec.Exit.Cause != queue.ByCancel || len(rec.Logs) != 0 {
		t.Errorf("record %+v, want a cancel and no log", rec)
	}
}

func TestAnAgentMayDieAndAnotherFindsItsAttempt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := exec.Command("/proc/self/exe", "start-and-die", dir).Run(); err != nil {
		t.Fatal(err)
	}
	st, err := shim.Look(dir)
	if err != nil || st.Phase != shim.Running || !alive(st.PID) {
		t.Fatalf("Look = %+v, %v, want a running shim", st, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if rec := wait(t, dir); rec.Exit.Code != 0 || log(t, dir) != "done\n" {
		t.Errorf("record %+v, log %q", rec, log(t, dir))
	}
}

func TestADeadShimLeavesNothingOnceSwept(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	dir := start(t, sh(`(setsid sh -c 'trap "" TERM; echo $$ >> "$0"; while :; do sleep 5; done' "$1" &)
		echo $$ >> "$1"; while :; do sleep 5; done`, file))
	all := pids(t, file, 2)
	st, err := shim.Look(dir)
	if err != nil || st.Phase != shim.Running {
		t.Fatalf("Look = %+v, %v", st, err)
	}
	if _, err := shim.Sweep(dir); err == nil {
		t.Error("a living shim was swept")
	}
	if err := unix.Kill(st.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	st, err = shim.Wait(t.Context(), dir)
	if err != nil || st.Phase != shim.Died {
		t.Fatalf("Wait = %+v, %v, want died", st, err)
	}
	rec, err := shim.Sweep(dir)
	if err != nil || !rec.Swept || rec.Exit.Cause != queue.ByNodeLoss {
		t.Fatalf("Sweep = %+v, %v", rec, err)
	}
	for _, pid := range all {
		if alive(pid) {
			t.Errorf("process %d lives after the sweep", pid)
		}
	}
	if again, err := shim.Sweep(dir); err != nil || again.Exit != rec.Exit {
		t.Errorf("second Sweep = %+v, %v, want the same record", again, err)
	}
	if st, err := shim.Look(dir); err != nil || st.Phase != shim.Ended {
		t.Errorf("Look after the sweep = %+v, %v", st, err)
	}
}

func TestAReusedPidIsNotAShim(t *testing.T) {
	t.Parallel()
	dir := start(t, sh("exec sleep 60"))
	st, _ := shim.Look(dir)
	_ = unix.Kill(st.PID, unix.SIGKILL)
	if st, err := shim.Wait(t.Context(), dir); err != nil || st.Phase != shim.Died {
		t.Fatalf("Wait = %+v, %v", st, err)
	}
	// The pid in the file is that of a process that lives: us.
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := shim.Look(dir); err != nil || st.Phase != shim.Died {
		t.Errorf("Look = %+v, %v, want died", st, err)
	}
	if st, err := shim.Wait(t.Context(), dir); err != nil || st.Phase != shim.Died {
		t.Errorf("Wait = %+v, %v, want died", st, err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := start(t, sh("exec sleep 60"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if st, err := shim.Wait(ctx, dir); !errors.Is(err, context.DeadlineExceeded) || st.Phase != shim.Running {
		t.Errorf("Wait = %+v, %v, want running and the deadline", st, err)
	}
}

func TestSIGTERMToTheShimStopsTheJob(t *testing.T) {
	t.Parallel()
	dir := start(t, sh("exec sleep 60"))
	until(t, "the process to start", func() bool { st, _ := shim.Look(dir); return st.Process != 0 })
	st, _ := shim.Look(dir)
	_ = unix.Kill(st.PID, unix.SIGTERM)
	if rec := wait(t, dir); rec.Exit.Cause != queue.ByNodeLoss || rec.Exit.Code != 143 {
		t.Errorf("record %+v", rec.Exit)
	}
}

func TestUsersAreLentOncePerLivingAttempt(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: users are given by root only")
	}
	t.Parallel()
	users := uids.Folder // the machine's: a uid of ours must not be another test's
	spec := sh("id -u; id -G; exec sleep 60")
	spec.Users = users
	var seen []string
	for range 3 {
		dir := start(t, spec)
		until(t, "the job to print its user", func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, "log/user_logs/std_log.txt"))
			return strings.Count(string(b), "\n") == 2
		})
		f := strings.Fields(log(t, dir))
		if len(f) != 2 || f[0] != f[1] {
			t.Errorf("job has user and groups %q, want one user and its own group", f)
		}
		seen = append(seen, f[0])
	}
	if seen[0] == seen[1] || seen[1] == seen[2] || seen[0] == seen[2] {
		t.Errorf("living attempts share a user: %v", seen)
	}
	l, err := uids.Take(users, "somebody")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if slices.Contains(seen, strconv.Itoa(l.UID)) {
		t.Errorf("user %d is lent twice, of %v", l.UID, seen)
	}
}

// A power cut may leave anything in a file that was not synced.
func TestWhatAPowerCutLeavesIsSwept(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"nothing":          {},
		"an empty lock":    {"lock": ""},
		"zeros in a lock":  {"lock": "\x00\x00\x00\x00\x00\x00\x00"},
		"half of a lock":   {"lock": "123       \n{\"uid\":21000"},
		"lock without pid": {"lock": "          \n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if st, err := shim.Look(dir); err != nil || st.Phase != shim.Died && st.Phase != shim.None {
				t.Fatalf("Look = %+v, %v, want died or none", st, err)
			}
			if rec, err := shim.Sweep(dir); err != nil || !strings.Contains(rec.Exit.Message, "before the job's process") {
				t.Errorf("Sweep = %+v, %v", rec, err)
			}
			if err := shim.Forget(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestALivingAttemptIsNotForgotten(t *testing.T) {
	t.Parallel()
	dir := start(t, sh("exec sleep 60"))
	if err := shim.Forget(dir); err == nil {
		t.Error("a living attempt was forgotten")
	}
}
