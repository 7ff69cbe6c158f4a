package launch

import (
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
)

func TestArgumentsOfMPIRun(t *testing.T) {
	t.Parallel()
	two := gang.Spread{Kind: gang.MPI, PerNode: 3}.Plan("r", []gang.Host{{Node: "a", Address: "127.77.0.1"}, {Node: "b", Address: "127.77.0.2"}}, 0)
	one := gang.Spread{Kind: gang.MPI, PerNode: 2}.Plan("r", []gang.Host{{Node: "a", Address: "127.77.0.1"}}, 0)
	for name, c := range map[string]struct {
		s     rank.Spec
		hydra bool
		want  string
	}{
		"names where there are any":      {rank.Spec{Plan: two, Exe: "/e", Names: true}, false, "-np 6 --map-by slot --host a:3,b:3 -wdir / /e rank"},
		"addresses where there are none": {rank.Spec{Plan: two, Exe: "/e"}, false, "-np 6 --map-by slot --host 127.77.0.1:3,127.77.0.2:3 -wdir / /e rank"},
		"one node needs neither":         {rank.Spec{Plan: one, Exe: "/e", Names: true}, false, "-np 2 --map-by slot --host localhost:2 -wdir / /e rank"},
		"Hydra has other words for it":   {rank.Spec{Plan: two, Exe: "/e", Names: true}, true, "-n 6 -hosts a:3,b:3 -wdir / /e rank"},
	} {
		if got := strings.Join(arguments(c.s, c.hydra), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for version, want := range map[string]bool{
		"mpirun (Open MPI) 4.1.4": false, "mpirun (Open MPI) 5.0.3": false, "HYDRA build details:\n    Version: 4.0.2": true,
		"Intel(R) MPI Library for Linux* OS, Version 2021.9": true,
	} {
		if hydra(version) != want {
			t.Errorf("%q: Hydra is %v", version, !want)
		}
	}
	lo := "OMPI_MCA_btl_tcp_if_include=lo"
	if !slices.Contains(settings(rank.Spec{Plan: two}, "/f"), lo) {
		t.Error("nodes on one machine do not keep to the loopback")
	}
	two.Hosts = []gang.Host{{Node: "a", Address: "10.0.0.1"}, {Node: "b", Address: "10.0.0.2"}}
	if slices.Contains(settings(rank.Spec{Plan: two}, "/f"), lo) {
		t.Error("nodes on several machines keep to the loopback")
	}
}

func TestWhatMPIRunSays(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	var out strings.Builder
	q := &quieter{to: &out, over: over}
	for _, s := range []string{"one\ntw", "o\n[a:1] plm:rsh: Warning: setp", "gid(1,1) failed\nthree\nlast"} {
		if n, err := q.Write([]byte(s)); n != len(s) || err != nil {
			t.Error(n, err)
		}
	}
	q.flush()
	close(over)
	_, _ = q.Write([]byte("*** Process received signal ***\n"))
	if out.String() != "one\ntwo\nthree\nlast" {
		t.Errorf("it says %q", out.String())
	}
}
