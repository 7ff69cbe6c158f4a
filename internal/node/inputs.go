package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node/runner"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Limits of one input, so that a broken stream cannot go on for ever. The disk
// is smaller.
const (
	maxInputFiles = 2_000_000
	maxInputBytes = 1 << 50
)

// errChanged says that an input's files are others than when they were listed.
var errChanged = errors.New("the input changed while it was read")

// fetchInputs puts the inputs of a task below dir. What the job may not change
// shares its bytes with the machine's cache. say is told that our server does not
// answer, away that another does not.
func (s *server) fetchInputs(ctx context.Context, cache, dir string, o nodeproto.Order, say func(error), away func(input string, err error)) error {
	for _, in := range o.Task.Inputs {
		if in.Mode == queue.Direct {
			continue
		}
		to := filepath.Join(dir, runner.InputFolder(in), in.Name)
		tries, say := 0, say
		if in.Public != "" {
			say = func(err error) { away(in.Name, err) }
		}
		err := persist(ctx, say, func() error {
			if err := os.RemoveAll(to); err != nil { // of a try that was cut short
				return err
			}
			if in.Public == "" {
				return final(in, s.fetchInput(ctx, cache, to, o, in))
			}
			err := s.web.fetch(ctx, to, in)
			if tries++; err != nil && tries == webTries && ctx.Err() == nil { // it may be away for ever, unlike our server
				err = &codeError{err.Error()}
			}
			return final(in, err)
		})
		if r := (*refusal)(nil); errors.As(err, &r) {
			return fault.Coded(fault.Invalid, "UserError", in.Name, "%s", wordsOf(r))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fetchContext puts the files of a build's context below dir.
func (s *server) fetchContext(ctx context.Context, cache, dir string, o nodeproto.Order, say func(error)) error {
	in := queue.Input{Name: queue.ContextInput, URI: o.Task.Environment.Build.URI, Mode: queue.ReadOnlyMount}
	to := runner.ContextFolder(dir)
	err := persist(ctx, say, func() error {
		if err := os.RemoveAll(to); err != nil { // of a try that was cut short
			return err
		}
		return final(in, s.fetchInput(ctx, cache, to, o, in))
	})
	if r := (*refusal)(nil); errors.As(err, &r) {
		return fault.Coded(fault.Invalid, "ImageBuildFailure", "environment", "%s", wordsOf(r))
	}
	return err
}

// final makes a refusal of what no second try mends.
func final(in queue.Input, err error) error {
	code := (*codeError)(nil)
	if errors.As(err, &code) {
		return &refusal{words: fmt.Sprintf("The input %q (%s) cannot be read: %s.", in.Name, shown(in.URI), code.words)}
	}
	for _, no := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.ENAMETOOLONG, unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.EFBIG} {
		if errors.Is(err, no) {
			return &refusal{words: fmt.Sprintf("The input %q (%s) cannot be kept on the node: %s.", in.Name, shown(in.URI), no.Error())}
		}
	}
	return err
}

// shown is an address without what may be a secret in it: what follows the path,
// and who asks.
func shown(uri string) string {
	bare, _, _ := strings.Cut(uri, "?")
	bare, _, _ = strings.Cut(bare, "#")
	if u, err := url.Parse(bare); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		u.User = nil
		return u.String()
	}
	return bare
}

// wordsOf are the words of an ARM error, or all there is.
func wordsOf(r *refusal) string {
	var body struct{ Error struct{ Message string } }
	if json.Unmarshal([]byte(r.words), &body) == nil && body.Error.Message != "" {
		return body.Error.Message
	}
	return r.Error()
}

func (s *server) fetchInput(ctx context.Context, cache, to string, o nodeproto.Order, in queue.Input) error {
	path := "attempts/" + url.PathEscape(o.Attempt) + "/inputs/" + url.PathEscape(in.Name)
	q := url.Values{"fence": {strconv.FormatInt(o.Fence, 10)}}
	res, err := s.do(ctx, http.MethodGet, path, q, nil, 0)
	if err != nil {
		return err
	}
	var c nodeproto.Content
	err = json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&c)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("read what the input %s holds: %w", in.Name, err)
	}
	q.Set("etag", c.ETag)
	kept, err := s.keptInput(ctx, cache, c.ETag, path, q)
	if err != nil {
		return err
	}
	now := time.Now()
	_ = os.Chtimes(kept, now, now) // when it was last used, for "ebb prune"
	if in.Mode == queue.ReadOnlyMount {
		err = linkTree(kept, to)
	} else {
		err = os.CopyFS(to, os.DirFS(kept))
	}
	if err != nil {
		return fmt.Errorf("lay out the input %s: %w", in.Name, err)
	}
	if c.File == "" {
		return nil
	}
	// The job sees this one; what it is called must be known after a restart too.
	return os.WriteFile(to+runner.FileSuffix, []byte(c.File), 0o600)
}

// keptInput returns the folder in the cache that has an input's files. Content
// is named by its etag, so whoever finishes first is right for all.
func (s *server) keptInput(ctx context.Context, cache, etag, path string, q url.Values) (string, error) {
	sum := sha256.Sum256([]byte("input " + etag))
	parent := filepath.Join(cache, "snapshots")
	kept := filepath.Join(parent, hex.EncodeToString(sum[:16]))
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	res, err := s.do(ctx, http.MethodGet, path, q, nil, 0)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusConflict {
		return "", errChanged
	}
	tree := filepath.Join(tmp, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	if err := untar(res.Body, tree, maxInputFiles, maxInputBytes); err != nil {
		return "", fmt.Errorf("unpack the input: %w", err)
	}
	if d, err := os.Open(tree); err == nil {
		_ = unix.Syncfs(int(d.Fd())) // costs less than a sync of each file
		d.Close()
	}
	if err := os.Rename(tree, kept); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return "", err
	}
	return kept, nil
}

// linkTree makes a second name for every file of a tree; where that is not
// possible, a copy.
func linkTree(from, to string) error {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(p, filepath.Join(to, rel))
	})
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK) {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		return os.CopyFS(to, os.DirFS(from))
	}
	return err
}
