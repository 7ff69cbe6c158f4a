package data

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// streamGap is longer than any pause between two looks of one stream: SDK v2's
// polls come 2 s apart at first and 60 s in the end.
const streamGap = 2 * time.Minute

// streams remembers who is streaming which run.
type streams struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// opens reports whether this look at a run that is over is the first of a stream.
func (s *streams) opens(who, run string, over bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, at := range s.seen {
		if now.Sub(at) > streamGap {
			delete(s.seen, key)
		}
	}
	if s.seen == nil {
		s.seen = map[string]time.Time{}
	}
	key := who + "\n" + run
	_, on := s.seen[key]
	if over && on {
		delete(s.seen, key)
		return false
	}
	s.seen[key] = now
	return over
}

// getStreamDetails is what SDK v2's jobs.stream polls. That client prints a log
// only after it has seen the run in progress, and would print none of a job that
// ended before its first look, as those of seconds do here. So its first look
// finds such a run in Finalizing, and the next one, 2 s later, at its end.
func (h *server) getStreamDetails(w http.ResponseWriter, r *request) (int, any, error) {
	status, body, err := h.getDetails(w, r)
	details, ok := body.(object)
	if err != nil || !ok || !strings.Contains(r.UserAgent(), "azure-ai-ml") {
		return status, body, err
	}
	state, _ := details["status"].(queue.State)
	name, _ := details["runId"].(string)
	if h.streams.opens(arm.Caller(r.Context()).ID, r.w.Key()+"/"+name, state.Final(), h.Now()) {
		details["status"] = queue.Finalizing
	}
	return status, details, nil
}
