package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// hello is an MPI program without MPI's own start: what is measured is launching.
// Every rank writes its number.
const hello = "echo rank $OMPI_COMM_WORLD_RANK"

// mpi takes submit → all ranks over, of two nodes that stand idle, beside the same
// mpirun by itself with two ranks on this machine.
func mpi(t *testing.T, s *testkit.Server) []line {
	program, err := exec.LookPath("mpirun")
	if err != nil {
		return []line{{"MPI hello on 2 idle nodes, p50", "no mpirun: scripts/setup mpi", "-", "-", "< 2 s"}}
	}
	c := s.Client()
	cluster(t, c, "mpi", 2, 2, "PT1H")
	var took, alone []time.Duration
	for i := range 11 {
		name := fmt.Sprintf("mpi-%d", i)
		begun := time.Now()
		_, err := c.Jobs().Create(t.Context(), name, client.Job{Properties: client.JobProperties{
			JobType: "Command", Command: hello, ComputeID: "mpi", Resources: &client.JobResources{InstanceCount: 2},
			Distribution: map[string]any{"distributionType": "Mpi", "processCountPerInstance": 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		await(t, c, name)
		took = append(took, time.Since(begun))
		begun = time.Now()
		cmd := exec.CommandContext(t.Context(), program, "-np", "2", "--oversubscribe", "sh", "-c", hello)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", filepath.Base(program), err, out)
		}
		alone = append(alone, time.Since(begun))
	}
	return []line{{"MPI hello on 2 idle nodes, submit → end, p50", ms(median(took)), "mpirun alone " + ms(median(alone)), ratio(median(took), median(alone)), "< 2 s"}}
}
