package runner

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
	"github.com/ebb-compute/ebb/internal/node/shim"
	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
)

// linkLog is where a member says how it reaches the next, for people.
const linkLog = "system_logs/links.txt"

// launchFolder is where a member of several processes keeps what package launch
// needs, below the attempt's folder. It becomes the job's.
func launchFolder(dir string) string { return filepath.Join(dir, "launch") }

// AgentFolder holds the socket on which the agent answers "ebb rsh", where an
// attempt has several processes. It stays ours.
func AgentFolder(dir string) string { return filepath.Join(dir, "rsh") }

// AgentSocket is that socket's name.
const AgentSocket = "agent.sock"

// share is what a member of several processes finds where, as the job sees it.
type share struct{ folder, agent, logs, exe string }

// layGang makes room in a job's world for the processes of a gang's member: their
// folder and logs, this program, and the names of the other nodes.
func (r *Runner) layGang(dir string, p gang.Plan, l *layout) (share, error) {
	host, agent := launchFolder(dir), AgentFolder(dir)
	for folder, mode := range map[string]os.FileMode{host: 0o700, agent: 0o711} {
		if err := os.MkdirAll(folder, mode); err != nil {
			return share{}, fmt.Errorf("make launch folder: %w", err)
		}
	}
	logs := map[string]bool{}
	for _, name := range logNames(p) {
		logs[path.Dir(name)] = true
	}
	exe, err := os.Executable()
	if err != nil {
		return share{}, fmt.Errorf("find this program: %w", err)
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // another version has its place
	if !r.users {
		l.world.Show = append(l.world.Show, exe)
		l.world.Write = append(l.world.Write, host)
		l.world.Show = append(l.world.Show, agent)
		for name := range logs {
			l.world.Write = append(l.world.Write, filepath.Join(dir, "log", name))
		}
		return share{host, agent, filepath.Join(dir, "log"), exe}, nil
	}
	s := share{frame + "/launch", frame + "/rsh", frame + "/logs", frame + "/ebb"}
	l.own = append(l.own, host)
	l.world.Binds = append(l.world.Binds,
		sandbox.Bind{From: host, To: s.folder},
		sandbox.Bind{From: agent, To: s.agent, ReadOnly: true},
		sandbox.Bind{From: exe, To: s.exe, ReadOnly: true})
	for name := range logs {
		l.world.Binds = append(l.world.Binds, sandbox.Bind{From: filepath.Join(dir, "log", name), To: path.Join(s.logs, name)})
	}
	if r.named(p) {
		hosts := filepath.Join(dir, "hosts")
		if err := os.WriteFile(hosts, []byte(hostsFile(p.Hosts)), 0o644); err != nil {
			return s, fmt.Errorf("name the nodes: %w", err)
		}
		l.world.Binds = append(l.world.Binds, sandbox.Bind{From: hosts, To: "/etc/hosts", ReadOnly: true})
		l.world.Hostname = p.Hosts[p.Member].Node
	}
	return s, nil
}

// named reports whether the nodes of a job know each other by name: their names
// lie over the machine's.
func (r *Runner) named(p gang.Plan) bool {
	_, err := os.Stat("/etc/hosts")
	return r.users && len(p.Hosts) > 1 && err == nil
}

// hostsFile is the machine's /etc/hosts with the nodes of a job.
func hostsFile(hosts []gang.Host) string {
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.Address, h.Node)
	}
	if own, err := os.ReadFile("/etc/hosts"); err == nil {
		b.Write(own)
	}
	return b.String()
}

// logNames are the logs that a member's processes write.
func logNames(p gang.Plan) []string {
	var out []string
	for _, x := range p.Processes {
		out = append(out, x.Log)
	}
	if len(p.Hosts) > 1 {
		out = append(out, linkLog)
	}
	return out
}

// launch makes of the spec of a member's only process that of all of them.
func (r *Runner) launch(dir string, p gang.Plan, at share, l layout, attempt string, s *shim.Spec) error {
	spec := rank.Spec{
		Plan: p, Attempt: attempt, Exe: at.exe, Argv: s.Argv, Dir: l.work, Logs: at.logs,
		Agent: path.Join(at.agent, AgentSocket),
		Names: r.named(p),
	}
	if !r.users {
		spec.Shared = filepath.Join(l.tmp, "shm")
		if err := os.MkdirAll(spec.Shared, 0o700); err != nil {
			return fmt.Errorf("make a folder for shared memory: %w", err)
		}
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode the launch: %w", err)
	}
	folder := launchFolder(dir)
	if err := os.WriteFile(filepath.Join(folder, "launch.json"), text, 0o600); err != nil {
		return fmt.Errorf("write the launch: %w", err)
	}
	rsh := fmt.Sprintf("#!/bin/sh\nexec %s rsh \"$@\"\n", quote(at.exe)) // for launchers that take no words
	if err := os.WriteFile(filepath.Join(folder, "rsh"), []byte(rsh), 0o700); err != nil {
		return fmt.Errorf("write rsh: %w", err)
	}
	s.Argv = []string{at.exe, "launch"}
	s.Env = append(s.Env, rank.Variable+"="+at.folder)
	s.Ranks = &shim.Ranks{Node: p.Hosts[p.Member].Node, Logs: logNames(p), Failed: filepath.Join(folder, "failed.json")}
	return nil
}

// quote makes of a path one word of a shell's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
