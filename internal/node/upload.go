package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/runner"
)

// outputs are the folders of the working directory that are kept, as Azure
// keeps them: what a job leaves there belongs to the run.
var outputs = []string{"outputs", "logs"}

// uploader sends the output files of one attempt.
type uploader struct {
	server  *server
	attempt string
	fence   int64
	member  int
	epoch   int64 // of the server
	log     *slog.Logger
}

// all sends every file under the output folders of work. What cannot be sent
// ever (a name no client could ask for, a link that leads outside, a file the
// server refuses) is said in the agent's log and passed over. It returns when
// the rest is the server's, or the server says that the attempt is over.
func (u *uploader) all(ctx context.Context, work string) error {
	root, err := os.OpenRoot(work)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, top := range outputs {
		if u.tree(ctx, g, root, top, "artifacts/") != nil {
			break
		}
	}
	if err := g.Wait(); !errors.Is(err, errOver) {
		return err
	}
	return nil
}

// named sends the files of named outputs, and of inputs that are written back,
// and has them put in their places once all are there. well says that the
// process ended so.
func (u *uploader) named(ctx context.Context, dir string, well bool) error {
	sent := false
	for folder, kind := range map[string]string{runner.Outputs: "outputs", runner.Shared: "inputs"} {
		names, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, n := range names {
			if !n.IsDir() {
				continue // the name of an input's file
			}
			sent = true
			err := u.slot(ctx, filepath.Join(dir, folder, n.Name()), "outputs/"+kind+"."+n.Name()+"/")
			if errors.Is(err, errOver) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	if !sent {
		return nil
	}
	q := url.Values{"fence": {strconv.FormatInt(u.fence, 10)}, "member": {strconv.Itoa(u.member)}, "done": {strconv.FormatBool(well)}, "epoch": {strconv.FormatInt(u.epoch, 10)}}
	err := persist(ctx, func(err error) {
		u.log.Warn("outputs wait", "attempt", u.attempt, "err", err)
	}, func() error {
		res, err := u.server.do(ctx, http.MethodPost, "attempts/"+url.PathEscape(u.attempt)+"/outputs", q, nil, 0)
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
	if r := (*refusal)(nil); errors.As(err, &r) && r.status == http.StatusPreconditionFailed {
		u.log.Info("the server was restored meanwhile, which asks for the outputs again", "attempt", u.attempt)
		return nil
	} else if r != nil {
		u.log.Error("outputs refused", "attempt", u.attempt, "err", err)
		return nil
	}
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// slot sends all files below a folder.
func (u *uploader) slot(ctx context.Context, dir, at string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	if err := u.tree(ctx, g, root, ".", at); err != nil {
		return errors.Join(err, g.Wait())
	}
	return g.Wait()
}

// tree sends the files below a folder of root, below an address of the attempt.
func (u *uploader) tree(ctx context.Context, g *errgroup.Group, root *os.Root, top, at string) error {
	// The walk follows no links, so it ends, and stays inside.
	return fs.WalkDir(root.FS(), top, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			u.skip(name, err)
			return nil
		case d.IsDir():
			return ctx.Err()
		case !d.Type().IsRegular() && d.Type() != fs.ModeSymlink:
			u.skip(name, errors.New("it is not a file"))
			return nil
		case !askable(name):
			u.skip(name, errors.New("its name cannot be kept"))
			return nil
		}
		g.Go(func() error { return u.one(ctx, root, name, at) })
		return nil
	})
}

// askable reports whether a file's path can be a blob's: printable UTF-8 of at
// most 1,024 bytes, without empty or dot segments or backslashes.
func askable(name string) bool {
	if !utf8.ValidString(name) || len(name) > 1000 || strings.ContainsRune(name, '\\') || path.Clean(name) != name {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (u *uploader) skip(name string, err error) {
	u.log.Warn("output passed over", "attempt", u.attempt, "file", fmt.Sprintf("%q", name), "err", err)
}

func (u *uploader) one(ctx context.Context, root *os.Root, name, at string) error {
	err := persist(ctx, func(err error) {
		u.log.Warn("output waits", "attempt", u.attempt, "file", name, "err", err)
	}, func() error { return u.put(ctx, root, name, at) })
	var r *refusal
	if errors.As(err, &r) {
		u.skip(name, err)
		return nil
	}
	return err
}

func (u *uploader) put(ctx context.Context, root *os.Root, name, at string) error {
	// A link is followed as far as root lets it; a pipe must not hold us up.
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return &refusal{words: err.Error()}
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return &refusal{words: "it is not a file"}
	}
	q := url.Values{"fence": {strconv.FormatInt(u.fence, 10)}, "member": {strconv.Itoa(u.member)}}
	res, err := u.server.do(ctx, http.MethodPut, "attempts/"+url.PathEscape(u.attempt)+"/"+at+escapePath(name), q, f, fi.Size())
	if err != nil {
		return err
	}
	return res.Body.Close()
}
