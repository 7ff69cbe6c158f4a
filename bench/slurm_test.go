package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// slurmWithin bounds how long Slurm may take over the jobs: what it has done by
// then makes the rate.
const slurmWithin = 45 * time.Second

// slurmConf is for throughput: no accounting, no cgroups, no back-fill, nothing
// put off. One slurmd stands for all slots, as Slurm is fastest.
const slurmConf = `ClusterName=bench
SlurmctldHost=%[1]s(127.0.0.1)
SlurmctldPort=%[2]d
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=%[4]s/munge.socket
CredType=cred/munge
StateSaveLocation=%[4]s/state
SlurmdSpoolDir=%[4]s/spool
SlurmctldPidFile=%[4]s/slurmctld.pid
SlurmdPidFile=%[4]s/slurmd.pid
SlurmctldLogFile=%[4]s/slurmctld.log
SlurmdLogFile=%[4]s/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
MaxArraySize=20001
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PriorityType=priority/basic
SchedulerType=sched/builtin
SchedulerParameters=defer,batch_sched_delay=0,sched_min_interval=0,max_rpc_cnt=150,default_queue_depth=1000,sched_max_job_start=0
SlurmctldDebug=error
SlurmdDebug=error
MinJobAge=10
KillWait=2
NodeName=n1 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[3]d CPUs=%[5]d RealMemory=1000 State=UNKNOWN
PartitionName=cpu Nodes=n1 Default=YES MaxTime=1-0
`

// slurm drains as many jobs of true through a Slurm of its own with as many
// slots, submitted in one call, and returns jobs a second; or why it cannot.
func slurm(t *testing.T, slots, jobs int) (rate float64, missing string) {
	for _, program := range []string{"munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo"} {
		if _, err := exec.LookPath(program); err != nil {
			return 0, "no Slurm: scripts/setup bench"
		}
	}
	if os.Geteuid() != 0 {
		return 0, "Slurm needs root"
	}
	s := startSlurm(t, slots)
	defer s.stop()
	script := filepath.Join(s.dir, "true.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntrue\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s.must("sbatch", "-o", "/dev/null", fmt.Sprintf("--array=1-%d", jobs), script)
	tick := time.NewTicker(100 * time.Millisecond) // asking costs Slurm time
	defer tick.Stop()
	left := jobs
	for left > 0 && time.Since(begun) < slurmWithin {
		<-tick.C
		left = len(bytes.Fields(s.must("squeue", "-h", "-r", "-o", "%i")))
	}
	return float64(jobs-left) / time.Since(begun).Seconds(), ""
}

// slurmd is a Slurm in a folder.
type slurmd struct {
	t       *testing.T
	dir     string
	started []*exec.Cmd
}

// startSlurm returns when the node is idle.
func startSlurm(t *testing.T, slots int) *slurmd {
	s := &slurmd{t: t, dir: t.TempDir()}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	for _, d := range []string{"state", "spool"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	key := write("munge.key", strings.Repeat("a key of a benchmark, of no worth. ", 4))
	write("slurm.conf", fmt.Sprintf(slurmConf, host, freePort(t), freePort(t), s.dir, slots))
	in := func(name string) string { return filepath.Join(s.dir, name) }
	s.start("munged", "--foreground", "--force", "--key-file="+key, "--socket="+in("munge.socket"),
		"--pid-file="+in("munged.pid"), "--log-file="+in("munged.log"), "--seed-file="+in("munged.seed"))
	testkit.Until(t, 10*time.Second, "munged", func() bool { _, err := os.Stat(in("munge.socket")); return err == nil })
	s.start("slurmctld", "-D", "-f", in("slurm.conf"))
	s.start("slurmd", "-D", "-N", "n1", "-f", in("slurm.conf"))
	testkit.Until(t, time.Minute, "Slurm's node to be idle", func() bool {
		out, err := s.command("sinfo", "-h", "-o", "%T").Output()
		return err == nil && string(bytes.TrimSpace(out)) == "idle"
	})
	return s
}

func (s *slurmd) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+filepath.Join(s.dir, "slurm.conf"))
	return cmd
}

func (s *slurmd) start(program string, args ...string) {
	s.t.Helper()
	cmd := s.command(program, args...)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.started = append(s.started, cmd)
}

func (s *slurmd) must(program string, args ...string) []byte {
	s.t.Helper()
	out, err := s.command(program, args...).Output()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(s.dir, "slurmctld.log"))
		s.t.Fatalf("%s: %v\n%s", program, err, log)
	}
	return out
}

// stop ends what is left of the jobs, then Slurm, the last started first.
func (s *slurmd) stop() {
	_ = s.command("scancel", "--quiet", "--user=root").Run()
	testkit.Until(s.t, time.Minute, "Slurm's queue to be empty", func() bool {
		out, err := s.command("squeue", "-h", "-o", "%i").Output()
		return err != nil || len(bytes.TrimSpace(out)) == 0
	})
	for i := len(s.started) - 1; i >= 0; i-- {
		_ = s.started[i].Process.Signal(os.Interrupt)
		_ = s.started[i].Wait()
	}
}

// freePort is one that nobody had a moment ago.
func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.Atoi(port)
	return n
}
