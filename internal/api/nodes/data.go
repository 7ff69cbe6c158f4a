package nodes

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// maxInputFiles bounds what one input may hold.
const maxInputFiles = 2_000_000

// leaf is a file of an input, by its place below the folder that the job sees.
type leaf struct {
	path string
	blob Blob
}

// input answers with what an input of a run holds, or sends it as a tar. An
// error after the first byte breaks the connection off, so that a part never
// passes for the whole.
func (s *server) input(w http.ResponseWriter, r *http.Request) (int, any, error) {
	h, err := s.held(r)
	if err != nil {
		return answer(w, err)
	}
	t, err := s.taskOf(r.Context(), h.attempt.Run)
	if err != nil {
		return 0, nil, err
	}
	if b := t.Environment.Build; b != nil && b.Key != "" {
		t.Inputs = append(t.Inputs, queue.Input{Name: queue.ContextInput, Type: "uri_folder", URI: b.URI, Key: b.Key})
	}
	i := slices.IndexFunc(t.Inputs, func(i queue.Input) bool { return i.Name == r.PathValue("name") })
	if i < 0 {
		return 0, nil, fault.New(fault.NotFound, "", "The run has no input of this name.")
	}
	leaves, content, err := s.leaves(r.Context(), t.Inputs[i])
	if err != nil {
		return 0, nil, err
	}
	want := r.URL.Query().Get("etag")
	if want == "" {
		return http.StatusOK, content, nil
	}
	if want != content.ETag {
		return http.StatusConflict, content, nil
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.WriteHeader(http.StatusOK)
	out := tar.NewWriter(w)
	for _, l := range leaves {
		if err := s.send(r.Context(), out, l); err != nil {
			s.Log.ErrorContext(r.Context(), "input broken off", "run", h.run.Name, "input", t.Inputs[i].Name, "file", l.path, "err", err)
			panic(http.ErrAbortHandler)
		}
	}
	if err := out.Close(); err != nil {
		panic(http.ErrAbortHandler)
	}
	return 0, nil, nil
}

func (s *server) send(ctx context.Context, out *tar.Writer, l leaf) error {
	in, err := s.Blobs.Read(ctx, l.blob.Key, l.blob.ETag)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := out.WriteHeader(&tar.Header{Name: l.path, Size: l.blob.Size, Mode: 0o444, Typeflag: tar.TypeReg, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}

// leaves lists the files of an input. One that is not there, or could not be
// files of a folder, is the user's to mend: the words name it.
func (s *server) leaves(ctx context.Context, in queue.Input) ([]leaf, nodeproto.Content, error) {
	bad := func(format string, args ...any) error {
		return fault.Coded(fault.Invalid, "UserError", in.Name, "The input %q (%s) cannot be read: %s.", in.Name, in.URI, fmt.Sprintf(format, args...))
	}
	if in.Public != "" {
		return nil, nodeproto.Content{}, bad("nodes of this one's version do not read public addresses; upgrade its agent")
	}
	blobs, err := s.Blobs.Below(ctx, in.Key)
	if err != nil {
		return nil, nodeproto.Content{}, err
	}
	if len(blobs) > maxInputFiles {
		return nil, nodeproto.Content{}, bad("it has %d files; at most %d are allowed", len(blobs), maxInputFiles)
	}
	_, at, _ := strings.Cut(in.Key, "/")
	one := len(blobs) > 0 && blobs[0].Key == in.Key && at != ""
	switch {
	case len(blobs) == 0:
		return nil, nodeproto.Content{}, bad("there is nothing at this path")
	case queue.OneFile(in.Type) && !one:
		return nil, nodeproto.Content{}, bad("the path is a folder, and the input of type %s is to be one file", in.Type)
	case one && (len(blobs) == 1 || queue.OneFile(in.Type)):
		l := leaf{path.Base(at), blobs[0]}
		c := nodeproto.Content{ETag: etag([]leaf{l})}
		if queue.OneFile(in.Type) || queue.Model(in.Type) {
			c.File = l.path
		}
		if _, err := assets.CleanPath(l.path); err != nil {
			return nil, c, bad("its name %.80q cannot be that of a file", l.path)
		}
		return []leaf{l}, c, nil
	}
	out, err := tree(strings.TrimSuffix(in.Key, "/")+"/", blobs)
	if err != nil {
		return nil, nodeproto.Content{}, bad("%s", err)
	}
	return out, nodeproto.Content{ETag: etag(out)}, nil
}

// tree makes files of the blobs below a prefix. An empty blob that has others
// below it stands for their folder.
func tree(prefix string, blobs []Blob) ([]leaf, error) {
	folders := map[string]bool{}
	for _, b := range blobs {
		for dir := path.Dir(b.Key); len(dir) >= len(prefix) && !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	var out []leaf
	for _, b := range blobs {
		name, ok := strings.CutPrefix(b.Key, prefix)
		switch {
		case !ok || folders[b.Key] && b.Size == 0:
			continue
		case folders[b.Key]:
			return nil, fmt.Errorf("%.200q is a file and has others below it", name)
		}
		clean, err := assets.CleanPath(name)
		if err != nil || clean != name {
			return nil, fmt.Errorf("the name %.200q cannot be that of a file", name)
		}
		out = append(out, leaf{name, b})
	}
	return out, nil
}

// etag stands for the names and bytes of files.
func etag(leaves []leaf) string {
	sum := sha256.New()
	for _, l := range leaves {
		_, _ = fmt.Fprintf(sum, "%q %s %d\n", l.path, l.blob.ETag, l.blob.Size)
	}
	return hex.EncodeToString(sum.Sum(nil)[:20])
}

// target is where the files of a slot go: to a key, or below it.
func target(t queue.Task, slot string) (key string, one bool, err error) {
	kind, name, _ := strings.Cut(slot, ".")
	for _, o := range t.Outputs {
		if kind == "outputs" && o.Name == name && o.Mode != queue.Direct {
			return o.Key, queue.OneFile(o.Type), nil
		}
	}
	for _, i := range t.Inputs {
		if kind == "inputs" && i.Name == name && i.Mode == queue.ReadWriteMount {
			return i.Key, queue.OneFile(i.Type), nil
		}
	}
	return "", false, fault.New(fault.NotFound, "", "The run has no output of this name.")
}

// aside is where the files of a run wait until all of an attempt's are there:
// who looks at an output's place never sees a part that a lost node left.
func aside(guid string, h holding) string {
	return AsideContainer(guid) + "/" + h.run.ID + "/"
}

// AsideContainer is where the files of a workspace's runs wait until all are there.
func AsideContainer(guid string) string { return "$blocks/outputs-" + strings.ToLower(guid) }

// LogContainer is where the logs of a workspace's runs are kept.
func LogContainer(guid string) string { return "logs-" + strings.ToLower(guid) }

// share is the part of a member of an attempt in it.
func (h holding) share() string { return fmt.Sprintf("%04d/%d/", h.attempt.N, h.member) }

// output keeps one file of a named output aside.
func (s *server) output(w http.ResponseWriter, r *http.Request) (int, any, error) {
	h, err := s.held(r)
	if err != nil {
		return answer(w, err)
	}
	t, err := s.taskOf(r.Context(), h.attempt.Run)
	if err != nil {
		return 0, nil, err
	}
	to, _, err := target(t, r.PathValue("slot"))
	if err != nil {
		return 0, nil, err
	}
	name, err := assets.CleanPath(r.PathValue("path"))
	if err != nil {
		return 0, nil, err
	}
	if err := s.Blobs.Check(strings.TrimSuffix(to, "/") + "/" + name); err != nil {
		return 0, nil, err // one that could not move would keep all others from it
	}
	place, err := s.place(r.Context(), h.run.Workspace)
	if err != nil {
		return 0, nil, err
	}
	if err := s.keep(w, r, aside(place.GUID, h)+h.share()+r.PathValue("slot")+"/"+name, typeOf(name)); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, nil, nil
}

// slots are the folders in which an attempt keeps files aside.
func slots(t queue.Task) (out []string) {
	for _, o := range t.Outputs {
		out = append(out, "outputs."+o.Name)
	}
	for _, i := range t.Inputs {
		out = append(out, "inputs."+i.Name)
	}
	return out
}
