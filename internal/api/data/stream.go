package data

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
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

// look remembers that somebody looks at a run, and reports whether this is the
// first look of a stream.
func (s *streams) look(key string, now time.Time) bool {
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
	_, on := s.seen[key]
	s.seen[key] = now
	return !on
}

// forget ends a stream: the next look is the first of another.
func (s *streams) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, key)
}

// streamKey is who streams what.
func (r *request) streamKey(run string) string {
	return arm.Caller(r.Context()).ID + "\n" + r.w.Key() + "/" + run
}

// getStreamDetails is what SDK v2's jobs.stream polls. That client prints a log
// only after it has seen the run in progress, and would print none of a job that
// ended before its first look, as those of seconds do here. So its first look
// finds such a run in Finalizing, and the next one, 2 s later, at its end.
func (h *server) getStreamDetails(_ http.ResponseWriter, r *request) (int, any, error) {
	j, details, err := h.details(r)
	if err != nil {
		return 0, nil, err
	}
	if strings.Contains(r.UserAgent(), "azure-ai-ml") {
		key := r.streamKey(j.Name)
		switch first, over := h.streams.look(key, h.Now()), j.State().Final(); {
		case over && first:
			details["status"] = queue.Finalizing
		case over:
			h.streams.forget(key)
		}
	}
	return http.StatusOK, details, nil
}

// getDetails shows what SDK v1's get_details reads, and polls in
// wait_for_completion(show_output=True), which prints no log either of a job that
// ended before its first look. That client asks here for the state alone, too. So
// only a run that has just ended, and has logs, is in Finalizing, for one look of
// somebody who has not seen its end.
func (h *server) getDetails(_ http.ResponseWriter, r *request) (int, any, error) {
	j, details, err := h.details(r)
	if err != nil {
		return 0, nil, err
	}
	logs, _ := details["logFiles"].(map[string]string)
	just := j.State().Final() && h.Now().Sub(j.Status.Ended) < streamGap && len(logs) > 0
	if isV1(r) && h.streams.look(r.streamKey(j.Name), h.Now()) && just {
		details["status"] = queue.Finalizing
	}
	return http.StatusOK, details, nil
}

// sawEnd remembers that SDK v1 has been told that a run is over (get_status): it is
// not told otherwise by a later look.
func (h *server) sawEnd(r *request, j *jobs.Job) {
	if isV1(r) && j.State().Final() {
		h.streams.look(r.streamKey(j.Name), h.Now())
	}
}

func isV1(r *request) bool { return strings.Contains(r.UserAgent(), "azureml-sdk-core") }
