package container_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node/container"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/node/shim/uids"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// The test binary is its own shim and holder; in the container runs the built ebb.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "shim":
			os.Exit(shim.Main(os.Args[2:]))
		case "contain":
			os.Exit(container.Main(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// world is an attempt of one test.
type world struct {
	t      *testing.T
	docker *testkit.Docker
	dir    string
	spec   container.Spec
	grace  time.Duration
	limit  time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	d := testkit.StartDocker(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	e, err := container.Find(ctx, d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, docker: d, dir: t.TempDir(), grace: 5 * time.Second}
	work := filepath.Join(w.dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	w.spec = container.Spec{
		Engine: e, Installation: uuid.NewString(), Attempt: uuid.NewString() + ".1", Image: d.Image, Shown: d.Image,
		Dir: "/work", Mount: []container.Mount{{From: work, To: "/work"}}, User: container.JobUser, PIDs: 1000,
		Cache: t.TempDir(), Program: testkit.Binary(t),
	}
	t.Cleanup(func() { // nothing outlives its test, however it went
		_ = shim.Stop(w.dir, queue.ByCancel, 0)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if st, _ := shim.Wait(ctx, w.dir); st.Phase == shim.Died {
			_, _ = shim.Sweep(w.dir)
		}
		if err := container.Tidy(ctx, d.Socket, w.spec.Cache, w.spec.Installation); err != nil {
			t.Error(err)
		}
		if left := d.Left(t, "ebb.installation="+w.spec.Installation); len(left) > 0 {
			t.Errorf("on the engine is left: %v", left)
		}
	})
	return w
}

func (w *world) start(script string) {
	w.t.Helper()
	if w.spec.Argv == nil {
		w.spec.Argv = []string{"/bin/sh", "-c", script}
	}
	s, err := w.spec.ShimSpec()
	if err != nil {
		w.t.Fatal(err)
	}
	s.Log, s.Grace, s.TimeLimit, s.MemoryWords = "user_logs/std_log.txt", w.grace, w.limit, "64 MiB of the size"
	if os.Getuid() == 0 {
		s.Users, s.Own = uids.Folder, []string{filepath.Join(w.dir, "work")}
	}
	if err := shim.Start(w.dir, s); err != nil {
		w.t.Fatal(err)
	}
}

// began waits for the job's process.
func (w *world) began() {
	w.t.Helper()
	testkit.Until(w.t, time.Minute, "the job's process", func() bool {
		st, err := shim.Look(w.dir)
		if err != nil || st.Phase != shim.Running {
			w.t.Fatalf("Look = %+v, %v, want a running attempt; its log: %s", st, err, w.log())
		}
		return st.Process != 0
	})
}

// said waits for a line of the job's.
func (w *world) said(line string) {
	w.t.Helper()
	testkit.Until(w.t, time.Minute, "the line "+line, func() bool { return strings.Contains(w.log(), line) })
}

func (w *world) wait() shim.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	st, err := shim.Wait(ctx, w.dir)
	if err != nil || st.Phase != shim.Ended {
		b, _ := os.ReadFile(filepath.Join(w.dir, "shim.log"))
		w.t.Fatalf("Wait = %+v, %v, want an ended attempt; the shim said %q", st, err, b)
	}
	return st.Record
}

func (w *world) log() string {
	b, _ := os.ReadFile(filepath.Join(w.dir, "log/user_logs/std_log.txt"))
	return string(b)
}

// clean checks that nothing of the attempt is left on the engine.
func (w *world) clean() {
	w.t.Helper()
	if left := w.docker.Left(w.t, "ebb.attempt="+w.spec.Attempt); len(left) > 0 {
		w.t.Errorf("on the engine is left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(w.dir, shim.ContainerFile)); err == nil {
		w.t.Errorf("%s is left", shim.ContainerFile)
	}
}

func TestJobRunsInItsImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.spec.Env = []string{"HELLO=world", "HOME=/work"}
	w.start(`echo $HELLO; id -u; python3 -c 'print(6*7)'; cat /etc/debian_version; echo made >file; echo again >/dev/stdout; exit 3`)
	rec := w.wait()
	if rec.Exit.Cause != queue.ByExit || rec.Exit.Code != 3 || rec.Exit.Started.IsZero() || !strings.Contains(rec.Exit.Message, "again") {
		t.Errorf("exit is %+v, want code 3 with the last lines", rec.Exit)
	}
	lines := strings.Fields(w.log())
	if len(lines) != 5 || lines[0] != "world" || lines[2] != "42" || lines[4] != "again" {
		t.Errorf("the log is %q", w.log())
	}
	fi, err := os.Stat(filepath.Join(w.dir, "work/file"))
	if err != nil {
		t.Fatal(err)
	}
	uid, job := int(fi.Sys().(*syscall.Stat_t).Uid), lines[1]
	if w.spec.Engine.Rootless {
		if uid != os.Getuid() || job != "0" {
			t.Errorf("a file of the job's is user %d's, and the job was %s: want us, and root in there", uid, job)
		}
	} else if strconv.Itoa(uid) != job || job == "0" {
		t.Errorf("a file of the job's is user %d's, and the job was %s", uid, job)
	}
	w.clean()
	if err := shim.Forget(w.dir); err != nil {
		t.Errorf("the folder cannot be removed: %v", err)
	}
}

func TestContainersReachTheServerAndNoOther(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%d bytes of %s", len(b), r.URL.Path)
	}))
	t.Cleanup(srv.Close)
	w := newWorld(t)
	w.spec.Server = filepath.Join(t.TempDir(), "server.json")
	if err := os.WriteFile(w.spec.Server, []byte(`{"url":"`+srv.URL+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	w.spec.Port, _ = strconv.Atoi(port)
	w.spec.Argv = []string{"python", "-c", `
import urllib.request, sys, os
for n in (1, 3_000_000):
    print(urllib.request.urlopen("http://127.0.0.1:` + port + `/x", data=b"a"*n).read().decode())
`}
	w.start("")
	if rec := w.wait(); rec.Exit.Code != 0 || w.log() != "1 bytes of /x\n3000000 bytes of /x\n" {
		t.Errorf("exit %+v, log %q", rec.Exit, w.log())
	}
	w.clean()
}

func TestLimitsOfAContainer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		set    func(*container.Spec)
		want   string // in the log
		code   int
		words  string // in the message
	}{
		"memory is a limit and its end says so": {
			script: `python3 -c 'x = bytearray(300 << 20)'; echo code $?; exit 9`,
			set:    func(s *container.Spec) { s.Memory = 64 << 20 },
			want:   "code 137", code: 9, words: "hit the memory limit of 64 MiB of the size",
		},
		"vCPUs are a quota": {
			script: `cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true`,
			set:    func(s *container.Spec) { s.VCPUs = 0.5 }, want: "50000",
		},
		"shared memory is as large as asked": {
			script: `df -m /dev/shm | tail -1 | awk '{print "shm", $2}'`,
			set:    func(s *container.Spec) { s.Shm = 100 << 20 }, want: "shm 100",
		},
		"shared memory is 2 GiB where nobody asks": {script: `df -m /dev/shm | tail -1 | awk '{print "shm", $2}'`, want: "shm 2048"},
		"a fork bomb ends and its container with it": {
			script: `b() { b | b & }; (b) & while [ $((i += 1)) -lt 300000 ]; do :; done; exit 4`, set: func(s *container.Spec) { s.PIDs = 64 }, code: 4,
		},
		"ulimits and tmpfs and hosts and the host's name are honoured": {
			script: `ulimit -n; grep some.where /etc/hosts; df /scratch | tail -1; hostname`,
			set: func(s *container.Spec) {
				s.Ulimits = []container.Ulimit{{Name: "nofile", Soft: 1234, Hard: 1234}}
				s.Hosts, s.Tmpfs, s.Hostname = []string{"some.where:10.1.2.3"}, map[string]string{"/scratch": "size=1m"}, "mine"
			},
			want: "1234\n10.1.2.3\tsome.where\ntmpfs",
		},
		"nobody gains what the job's user has not": {script: `grep -E 'CapEff|NoNewPrivs' /proc/self/status | tr -d '\t '`, want: "CapEff:0000000000000000\nNoNewPrivs:1"},
		"the image's user is root and may do what images expect": {
			script: `id -u; touch /root/x && chown 7 /root/x && echo owner $(stat -c %u /root/x)`,
			set:    func(s *container.Spec) { s.User = "" }, want: "owner 7",
		},
		"no shell": {
			set:  func(s *container.Spec) { s.Argv = []string{"/bin/nosuch", "-c", "true"} },
			code: 127, words: "/bin/nosuch cannot be started: there is no such file in the image.",
		},
		"an image that the engine lost": {
			script: "true", set: func(s *container.Spec) { s.Image, s.Shown = "ebb-test/none:1", "ebb-test/none:1" },
			code: 125, words: "The container of the image ebb-test/none:1 could not be run: No such image",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.set != nil {
				c.set(&w.spec)
			}
			w.start(c.script)
			rec := w.wait()
			cause := queue.ByExit
			if c.code >= 125 {
				cause = queue.BySetup
			}
			if rec.Exit.Cause != cause || rec.Exit.Code != c.code || !strings.Contains(rec.Exit.Message, c.words) || !strings.Contains(w.log(), c.want) {
				t.Errorf("exit is %+v, want %s with code %d and %q; log %q, want %q", rec.Exit, cause, c.code, c.words, w.log(), c.want)
			}
			w.clean()
		})
	}
}

func TestImageWithoutAShell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "bare.tar")
	if out, err := exec.Command("tar", "-cf", file, "-C", t.TempDir(), ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	w.spec.Image = "ebb-test/bare:1"
	w.spec.Shown = w.spec.Image
	w.docker.Import(t, w.spec.Image, file)
	w.start("echo never")
	rec := w.wait()
	if rec.Exit.Cause != queue.BySetup || rec.Exit.Code != 127 || !strings.Contains(rec.Exit.Message, "The image has no /bin/sh") {
		t.Errorf("exit is %+v, want a setup that says what is missing", rec.Exit)
	}
	w.clean()
}

func TestContainerIsStopped(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		limit  time.Duration
		cause  queue.Cause
		grace  time.Duration
		want   string
	}{
		"by a cancel of which all are told": {
			script: `trap 'echo bye; exit 0' TERM; (trap 'echo child' TERM; echo up; while :; do sleep 0.1; done) & while :; do sleep 0.1; done`,
			cause:  queue.ByCancel, grace: 20 * time.Second, want: "bye",
		},
		"by a cancel that it ignores": {script: `trap "" TERM; echo up; while :; do sleep 1; done`, cause: queue.ByCancel, grace: 100 * time.Millisecond},
		"by its time limit":           {script: `echo up; sleep 600`, limit: time.Second, cause: queue.ByTimeout},
		"by a preemption with a child that went its own way": {
			script: `setsid sleep 600 & echo up; sleep 600`, cause: queue.ByPreemption, grace: 20 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.limit = c.limit
			w.start(c.script)
			if c.limit == 0 {
				w.said("up")
				if err := shim.Stop(w.dir, c.cause, c.grace); err != nil {
					t.Fatal(err)
				}
			}
			if rec := w.wait(); rec.Exit.Cause != c.cause || rec.Exit.Ended.IsZero() || !strings.Contains(w.log(), c.want) {
				t.Errorf("exit is %+v, want %s; log %q", rec.Exit, c.cause, w.log())
			}
			w.clean()
		})
	}
}

func TestCancelWhileTheContainerIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("sleep 600")
	testkit.Until(t, time.Minute, shim.ContainerFile, func() bool {
		_, err := os.Stat(filepath.Join(w.dir, shim.ContainerFile))
		return err == nil
	})
	if err := shim.Stop(w.dir, queue.ByCancel, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if rec := w.wait(); rec.Exit.Cause != queue.ByCancel {
		t.Errorf("exit is %+v, want a cancel", rec.Exit)
	}
	w.clean()
}

// Whoever is killed, nothing is left once the attempt is swept; and of processes
// nothing even before.
func TestNothingIsLeftOfTheKilled(t *testing.T) {
	t.Parallel()
	for name, victim := range map[string]func(w *world) int{
		"the shim":   func(w *world) int { st, _ := shim.Look(w.dir); return st.PID },
		"the holder": func(w *world) int { st, _ := shim.Look(w.dir); return st.Process },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.start("setsid sleep 600 & echo up; sleep 600")
			w.said("up")
			w.began()
			if err := syscall.Kill(victim(w), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			testkit.Until(t, time.Minute, "the end of the container without a sweep", func() bool {
				return len(w.docker.Left(t, "ebb.attempt="+w.spec.Attempt)) == 0
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			st, err := shim.Wait(ctx, w.dir)
			if err == nil && st.Phase == shim.Died {
				st.Record, err = shim.Sweep(w.dir)
			}
			if err != nil || st.Record.Exit.Cause != queue.ByNodeLoss {
				t.Errorf("record is %+v, %v, want a node loss", st.Record, err)
			}
			w.clean()
		})
	}
}

func TestVisitorOfAContainer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.spec.Env = []string{"HELLO=world"}
	w.start("echo up; sleep 600")
	w.said("up")
	w.began()
	for name, c := range map[string]struct {
		argv []string
		in   string
		want string
		code int
	}{
		"sees the job's world": {[]string{"sh", "-c", "echo $HELLO $TERM; pwd; cat; exit 5"}, "typed\n", "world vt100\n/work\ntyped\n", 5},
		"hears of what is not": {[]string{"nosuch"}, "", "nosuch cannot be started: the image has no such program in PATH", 127},
	} {
		var files [3]int
		inR, inW, _ := os.Pipe()
		outR, outW, _ := os.Pipe()
		files[0], files[1], files[2] = int(inR.Fd()), int(outW.Fd()), int(outW.Fd())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		v, err := shim.Enter(ctx, w.dir, shim.Visit{ID: strings.ReplaceAll(uuid.NewString(), "-", ""), Argv: c.argv, Env: []string{"TERM=vt100"}, PID: os.Getpid(), Files: files})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		inR.Close()
		outW.Close()
		_, _ = inW.WriteString(c.in)
		inW.Close()
		var got bytes.Buffer
		_, _ = io.Copy(&got, outR)
		code, err := v.Wait(ctx)
		if err != nil || code != c.code || !strings.HasPrefix(got.String(), c.want) {
			t.Errorf("%s: code %d, %v, said %q, want %d and %q", name, code, err, got.String(), c.code, c.want)
		}
	}
	if err := shim.Stop(w.dir, queue.ByCancel, 0); err != nil {
		t.Fatal(err)
	}
	w.wait()
	w.clean()
}
