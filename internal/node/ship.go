package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// maxBatch is how much of a log goes in one request; bytes.
const maxBatch = 1 << 20

// logName is what a log may be called; the server checks the same.
var logName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,7}$`)

// shipper sends the logs of one attempt as they grow. Every byte arrives once:
// it is sent until acknowledged, and the server appends only where the offset
// is its size.
type shipper struct {
	server  *server
	attempt string
	fence   int64
	member  int
	dir     string // the attempt's log folder
	log     *slog.Logger
	over    func()        // told once, when the server says that the attempt is over
	term    *atomic.Int64 // of the server; one that began anew may have less than it had. Nil: it never does

	mu    sync.Mutex       // one round at a time
	at    map[string]int64 // the server's size, by name
	asked int64            // the term in which it said so
	done  bool             // over was told, or nothing more is taken
}

// run ships until ctx ends. w wakes it.
func (s *shipper) run(ctx context.Context, w *watcher) {
	last := time.Now()
	for {
		moved, err := s.round(ctx, w)
		if ctx.Err() != nil || errors.Is(err, errOver) {
			return
		}
		pause := w.pause(time.Since(last))
		if moved {
			last = time.Now()
			// More is likely to follow: gather it rather than ask the
			// server's disk for a sync per line.
			if sleep(ctx, 15*time.Millisecond) != nil {
				return
			}
			continue
		}
		t := time.NewTimer(pause)
		select {
		case <-w.C:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// flush ships all there is and returns when the server has it, or wants none.
func (s *shipper) flush(ctx context.Context) error {
	for {
		moved, err := s.round(ctx, nil)
		if errors.Is(err, errOver) {
			return nil
		}
		if err != nil || !moved {
			return err
		}
	}
}

// round ships what every log has more than the server, up to a batch of each.
// w, if not nil, is told of the folders it met.
func (s *shipper) round(ctx context.Context, w *watcher) (moved bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return false, errOver
	}
	if s.term != nil && s.asked != s.term.Load() {
		s.asked = s.term.Load()
		clear(s.at) // ask again
	}
	var names []string
	err = filepath.WalkDir(s.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was removed, or is not there yet
		}
		if d.IsDir() && w != nil {
			w.add(p)
		}
		if rel, err := filepath.Rel(s.dir, p); err == nil && d.Type().IsRegular() && logName.MatchString(filepath.ToSlash(rel)) {
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	for _, name := range names {
		m, err := s.one(ctx, name)
		moved = moved || m
		if errors.Is(err, errOver) {
			s.done = true
			if s.over != nil {
				s.over()
			}
		}
		if err != nil {
			return moved, err
		}
	}
	return moved, nil
}

func (s *shipper) one(ctx context.Context, name string) (moved bool, err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, filepath.FromSlash(name)), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return false, nil
	}
	offset, known := s.at[name]
	if known && offset >= fi.Size() {
		return false, nil
	}
	buf := make([]byte, min(maxBatch, fi.Size()-offset))
	if known || fi.Size() < 4<<10 {
		n, err := f.ReadAt(buf, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read log %s: %w", name, err)
		}
		buf = buf[:n]
	} else {
		buf = nil // an agent before us may have sent it: ask for the size first
	}
	var size int64
	err = persist(ctx, func(err error) {
		s.log.Warn("log waits", "attempt", s.attempt, "log", name, "err", err)
	}, func() error {
		size, err = s.append(ctx, name, offset, buf)
		return err
	})
	var r *refusal
	switch {
	case errors.As(err, &r):
		s.log.Error("log refused", "attempt", s.attempt, "log", name, "err", err)
		s.at[name] = 1 << 62 // this one is never asked for again; the others go on
		return false, nil
	case err != nil:
		return false, err
	}
	s.at[name] = size
	return true, nil
}

// append posts bytes and returns the size the server has then, whether it took
// them or had them.
func (s *shipper) append(ctx context.Context, name string, offset int64, b []byte) (int64, error) {
	q := url.Values{
		"fence": {strconv.FormatInt(s.fence, 10)}, "member": {strconv.Itoa(s.member)},
		"name": {memberName(name, s.member)}, "offset": {strconv.FormatInt(offset, 10)},
	}
	res, err := s.server.do(ctx, http.MethodPost, "attempts/"+url.PathEscape(s.attempt)+"/log", q, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var size nodeproto.LogSize
	if err := json.NewDecoder(io.LimitReader(res.Body, 4<<10)).Decode(&size); err != nil {
		return 0, fmt.Errorf("read the log's size: %w", err)
	}
	if res.StatusCode == http.StatusConflict && size.Size == offset {
		return 0, fmt.Errorf("the server refused an append where its log ends (%d)", offset)
	}
	return size.Size, nil
}

// memberName keeps the logs of a gang's members apart: what every node writes
// under one name (as the build log) gets the member's number, but for the first.
func memberName(name string, member int) string {
	if member == 0 || strings.HasPrefix(name, "user_logs/") {
		return name // the order names those, one for each member
	}
	ext := path.Ext(name)
	return strings.TrimSuffix(name, ext) + "_" + strconv.Itoa(member) + ext
}
