package admin

import (
	"net/http"

	"github.com/ebb-compute/ebb/internal/api/arm"
)

// Quarantined is a node that a restored state does not know: it goes on with what
// it runs, and nobody here asks it for anything.
type Quarantined struct {
	Node      string   `json:"node"`
	Cluster   string   `json:"cluster"` // name, as it was launched for
	Alive     bool     `json:"alive"`
	Size      string   `json:"vmSize"`
	VCPUs     int      `json:"vCPUs"`
	MemoryGiB float64  `json:"memoryGiB"`
	GPUs      int      `json:"gpus"`
	Attempts  []string `json:"attempts"`
	Why       string   `json:"why"` // whole sentences
}

func (s *server) quarantine(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := owner(arm.Caller(r.Context())); err != nil {
		return 0, nil, err
	}
	all := s.Quarantine()
	if all == nil {
		all = []Quarantined{}
	}
	return http.StatusOK, map[string]any{"value": all}, nil
}

// endQuarantined answers when nothing of the node is left.
func (s *server) endQuarantined(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := owner(arm.Caller(r.Context())); err != nil {
		return 0, nil, err
	}
	if err := s.End(r.Context(), r.PathValue("node")); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{}, nil
}
