package nodes

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"

	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Limits of one request; bytes.
const (
	maxAppend   = 4 << 20
	maxArtifact = 1 << 40
)

// logName is what a log may be called; agents send no others.
var logName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,7}$`)

// log appends to one log of an attempt where the offset is its size.
func (s *server) log(w http.ResponseWriter, r *http.Request) (int, any, error) {
	h, err := s.held(r)
	if err != nil {
		return answer(w, err)
	}
	name := r.URL.Query().Get("name")
	if len(name) > 256 || !logName.MatchString(name) {
		return 0, nil, fault.New(fault.Invalid, "name", "%.300q is no name of a log.", name)
	}
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil || offset < 0 {
		return 0, nil, fault.New(fault.Invalid, "offset", "The offset is not a number of bytes.")
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAppend))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return 0, nil, fault.New(fault.TooLarge, "", "At most %d bytes of a log go in one request.", maxAppend)
		}
		return 0, nil, fault.New(fault.Invalid, "", "The request ended before its body was whole.")
	}
	info, err := s.Workspaces.Lookup(r.Context(), h.run.Workspace)
	if err != nil {
		return 0, nil, err
	}
	key := fmt.Sprintf("%s/%s/%04d/%s", LogContainer(info.GUID), h.run.ID, h.attempt.N, name)
	size, err := s.Blobs.Append(r.Context(), key, offset, data)
	if errors.Is(err, fault.Conflict) {
		return http.StatusConflict, nodeproto.LogSize{Size: size}, nil
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nodeproto.LogSize{Size: size}, nil
}

// typeOf is the content type of a file, by its name.
func typeOf(name string) string {
	if kind := mime.TypeByExtension(path.Ext(name)); kind != "" {
		return kind
	}
	return "application/octet-stream"
}

// artifact keeps one output file of a run.
func (s *server) artifact(w http.ResponseWriter, r *http.Request) (int, any, error) {
	h, err := s.held(r)
	if err != nil {
		return answer(w, err)
	}
	name, err := assets.CleanPath(r.PathValue("path"))
	if err != nil {
		return 0, nil, err
	}
	place, err := s.place(r.Context(), h.run.Workspace)
	if err != nil {
		return 0, nil, err
	}
	kind := typeOf(name)
	container := "dcid." + h.run.Name
	if err := s.keep(w, r, assets.ArtifactKey(place, container, name), kind); err != nil {
		return 0, nil, err
	}
	if err := s.Assets.Record(r.Context(), h.who(), place, container, name); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, nil, nil
}

// who is the run, as the one who writes what it leaves.
func (h holding) who() access.Principal {
	return access.Principal{ID: h.run.ID, Name: h.node, Kind: access.RunIdentity, Scope: h.run.Workspace, Run: h.run.ID, Fence: h.attempt.Fence}
}

// keep writes a request's body as a blob.
func (s *server) keep(w http.ResponseWriter, r *http.Request, key, kind string) error {
	src := &agentReader{from: http.MaxBytesReader(w, r.Body, maxArtifact)}
	size, err := s.Blobs.Put(r.Context(), key, src, kind)
	if src.bad != nil || err == nil && r.ContentLength >= 0 && size != r.ContentLength {
		return fault.New(fault.Invalid, "", "The request ended before its body was whole.")
	}
	return err
}

// agentReader tells a failure of the agent's side from one of the disk.
type agentReader struct {
	from io.Reader
	bad  error
}

func (a *agentReader) Read(b []byte) (int, error) {
	n, err := a.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		a.bad = err
	}
	return n, err
}

// snapshot streams the files of a run's code as a tar. An error after the first
// byte breaks the connection off, so that a part never passes for the whole.
func (s *server) snapshot(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := s.code(r)
	if err != nil {
		return answer(w, err)
	}
	files, err := s.Assets.FilesOf(r.Context(), id)
	if err != nil {
		return 0, nil, err
	}
	for _, f := range files {
		if err := s.unchanged(r.Context(), f); err != nil {
			return 0, nil, err
		}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.WriteHeader(http.StatusOK)
	out := tar.NewWriter(w)
	for _, f := range files {
		if err := s.add(r, out, f); err != nil {
			s.Log.ErrorContext(r.Context(), "snapshot broken off", "snapshot", id, "file", f.Path, "err", err)
			panic(http.ErrAbortHandler)
		}
	}
	if err := out.Close(); err != nil {
		panic(http.ErrAbortHandler)
	}
	return 0, nil, nil
}

// unchanged refuses code whose bytes are others than when it was registered. They
// may lie where jobs can write; and an agent that is cut off asks for ever.
func (s *server) unchanged(ctx context.Context, f assets.File) error {
	b, err := s.Blobs.Stat(ctx, f.Key)
	if err == nil && b.Size == f.Size && (f.Written == "" || f.Written == b.Written) {
		return nil
	}
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return err
	}
	return fault.Coded(fault.Invalid, "UserError", f.Path, "The file %.300q of the code was changed or deleted since the code was registered. Upload and register the code again.", f.Path)
}

func (s *server) add(r *http.Request, out *tar.Writer, f assets.File) error {
	in, err := s.Blobs.Open(r.Context(), f.Key, 0, -1)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := out.WriteHeader(&tar.Header{Name: f.Path, Size: f.Size, Mode: 0o755, Typeflag: tar.TypeReg, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}
