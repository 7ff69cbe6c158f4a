package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/fault"
)

func (h *server) logs(reg arm.Registrar) {
	reg.Public("GET /ebb/logs/v1/{guid}/{run}/{name...}", h.getSignedLog)
	reg.Handle("GET /ebb/v1"+workspace+"/jobs/{run}/log", h.in(h.getLog))
}

// logPrefix begins the keys of a run's logs: the attempt's number and the
// log's name follow.
func logPrefix(guid, run string) string { return "logs-" + strings.ToLower(guid) + "/" + run + "/" }

// logNames lists the logs that a run has, by name.
func (h *server) logNames(ctx context.Context, w jobs.Workspace, run string) ([]string, error) {
	prefix := logPrefix(w.GUID, run)
	blobs, err := h.Blobs.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list the logs of %s: %w", run, err)
	}
	var names []string
	for _, b := range blobs {
		if _, name, ok := strings.Cut(strings.TrimPrefix(b.Key, prefix), "/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// logURL is a signed address of a log.
func (h *server) logURL(r *request, j *jobs.Job, name string) string {
	return h.sign(r.root(), "/ebb/logs/v1/"+strings.ToLower(r.w.GUID)+"/"+j.Run+"/"+name)
}

// composed is a log as readers see it: all attempts in order, with a line
// between them. It only ever grows, since an attempt's log is whole before the
// next attempt begins: SDK v1 counts the lines that it has shown.
type composed struct {
	blobs Blobs
	parts []part
	size  int64
}

// part is bytes of a blob, or words of ours where key is empty.
type part struct {
	key  string
	text string
	size int64
}

func (h *server) compose(ctx context.Context, guid, run, name string) (*composed, error) {
	prefix := logPrefix(guid, run)
	blobs, err := h.Blobs.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list the logs of %s: %w", run, err)
	}
	c := &composed{blobs: h.Blobs}
	for _, b := range blobs {
		attempt, of, _ := strings.Cut(strings.TrimPrefix(b.Key, prefix), "/")
		n, err := strconv.Atoi(attempt)
		if of != name || err != nil {
			continue
		}
		if n > 1 {
			line := fmt.Sprintf("[ebb] attempt %d\n", n)
			broken, err := c.endsInside(ctx)
			if err != nil {
				return nil, err
			}
			if broken {
				line = "\n" + line
			}
			c.add(part{text: line, size: int64(len(line))})
		}
		c.add(part{key: b.Key, size: b.Size})
	}
	return c, nil
}

func (c *composed) add(p part) {
	c.parts = append(c.parts, p)
	c.size += p.size
}

// endsInside reports whether the log so far ends inside a line.
func (c *composed) endsInside(ctx context.Context) (bool, error) {
	if c.size == 0 {
		return false, nil
	}
	b, err := c.read(ctx, c.size-1, 1)
	return err == nil && b[0] != '\n', err
}

// read returns n bytes from off on, all of which must be there.
func (c *composed) read(ctx context.Context, off, n int64) ([]byte, error) {
	var b strings.Builder
	err := c.copy(ctx, &b, off, n)
	return []byte(b.String()), err
}

// copy writes n bytes from off on.
func (c *composed) copy(ctx context.Context, to io.Writer, off, n int64) error {
	for _, p := range c.parts {
		if n <= 0 {
			return nil
		}
		if off >= p.size {
			off -= p.size
			continue
		}
		take := min(n, p.size-off)
		if err := c.copyPart(ctx, to, p, off, take); err != nil {
			return err
		}
		off, n = 0, n-take
	}
	return nil
}

func (c *composed) copyPart(ctx context.Context, to io.Writer, p part, off, n int64) error {
	if p.key == "" {
		_, err := io.WriteString(to, p.text[off:off+n])
		return err
	}
	from, err := c.blobs.Open(ctx, p.key, off, n)
	if err != nil {
		return fmt.Errorf("read %s: %w", p.key, err)
	}
	_, err = io.CopyN(to, from, n)
	return errors.Join(err, from.Close())
}

// wholeLines is the size of the log up to its last line end, looking back at
// most window bytes; a longer line counts as whole.
func (c *composed) wholeLines(ctx context.Context) (int64, error) {
	const window = 1 << 20
	for back := int64(4096); c.size > 0; back *= 16 {
		n := min(back, c.size)
		tail, err := c.read(ctx, c.size-n, n)
		if err != nil {
			return 0, err
		}
		if i := strings.LastIndexByte(string(tail), '\n'); i >= 0 {
			return c.size - n + int64(i) + 1, nil
		}
		if n == c.size {
			return 0, nil
		}
		if n >= window {
			return c.size, nil
		}
	}
	return 0, nil
}

// getSignedLog serves a log to whoever has its address: SDK v1, browsers. While
// the run goes on only whole lines are shown: the client counts lines, and would
// never show the rest of one that it saw half of.
func (h *server) getSignedLog(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := h.checkSigned(r); err != nil {
		return 0, nil, err
	}
	state, err := h.Jobs.State(r.Context(), r.PathValue("run")) // before the log: it is whole when the state is final
	if err != nil {
		return 0, nil, err
	}
	c, err := h.compose(r.Context(), r.PathValue("guid"), r.PathValue("run"), r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	if len(c.parts) == 0 {
		return 0, nil, fault.Coded(fault.NotFound, "LogNotFound", r.PathValue("name"), "The run has no log %q.", r.PathValue("name"))
	}
	size := c.size
	if !state.Final() {
		if size, err = c.wholeLines(r.Context()); err != nil {
			return 0, nil, err
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(&logAt{r.Context(), c}, 0, size))
	return 0, nil, nil
}

// logAt reads a composed log at any place.
type logAt struct {
	ctx context.Context
	c   *composed
}

func (l *logAt) ReadAt(b []byte, off int64) (int, error) {
	n := min(int64(len(b)), l.c.size-off)
	if n <= 0 {
		return 0, io.EOF
	}
	got, err := l.c.read(l.ctx, off, n)
	copy(b, got)
	if err == nil && n < int64(len(b)) {
		err = io.EOF
	}
	return len(got), err
}

// How often a waiting reader looks again: at once while lines come, less often
// when none do.
const (
	lookFirst = 5 * time.Millisecond
	lookSoon  = 20 * time.Millisecond
	lookLater = 200 * time.Millisecond
	busyFor   = 10 * time.Second // after the last line
	maxWait   = 30 * time.Second
	maxLog    = 4 << 20 // bytes of one answer
)

// getLog serves a log from an offset on, as it is, and waits for more where
// there is none. X-Ebb-Final says that nothing will follow.
func (h *server) getLog(w http.ResponseWriter, r *request) (int, any, error) {
	j, err := h.run(r)
	if err != nil {
		return 0, nil, err
	}
	name := arm.Query(r.Request, "name")
	if name == "" || name == "user_logs/std_log.txt" { // of several processes the first one's
		name = j.Spread.LogName(j.Nodes, 0)
	}
	offset, wait, err := logQuery(r)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	c, final, err := h.await(ctx, r, j.Run, name, offset)
	if err != nil {
		return 0, nil, err
	}
	n := min(max(c.size-offset, 0), maxLog)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	w.Header().Set("X-Ebb-Offset", strconv.FormatInt(offset+n, 10))
	if final && offset+n >= c.size {
		w.Header().Set("X-Ebb-Final", "true")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return 0, nil, nil
	}
	return 0, nil, c.copy(r.Context(), w, offset, n)
}

func logQuery(r *request) (offset int64, wait time.Duration, err error) {
	if s := arm.Query(r.Request, "offset"); s != "" {
		if offset, err = strconv.ParseInt(s, 10, 64); err != nil || offset < 0 {
			return 0, 0, fault.Coded(fault.Invalid, "InvalidOffset", "offset", "%.40q is not an offset in bytes.", s)
		}
	}
	if s := arm.Query(r.Request, "wait"); s != "" {
		seconds, err := strconv.ParseFloat(s, 64)
		if err != nil || !(seconds >= 0) {
			return 0, 0, fault.Coded(fault.Invalid, "InvalidWait", "wait", "%.40q is not a number of seconds.", s)
		}
		wait = min(time.Duration(min(seconds, maxWait.Seconds())*float64(time.Second)), maxWait)
	}
	return offset, wait, nil
}

// await looks at a log until there is something behind offset, the run has
// ended, or ctx is over.
func (h *server) await(ctx context.Context, r *request, run, name string, offset int64) (*composed, bool, error) {
	began, every := time.Now(), lookFirst
	for {
		state, err := h.Jobs.State(r.Context(), run) // before the log: it is whole when the state is final
		if err != nil {
			return nil, false, err
		}
		c, err := h.compose(r.Context(), r.w.GUID, run, name)
		if err != nil || c.size > offset || state.Final() || ctx.Err() != nil {
			return c, state.Final(), err
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		every = min(every*2, lookSoon)
		if time.Since(began) > busyFor {
			every = lookLater
		}
	}
}
