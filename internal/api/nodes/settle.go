package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// What an attempt kept aside is moved to its places once all of it is there. Into a
// folder that has files already they go one by one, so that is written down first:
// a server that dies on the way goes on when it starts, whatever became of the node.

// notes is the container of what is written down.
const notes = "$settling"

// NoteContainer is where a workspace's are.
func NoteContainer(guid string) string { return notes + "/" + strings.ToLower(guid) }

// note says that the files of one member of an attempt are to be moved.
type note struct {
	Run       string `json:"run"` // id
	Name      string `json:"name"`
	Workspace string `json:"workspace"`
	N         int    `json:"n"` // of the attempt
	Fence     int64  `json:"fence"`
	Node      string `json:"node"`
	Member    int    `json:"member"`
	Well      bool   `json:"well"` // the process ended so: outputs become assets
}

func noteOf(h holding, well bool) note {
	return note{h.run.ID, h.run.Name, h.run.Workspace, h.attempt.N, h.attempt.Fence, h.node, h.member, well}
}

func (n note) holding() holding {
	return holding{node: n.Node, member: n.Member, attempt: queue.Attempt{Run: n.Run, N: n.N, Fence: n.Fence}, run: queue.Run{ID: n.Run, Name: n.Name, Workspace: n.Workspace}}
}

// settle moves what an attempt kept aside to its places. It goes on though the
// agent leaves, and may be asked again: what was moved is not moved twice.
func (s *server) settle(w http.ResponseWriter, r *http.Request) (int, any, error) {
	h, err := s.held(r)
	if err != nil {
		return answer(w, err)
	}
	if err := s.same(r.URL.Query().Get("epoch")); err != nil {
		return 0, nil, err
	}
	ctx := context.WithoutCancel(r.Context())
	place, err := s.place(ctx, h.run.Workspace)
	if err != nil {
		return 0, nil, err
	}
	n := noteOf(h, r.URL.Query().Get("done") == "true")
	body, err := json.Marshal(n)
	if err != nil {
		return 0, nil, fmt.Errorf("write down the move of run %s: %w", n.Run, err)
	}
	at := NoteContainer(place.GUID) + "/" + n.Run + "/" + strings.TrimSuffix(h.share(), "/")
	if _, err := s.Blobs.Put(ctx, at, bytes.NewReader(body), "application/json"); err != nil {
		return 0, nil, err
	}
	if err := s.carryOut(ctx, place, n); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nil, nil
}

// same refuses what an agent began to send before a restore: what came first went
// to a state that is no more. An agent that names no epoch cannot tell.
func (s *server) same(epoch string) error {
	if epoch == "" {
		return nil
	}
	n, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || n < 0 {
		return fault.New(fault.Invalid, "epoch", "The epoch is not a number.")
	}
	if n < s.Epoch {
		return fault.New(fault.Precondition, "epoch", "The server was restored since the agent began to send: it is to send all again.")
	}
	return nil
}

// Resume ends the moves that a crash broke off. It is for the start of the server,
// before nodes are heard: a later attempt's files go over those of one before. One
// that cannot be ended is said in the log, and stays for the next start.
func Resume(ctx context.Context, services Services) error {
	s := &server{services}
	found, err := s.Blobs.Below(ctx, notes)
	if err != nil {
		return fmt.Errorf("list the moves that were broken off: %w", err)
	}
	for _, b := range found {
		if err := s.resume(ctx, b.Key); err != nil {
			s.Log.ErrorContext(ctx, "outputs not moved", "note", b.Key, "err", err)
		}
	}
	return ctx.Err()
}

func (s *server) resume(ctx context.Context, key string) error {
	in, err := s.Blobs.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	var n note
	if err := json.Unmarshal(body, &n); err != nil {
		return fmt.Errorf("read what was written down: %w", err)
	}
	place, err := s.place(ctx, n.Workspace)
	if err == nil {
		err = s.carryOut(ctx, place, n)
	}
	if errors.Is(err, fault.NotFound) { // the run was deleted, or all of the workspace
		return s.drop(ctx, key)
	}
	if err == nil {
		s.Log.InfoContext(ctx, "outputs moved", "run", n.Name, "attempt", n.N)
	}
	return err
}

// carryOut does what was written down, and then forgets it.
func (s *server) carryOut(ctx context.Context, place assets.Place, n note) error {
	h := n.holding()
	t, err := s.taskOf(ctx, n.Run)
	if err != nil {
		return err
	}
	if err := s.move(ctx, t, aside(place.GUID, h), h); err != nil {
		return err
	}
	if n.Well && n.Member == 0 {
		if err := s.register(ctx, place, t, h); err != nil {
			return err
		}
	}
	return s.clear(ctx, NoteContainer(place.GUID)+"/"+n.Run+"/", h)
}

// register makes assets of the outputs that are to be some.
func (s *server) register(ctx context.Context, place assets.Place, t queue.Task, h holding) error {
	for _, o := range t.Outputs {
		if o.Asset == "" {
			continue
		}
		err := s.Assets.Keep(ctx, h.who(), place, assets.Output{Job: t.Name, Type: o.Type, URI: o.URI, Name: o.Asset, Version: o.Version})
		switch k := fault.KindOf(err); {
		case err == nil:
		case k == fault.Internal || k == fault.Unavailable || k == fault.Precondition:
			return err
		default: // somebody took the version meanwhile; the files are where they belong
			s.Log.WarnContext(ctx, "output not registered", "run", h.run.Name, "output", o.Name, "asset", o.Asset, "err", err)
		}
	}
	return nil
}

// clear removes what lies below a run's folder of a member's, and of all attempts before.
func (s *server) clear(ctx context.Context, run string, h holding) error {
	blobs, err := s.Blobs.Below(ctx, run)
	if err != nil {
		return err
	}
	mine, before := run+h.share(), fmt.Sprintf("%s%04d/", run, h.attempt.N)
	for _, b := range blobs {
		if b.Key < before || strings.HasPrefix(b.Key+"/", mine) {
			if err := s.drop(ctx, b.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *server) drop(ctx context.Context, key string) error {
	if err := s.Blobs.Delete(ctx, key); err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// move puts files that were kept aside where they belong, each output at once where
// nothing is at its place yet. Asked again after it broke off, it moves the rest. What
// attempts before left there, whose nodes were lost, is thrown away.
func (s *server) move(ctx context.Context, t queue.Task, run string, h holding) error {
	for _, slot := range slots(t) {
		to, one, err := target(t, slot)
		if err != nil {
			continue // it keeps no files
		}
		from := run + h.share() + slot + "/"
		if one {
			err = s.Blobs.Move(ctx, from+path.Base(to), to)
		} else {
			err = s.Blobs.MoveAll(ctx, from, strings.TrimSuffix(to, "/")+"/")
		}
		if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
	}
	return s.clear(ctx, run, h)
}
