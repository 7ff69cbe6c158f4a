package pool

import (
	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// ClusterMark stands for all that a view has of one cluster. Two are equal (==)
// only if nothing of it was written between the views they are from: what was
// worked out of one holds for the other.
type ClusterMark struct {
	wish   *fleet.Cluster
	status *fleet.Status
	nodes  *[]*fleet.Node
}

// ClusterMark returns the mark of the cluster with that id.
func (v *View) ClusterMark(id string) ClusterMark {
	wish, _ := v.clusters.Get(id)
	status, _ := v.statuses.Get(id)
	nodes, _ := v.nodesOf.Get(id)
	return ClusterMark{wish, status, nodes.Mark()}
}

// RunMark is a [ClusterMark] of a run: of its wish and its status.
type RunMark struct {
	wish   *queue.Run
	status *queue.Status
}

// RunMark returns the mark of the run with that id.
func (v *View) RunMark(id string) RunMark {
	wish, _ := v.runs.Get(id)
	status, _ := v.runStatus.Get(id)
	return RunMark{wish, status}
}
