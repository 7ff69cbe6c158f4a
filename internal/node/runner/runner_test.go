package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/launch"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
	"github.com/ebb-compute/ebb/internal/node/runner"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// The test binary is its own shim, and what starts the processes of a gang.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "shim" {
		os.Exit(shim.Main(os.Args[2:]))
	}
	if len(os.Args) == 2 && os.Args[1] == "launch" {
		os.Exit(launch.Main())
	}
	if len(os.Args) == 2 && os.Args[1] == "rank" {
		os.Exit(rank.Main())
	}
	os.Exit(m.Run())
}

// data makes a data folder that is closed to everybody but us.
func data(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newRunner(t *testing.T, data string, change ...func(*runner.Config)) *runner.Runner {
	t.Helper()
	cfg := runner.Config{Cache: filepath.Join(data, "cache"), Hide: []string{data}}
	for _, c := range change {
		c(&cfg)
	}
	r, err := runner.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func needUsers(t *testing.T, r *runner.Runner) {
	t.Helper()
	if r.Isolation() != runner.UserAndLandlock {
		t.Skipf("this machine gives %q only: %v", r.Isolation(), r.Warnings())
	}
}

func order(command string) nodeproto.Order {
	return nodeproto.Order{
		Task:    queue.Task{Run: uuid.NewString(), Command: command},
		LogName: "user_logs/std_log.txt", VCPUs: 64, MemoryGiB: 4096,
	}
}

// begin starts an attempt below the data folder and returns its folder.
func begin(t *testing.T, r *runner.Runner, data string, o nodeproto.Order) string {
	t.Helper()
	dir := filepath.Join(data, "nodes/n/attempts", uuid.NewString())
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "train.py"), []byte("import sys\nprint('args', sys.argv[1:])\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return beginIn(t, r, dir, o)
}

// beginIn starts an attempt in its folder.
func beginIn(t *testing.T, r *runner.Runner, dir string, o nodeproto.Order) string {
	t.Helper()
	var out bytes.Buffer
	spec, err := r.Prepare(t.Context(), dir, o, &out)
	if err != nil {
		t.Fatalf("Prepare: %v\n%s", err, out.String())
	}
	if err := shim.Start(dir, spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shim.Stop(dir, queue.ByCancel, 0)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if st, _ := shim.Wait(ctx, dir); st.Phase == shim.Died {
			_, _ = shim.Sweep(dir)
		}
	})
	return dir
}

func finish(t *testing.T, dir string) (shim.Record, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	st, err := shim.Wait(ctx, dir)
	if err != nil || st.Phase != shim.Ended {
		b, _ := os.ReadFile(filepath.Join(dir, "shim.log"))
		t.Fatalf("Wait = %+v, %v; the shim said %q", st, err, b)
	}
	return st.Record, readLog(dir)
}

func readLog(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "log/user_logs/std_log.txt"))
	return string(b)
}

func do(t *testing.T, r *runner.Runner, data, command string) (shim.Record, string) {
	t.Helper()
	return finish(t, begin(t, r, data, order(command)))
}

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

func TestAJobRunsInItsCodeWithItsVariables(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d, func(c *runner.Config) { c.Variables = map[string]string{"A": "node", "B": "node", "C": "node"} })
	o := order(`pwd; ls; echo "$A $B $C"; test -w "$HOME" && echo home; echo "gpu[$CUDA_VISIBLE_DEVICES] $PYTHONUNBUFFERED"; echo x > made && cat made`)
	o.Task.Variables = map[string]string{"B": "user", "C": "user", "CUDA_VISIBLE_DEVICES": "7", "BAD=NAME": "x"}
	o.Variables = map[string]string{"C": "server"}
	rec, log := finish(t, begin(t, r, d, o))
	if rec.Exit.Code != 0 {
		t.Fatalf("record %+v, log %s", rec.Exit, log)
	}
	for _, want := range []string{"train.py\n", "node user server\n", "home\n", "gpu[] 1\n", "x\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	if wd := "/tmp/azureml/cr/j/" + strings.ReplaceAll(o.Task.Run, "-", "") + "/exe/wd\n"; r.Isolation() == runner.UserAndLandlock && !strings.HasPrefix(log, wd) {
		t.Errorf("job runs in %.80q, want %q", log, wd)
	}
}

func TestAScriptRunsByTheNodesPython(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	o := order("")
	o.Task.Script, o.Task.Arguments = "train.py", []string{"--lr", "0.1"}
	o.Task.Environment = queue.Environment{UserManaged: true, Interpreter: "python", Python: "3.8.13", Pip: []string{"azureml-defaults"}}
	rec, log := finish(t, begin(t, r, d, o))
	if rec.Exit.Code != 0 || log != "args ['--lr', '0.1']\n" {
		t.Errorf("record %+v, log %q", rec.Exit, log)
	}
	rec, log = do(t, r, d, `for p in python python3; do $p -c 'import sys, os; print(sys.version_info[0], os.path.realpath(sys.executable))'; done`)
	if rec.Exit.Code != 0 || strings.Count(log, "3 /") != 2 || strings.Contains(log, "/root/") {
		t.Errorf("record %+v, log %q, want Python 3 twice and not root's", rec.Exit, log)
	}
}

func TestTheNodesDevicesAreTheJobs(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d, func(c *runner.Config) { c.GPUs = []string{"2", "3"} })
	if _, log := do(t, r, d, `echo "$CUDA_VISIBLE_DEVICES"`); log != "2,3\n" {
		t.Errorf("CUDA_VISIBLE_DEVICES is %q", log)
	}
}

func TestTheBundleIsTrustedUnlessTheUserHasTheirOwn(t *testing.T) {
	t.Parallel()
	d := data(t)
	ca := filepath.Join(d, "bundle.pem")
	if err := os.WriteFile(ca, []byte("the bundle\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRunner(t, d, func(c *runner.Config) { c.CA = ca })
	o := order(`cat "$REQUESTS_CA_BUNDLE" "$CURL_CA_BUNDLE"; echo "$SSL_CERT_FILE"`)
	o.Task.Variables = map[string]string{"SSL_CERT_FILE": "/mine"}
	if _, log := finish(t, begin(t, r, d, o)); log != "the bundle\nthe bundle\n/mine\n" {
		t.Errorf("log %q", log)
	}
}

// attacks are commands that print "got" if they succeed; %s is a secret of
// another job or of the node, by name.
func TestAJobCannotLeaveItsWorld(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	needUsers(t, r)
	if err := os.WriteFile(filepath.Join(d, "secret"), []byte("s"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := begin(t, r, d, order(`echo hidden > /tmp/file; echo hidden > mine; echo $$; exec sleep 300`))
	var pid string
	until(t, "the other job", func() bool { pid = strings.TrimSpace(readLog(other)); return pid != "" })
	l, err := net.Listen("unix", "@ebb-test-"+uuid.NewString())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tests := map[string]string{
		"reads the data folder":             "cat " + filepath.Join(d, "secret"),
		"reads another job's code":          "cat " + filepath.Join(other, "work/mine"),
		"reads another job's log":           "cat " + filepath.Join(other, "log/user_logs/std_log.txt"),
		"reads another job's lock":          "cat " + filepath.Join(other, "lock"),
		"reads another job's environment":   "cat /proc/" + pid + "/environ",
		"enters another job's root":         "ls /proc/" + pid + "/root/tmp",
		"reads another job's working place": "ls /proc/" + pid + "/cwd/",
		"kills another job":                 "kill -9 " + pid,
		"kills its shim":                    "kill -9 $PPID",
		"reads its shim's environment":      "cat /proc/$PPID/environ",
		"writes to the system":              "touch /usr/ebb-test /etc/ebb-test /opt/ebb-test",
		"reads root's home":                 "ls /root",
		"reads other users' homes":          "ls /home",
		"reads shadow":                      "cat /etc/shadow",
		"writes where others read":          "touch /var/lib/ebb-test",
		"sees files in /tmp":                "test -n \"$(ls /tmp | grep -v azureml)\"",
		"sees another's shared memory":      "test -n \"$(ls /dev/shm)\"",
		"leaves its folder by a link":       "ln -s " + d + " out && ls out/",
		"gets root by a setuid program":     "python3 -c 'import os; os.setuid(0)'",
		"mounts":                            "mount -t tmpfs x /tmp",
		"makes a namespace and mounts":      "unshare -Urm mount -t tmpfs x /mnt",
		"writes its control group":          "for f in $(find /sys/fs/cgroup -path '*ebb*' -name cgroup.procs); do echo 1 > $f; done",
		"reaches abstract sockets":          `python3 -c "import socket; socket.socket(socket.AF_UNIX).connect('\0` + l.Addr().String()[1:] + `')"`,
		"traces its shim":                   `python3 -c "open('/proc/$PPID/mem')"`,
	}
	for name, attack := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec, log := do(t, r, d, "if "+attack+" ; then echo got; fi; echo over")
			if strings.Contains(log, "got\n") || !strings.HasSuffix(log, "over\n") || rec.Exit.Code != 0 {
				t.Errorf("a job %s: %+v\n%s", name, rec.Exit, log)
			}
		})
	}
}

func TestAJobMayDoWhatJobsDo(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	tests := map[string]string{
		"write in its code":                   "mkdir -p outputs/deep && echo x > outputs/deep/f && mv outputs/deep/f g && rm -r outputs g",
		"write in a temporary folder":         "f=$(mktemp) && echo x > $f && rm $f",
		"print by name":                       "echo x > /dev/stdout && echo x | tee /dev/stderr",
		"use shared memory":                   `python3 -c "from multiprocessing import Lock, Pool, shared_memory as s; Lock(); m=s.SharedMemory(create=True, size=10); m.unlink(); print(Pool(2).map(abs, [1]))"`,
		"stop its own children":               "sleep 100 & kill $! && ! wait $!",
		"find hosts":                          `python3 -c "import socket; socket.getaddrinfo('localhost', 80)"`,
		"connect and listen":                  `python3 -c "import socket; s=socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"`,
		"use a terminal":                      `python3 -c "import pty; pty.spawn(['/bin/true'])"`,
		"know its name":                       `python3 -c "import getpass; getpass.getuser()"`,
		"make and run a program":              `printf '#!/bin/sh\nexit 0\n' > run && chmod +x run && ./run`,
		"make a socket file and a named pipe": `mkfifo p && python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('s')"`,
	}
	for name, deed := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if rec, log := do(t, r, d, "set -e; "+deed); rec.Exit.Code != 0 {
				t.Errorf("a job cannot %s: %+v\n%s", name, rec.Exit, log)
			}
		})
	}
}

func TestLandlockAloneKeepsJobsApart(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d, func(c *runner.Config) { c.NoUsers = true })
	if r.Isolation() != runner.LandlockOnly {
		t.Skipf("this machine gives %q", r.Isolation())
	}
	other := begin(t, r, d, order(`echo hidden > mine; echo $$; exec sleep 300`))
	var pid string
	until(t, "the other job", func() bool { pid = strings.TrimSpace(readLog(other)); return pid != "" })
	for name, attack := range map[string]string{
		"reads another job's code":        "cat " + filepath.Join(other, "work/mine"),
		"reads another job's lock":        "cat " + filepath.Join(other, "lock"),
		"reads another job's environment": "cat /proc/" + pid + "/environ",
		"kills another job":               "kill -9 " + pid,
		"kills its shim":                  "kill -9 $PPID",
		"writes to the system":            "touch /usr/ebb-test",
		"reads a home":                    "ls /root /home",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if os.Getuid() == 0 && strings.Contains(name, "environment") {
				t.Skip("whoever has CAP_PERFMON reads it past Landlock (Linux 6.16); TestAsAnOrdinaryUser tries it without")
			}
			rec, log := do(t, r, d, `cd; echo x > "$TMPDIR/f"; if `+attack+" ; then echo got; fi; echo over")
			if strings.Contains(log, "got\n") || !strings.HasSuffix(log, "over\n") || rec.Exit.Code != 0 {
				t.Errorf("a job %s: %+v\n%s", name, rec.Exit, log)
			}
		})
	}
}

// What root has is not what most users have: the same tests without it.
func TestAsAnOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests run as one")
	}
	t.Parallel()
	const nobody = 65534
	dir, err := os.MkdirTemp("/var/tmp", "ebb-test-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "tmp"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Not written by us: what another test forks meanwhile would have it open, and
	// what is open for writing cannot be run.
	bin := filepath.Join(dir, "test")
	if out, err := exec.Command("install", "-m", "755", self, bin).CombinedOutput(); err != nil {
		t.Fatalf("copy the test: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-test.run=Landlock|JobRuns|AScript|MayDo|Bundle|FilesOf", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TMPDIR=" + filepath.Join(dir, "tmp")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestAJobMayDoWhatJobsDo")) {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
}

func TestWithoutAnyIsolationJobsRunAndItIsSaid(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d, func(c *runner.Config) { c.NoUsers, c.NoLandlock, c.NoLimits = true, true, true })
	if got := r.Isolation(); got != runner.NoIsolation {
		t.Errorf("Isolation = %q", got)
	}
	if rec, log := do(t, r, d, "pwd; cat train.py"); rec.Exit.Code != 0 || !strings.Contains(log, "import sys") {
		t.Errorf("record %+v, log %q", rec.Exit, log)
	}
}

func TestMoreThanTheMemoryOfTheSizeIsSaid(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	if len(r.Warnings()) > 0 && strings.Contains(fmt.Sprint(r.Warnings()), "not enforced") {
		t.Skipf("no limits here: %v", r.Warnings())
	}
	o := order(`python3 -c "b = bytearray(400 << 20)"`)
	o.MemoryGiB = 0.125
	rec, log := finish(t, begin(t, r, d, o))
	if rec.Exit.Code == 0 || !strings.Contains(rec.Exit.Message, "memory limit of 0.125 GiB of the size") {
		t.Errorf("record %+v, log %q", rec.Exit, log)
	}
}

func TestAForkBombEndsWithItsJob(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	needUsers(t, r)
	o := order(`echo ready; f() { sleep 100 & f & f; }; f`)
	dir := begin(t, r, d, o)
	until(t, "the bomb", func() bool { return readLog(dir) != "" })
	if err := shim.Stop(dir, queue.ByCancel, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if rec, _ := finish(t, dir); rec.Exit.Cause != queue.ByCancel {
		t.Errorf("record %+v", rec.Exit)
	}
}

func TestNothingIsLeftOfAKilledShimsJob(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	needUsers(t, r)
	dir := begin(t, r, d, order(`(env -i setsid sh -c 'trap "" TERM; echo $$; while :; do sleep 5; done' &) ; echo $$; exec sleep 300`))
	until(t, "the job", func() bool { return strings.Count(readLog(dir), "\n") == 2 })
	st, _ := shim.Look(dir)
	p, _ := os.FindProcess(st.PID)
	_ = p.Kill()
	if st, err := shim.Wait(t.Context(), dir); err != nil || st.Phase != shim.Died {
		t.Fatalf("Wait = %+v, %v", st, err)
	}
	rec, err := shim.Sweep(dir)
	if err != nil || !rec.Swept {
		t.Fatalf("Sweep = %+v, %v", rec, err)
	}
	for pid := range strings.FieldsSeq(readLog(dir)) {
		if b, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(b), ") Z") {
			t.Errorf("process %s lives: %s", pid, b)
		}
	}
}

func TestFilesOfJobsCanBeReadAndRemoved(t *testing.T) {
	t.Parallel()
	d := data(t)
	r := newRunner(t, d)
	dir := begin(t, r, d, order(`umask 077; mkdir -p outputs/a && echo x > outputs/a/f && chmod 500 outputs/a`))
	finish(t, dir)
	if b, err := os.ReadFile(filepath.Join(dir, "work/outputs/a/f")); err != nil || string(b) != "x\n" {
		t.Errorf("read an output: %q, %v", b, err)
	}
	if err := shim.Forget(dir); err != nil {
		t.Errorf("forget an attempt: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the attempt is still there")
	}
}

func BenchmarkStart(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(*runner.Config)
	}{
		{"all", func(*runner.Config) {}},
		{"no limits", func(c *runner.Config) { c.NoLimits = true }},
		{"landlock alone", func(c *runner.Config) { c.NoLimits, c.NoUsers = true, true }},
		{"none", func(c *runner.Config) { c.NoLimits, c.NoUsers, c.NoLandlock = true, true, true }},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := filepath.Join(b.TempDir(), "data")
			cfg := runner.Config{Cache: filepath.Join(d, "cache"), Hide: []string{d}}
			c.change(&cfg)
			r, err := runner.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			r.Warm(b.Context())
			var prep, start, total, limit []time.Duration
			for b.Loop() {
				dir := filepath.Join(d, uuid.NewString())
				if err := os.MkdirAll(filepath.Join(dir, "work"), 0o700); err != nil {
					b.Fatal(err)
				}
				begun := time.Now()
				out, err := exec.Command("/bin/date", "+%s%N").Output()
				if err != nil {
					b.Fatal(err)
				}
				limit = append(limit, printed(b, string(out)).Sub(begun))
				begun = time.Now()
				spec, err := r.Prepare(b.Context(), dir, order("exec date +%s%N"), nil)
				if err != nil {
					b.Fatal(err)
				}
				spec.Argv = []string{"/bin/date", "+%s%N"}
				prep = append(prep, time.Since(begun))
				if err := shim.Start(dir, spec); err != nil {
					b.Fatal(err)
				}
				start = append(start, time.Since(begun))
				if _, err := shim.Wait(b.Context(), dir); err != nil {
					b.Fatal(err)
				}
				total = append(total, printed(b, readLog(dir)).Sub(begun))
			}
			for name, all := range map[string][]time.Duration{"prepared": prep, "started": start, "running": total, "fork+exec": limit} {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs-"+name)
			}
		})
	}
}

// printed reads nanoseconds since 1970.
func printed(b *testing.B, s string) time.Time {
	b.Helper()
	var ns int64
	if _, err := fmt.Sscan(s, &ns); err != nil {
		b.Fatal(err)
	}
	return time.Unix(0, ns)
}
