package bench_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// boxes takes submit → process of a job in a container, on a node that stands idle
// with the image there, beside docker run of the same image.
func boxes(t *testing.T) []line {
	const measure = "container job on an idle node, submit → process, p50"
	docker, err := exec.LookPath("docker")
	if err != nil {
		return []line{{measure, "no docker: scripts/setup containers", "-", "-", "< 500 ms"}}
	}
	d := testkit.StartDocker(t)
	s := testkit.Serve(t, testkit.Contain(d))
	c := s.Client()
	cluster(t, c, "boxes", 1, 1, "PT1H")
	_, err = c.Do(t.Context(), "PUT", c.File().Workspace()+"/environments/debian/versions/1", map[string]any{"properties": map[string]any{"image": d.Image}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ours, theirs []time.Duration
	for i := range 21 {
		name := fmt.Sprintf("box-%d", i)
		begun := time.Now()
		_, err := c.Jobs().Create(t.Context(), name, client.Job{Properties: client.JobProperties{
			JobType: "Command", Command: "date +%s%N", ComputeID: "boxes", EnvironmentID: "azureml:debian:1",
		}})
		if err != nil {
			t.Fatal(err)
		}
		await(t, c, name)
		var text strings.Builder
		if _, err := c.Jobs().Stream(t.Context(), name, client.StdLog, 0, &text); err != nil {
			t.Fatal(err)
		}
		ours = append(ours, since(t, begun, text.String()))
		begun = time.Now()
		out, err := exec.CommandContext(t.Context(), docker, "-H", "unix://"+d.Socket, "run", "--rm", d.Image, "date", "+%s%N").Output()
		if err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, since(t, begun, string(out)))
	}
	return []line{{measure, ms(median(ours)), "docker run " + ms(median(theirs)), ratio(median(ours), median(theirs)), "< 500 ms, 60 ms over docker run"}}
}

// since is how long after begun a process said what time it was.
func since(t *testing.T, begun time.Time, said string) time.Duration {
	t.Helper()
	var at int64
	if _, err := fmt.Sscan(said, &at); err != nil {
		t.Fatalf("%q is no time: %v", said, err)
	}
	return time.Unix(0, at).Sub(begun)
}
