package main

import (
	"github.com/ebb-compute/ebb/internal/api/admin"
	"github.com/ebb-compute/ebb/internal/control"
)

// quarantined is control as api/admin sees it.
func quarantined(loop *control.Loop) func() []admin.Quarantined {
	return func() (out []admin.Quarantined) {
		for _, q := range loop.Quarantine() {
			attempts := q.Attempts
			if attempts == nil {
				attempts = []string{}
			}
			out = append(out, admin.Quarantined{
				Node: q.Node, Cluster: q.Cluster, Alive: q.Alive, Size: q.Size.Name, VCPUs: q.Size.VCPUs, MemoryGiB: q.Size.MemoryGiB,
				GPUs: q.Size.GPUs, Attempts: attempts, Why: q.Why,
			})
		}
		return out
	}
}
