package survival_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// mutations is how many spoilt requests a run sends, by how many clients at once.
const mutations, spoilers = 20000, 4

// TestMutations sends a live server good requests with something wrong with
// them. Whatever it is, the server answers with an error in Azure's words, and
// goes on.
func TestMutations(t *testing.T) {
	t.Parallel()
	_, n := seed(t)
	// Nodes that a spoilt cluster asks for would be as many as its quota allows.
	w := newWorld(t, testkit.Config("local:\n  oversubscribe: false\n"))
	s := newScene(w, "a")
	s.wantGood()
	if t.Failed() {
		return
	}
	forged := newForger(t, w.Dir, s.token).all()
	f := w.c.File()
	hosts := []string{"", "evil.example", "management.azure.com", "login.microsoftonline.com", "westus2.api.azureml.ms", "ml.azure.com", "ebb0.blob.core.windows.net", "a b", "[::1", "x@y", strings.Repeat("h", 5000)}

	var all sync.WaitGroup
	var bad atomic.Int64
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range uint64(spoilers) {
		all.Go(func() {
			m := &mutator{Rand: rand.New(rand.NewPCG(n, i)), hosts: hosts}
			for _, name := range sorted(forged) {
				m.tokens = append(m.tokens, forged[name])
			}
			l := newLine(t, f)
			for k := range mutations / spoilers {
				r := m.spoil(pick(m, s.goods...).raw)
				a, err := l.send(r)
				if why := s.wrong(r, a, err); why != "" {
					bad.Add(1)
					t.Errorf("client %d, request %d: %s\n%s\n%d %v %.2000s", i, k, why, r, a.status, a.header, a.body)
				}
				mu.Lock()
				statuses[a.status]++
				mu.Unlock()
				if bad.Load() > 20 {
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("statuses: %v", statuses)
	s.wantCalm()
}

// wrong says what is wrong with an answer; empty: nothing.
func (s *scene) wrong(r raw, a answer, err error) string {
	switch {
	case err != nil && (r.cut || len(r.bytes()) > 128<<10) && hungUp(err):
		return "" // it hung up on what it would not read to the end
	case err != nil:
		var slow net.Error
		if errors.As(err, &slow) && slow.Timeout() {
			return "no answer in time"
		}
		return "no answer: " + err.Error()
	case a.status >= 500:
		return "a fault of the server's own"
	case a.status < 400 || r.method == "HEAD":
		return ""
	case unreadable(a):
		return ""
	case strings.HasPrefix(a.header.Get("Content-Type"), "application/xml"):
		var e struct {
			XMLName       xml.Name `xml:"Error"`
			Code, Message string
		}
		if err := xml.Unmarshal(a.body, &e); err != nil || e.Code == "" || e.Message == "" {
			return fmt.Sprintf("not storage's error: %v", err)
		}
		return ""
	}
	return notEnvelope(a)
}

// unreadable reports whether net/http itself refused a request, which never
// reached the server's own code: that names every answer.
func unreadable(a answer) bool {
	switch a.status {
	case 400, 431:
		return a.header.Get("X-Ms-Request-Id") == "" && strings.HasPrefix(string(a.body), fmt.Sprint(a.status))
	case 417:
		return len(a.body) == 0
	}
	return false
}

// notEnvelope says how an error is not ARM's, nor Entra's, nor what an agent is
// told about the size of a log; empty: it is one of them.
func notEnvelope(a answer) string {
	var e struct {
		Error       json.RawMessage
		Description string `json:"error_description"`
		Size        *int64
	}
	if err := json.Unmarshal(a.body, &e); err != nil {
		return "the error is no JSON: " + err.Error()
	}
	var arm struct {
		Code, Message string
		Details       []json.RawMessage
	}
	var oauth string
	switch {
	case a.status == 409 && e.Size != nil && e.Error == nil:
	case json.Unmarshal(e.Error, &oauth) == nil && oauth != "" && strings.HasPrefix(e.Description, "AADSTS"):
	case json.Unmarshal(e.Error, &arm) == nil && arm.Code != "" && arm.Message != "":
	default:
		return "the error is not ARM's"
	}
	return ""
}

// wantCalm checks that a server is as well as it was before.
func (s *scene) wantCalm() {
	s.t.Helper()
	s.unlock()
	s.home()
	clusters, err := client.Collect(s.c.Computes().All(s.t.Context()))
	if err != nil {
		s.t.Fatalf("list clusters: %v", err)
	}
	for _, c := range clusters {
		op, err := s.c.Computes().Delete(s.t.Context(), c.Name)
		if err == nil {
			err = op.Wait(s.t.Context())
		}
		if err != nil {
			s.t.Errorf("delete %s: %v", c.Name, err)
		}
	}
	s.nothingLeft()
	s.quiet()
	const sane = 128 << 20 // bytes; a new server takes 28 MB, and what is freed goes back within minutes
	s.t.Logf("%d clusters were made; the server holds %d MB", len(clusters), testkit.Memory(s.PID())>>20)
	s.until("its memory to be sane", func() bool { return testkit.Memory(s.PID()) < sane })
	newScene(s.world, "b").wantGood()
}

// home makes the group and the workspace anew: a spoilt request may have asked for
// their end, with all that is in them, and then that was right.
func (s *scene) home() {
	s.t.Helper()
	f := s.c.File()
	group := "/subscriptions/" + f.SubscriptionID + "/resourceGroups/" + f.ResourceGroup
	for _, path := range []string{group, group + "/providers/Microsoft.MachineLearningServices/workspaces/" + f.WorkspaceName} {
		if _, err := s.c.Do(s.t.Context(), "GET", path, nil, nil); !client.IsNotFound(err) {
			continue
		}
		s.until("what is being deleted to be gone", func() bool {
			_, err := s.c.Do(s.t.Context(), "PUT", path, map[string]any{"location": "westus2"}, nil)
			return err == nil
		})
	}
}
