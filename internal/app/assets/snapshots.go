package assets

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// NoSnapshot is the parent of a snapshot that has none.
const NoSnapshot = "00000000-0000-0000-0000-000000000000"

// File is a file of a snapshot and where its bytes lie.
type File struct {
	Path string `json:"path"` // relative, with slashes
	Key  string `json:"key"`  // of the blob
	Size int64  `json:"size"` // bytes
	Hash string `json:"hash,omitempty"`
	// Written is the blob's, where others than its uploader can write; else empty.
	Written string `json:"written,omitempty"`
}

// Snapshot is a tree of code. It never changes, and goes only by retention: clients
// keep its id in their caches and send only what differs (sdk-v1.md, section 4).
type Snapshot struct {
	GUID       string          `json:"guid"`
	Parent     string          `json:"parent,omitempty"`
	Root       Node            `json:"root"`
	Files      []File          `json:"files"`
	Tags       json.RawMessage `json:"tags,omitempty"`
	Properties json.RawMessage `json:"properties,omitempty"`
	Created    time.Time       `json:"created"`
}

// Slot is a place where a client may put one file.
type Slot struct{ Name, Container, Blob string }

// Slots returns a place for each of the files. Blob names are opaque: a name
// with a space in it does not survive the client's own escaping.
func (s *Service) Slots(w Place, names []string) []Slot {
	out := make([]Slot, 0, len(names))
	for _, n := range names {
		out = append(out, Slot{Name: n, Container: w.SnapshotContainer(), Blob: strings.ReplaceAll(s.NewID(), "-", "")})
	}
	return out
}

// Uploaded is a file that a client says it has put into a slot.
type Uploaded struct {
	Path            string
	Container, Blob string
	Size            int64
}

// NewSnapshot is a snapshot as a client sends it: the whole tree, and the files
// that differ from the parent's.
type NewSnapshot struct {
	GUID       string
	Parent     string // guid; empty or NoSnapshot: none
	Root       Node
	Uploaded   []Uploaded
	Tags       json.RawMessage
	Properties json.RawMessage
}

func snapshotID(w Place, guid string) string { return w.key() + "/snapshots/" + strings.ToLower(guid) }

// CreateSnapshot records a snapshot, or changes nothing. The same again is no
// error; another tree under the same guid is a conflict.
func (s *Service) CreateSnapshot(ctx context.Context, p access.Principal, w Place, in NewSnapshot) error {
	if !armid.IsGUID(in.GUID) || in.GUID == NoSnapshot {
		return fault.Coded(fault.Invalid, "InvalidSnapshot", "snapshotId", "The snapshot id %.60q is not a guid.", in.GUID)
	}
	leaves, err := in.Root.leaves()
	if err != nil {
		return err
	}
	files, err := s.resolve(ctx, w, in, leaves)
	if err != nil {
		return err
	}
	snap := Snapshot{GUID: strings.ToLower(in.GUID), Parent: in.Parent, Root: in.Root, Files: files, Tags: in.Tags, Properties: in.Properties, Created: s.Now().UTC()}
	return s.keep(ctx, p, w, snap)
}

func (s *Service) keep(ctx context.Context, p access.Principal, w Place, snap Snapshot) error {
	id := snapshotID(w, snap.GUID)
	doc, err := s.document(p, row.Snapshot, id, w.key(), row.SortTime(snap.Created), snap)
	if err != nil {
		return err
	}
	_, err = s.Store.Commit(ctx, row.Create(doc), s.event(p, id, "create snapshot"))
	if !errors.Is(err, fault.Precondition) {
		return err
	}
	var kept Snapshot
	if _, err := s.read(ctx, row.Snapshot, id, &kept); err != nil {
		return err
	}
	if !sameFiles(kept.Files, snap.Files) {
		return fault.Coded(fault.Conflict, "SnapshotExists", snap.GUID, "The snapshot %s exists and holds something else.", snap.GUID)
	}
	return nil
}

func sameFiles(a, b []File) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Path != b[i].Path || a[i].Size != b[i].Size || a[i].Hash != b[i].Hash {
			return false
		}
	}
	return true
}

// resolve finds the bytes of every file of the tree: uploaded now, or in the parent.
func (s *Service) resolve(ctx context.Context, w Place, in NewSnapshot, leaves []leaf) ([]File, error) {
	sent, err := s.uploaded(ctx, w, in.Uploaded)
	if err != nil {
		return nil, err
	}
	before, err := s.parent(ctx, w, in.Parent)
	if err != nil {
		return nil, err
	}
	files, total := make([]File, 0, len(leaves)), int64(0)
	for _, l := range leaves {
		f, ok := sent[l.path]
		if ok {
			delete(sent, l.path)
		} else if f, ok = before[l.path]; !ok {
			return nil, badTree("The file %.200q was not uploaded, and the parent snapshot does not have it.", l.path)
		} else if l.hash != "" && f.Hash != "" && l.hash != f.Hash {
			return nil, badTree("The file %.200q was not uploaded, and the parent snapshot has another version of it.", l.path)
		}
		f.Hash = l.hash
		if total += f.Size; total > maxTotal {
			return nil, badTree("The snapshot has more than %d bytes.", int64(maxTotal))
		}
		files = append(files, f)
	}
	for name := range sent {
		return nil, badTree("The file %.200q was uploaded but is not in the tree.", name)
	}
	return files, nil
}

// uploaded checks that the files a client speaks of are there, whole, and in
// its own workspace's container.
func (s *Service) uploaded(ctx context.Context, w Place, list []Uploaded) (map[string]File, error) {
	out := make(map[string]File, len(list))
	for _, u := range list {
		name := strings.ReplaceAll(u.Path, "\\", "/") // as clients on Windows write it; no name holds a backslash
		if err := checkPath(name); err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice {
			return nil, badTree("The file %.200q is listed twice.", name)
		}
		if u.Container != w.SnapshotContainer() || u.Blob == "" || strings.ContainsAny(u.Blob, "/\\") {
			return nil, badTree("The blob of %.200q does not lie in this workspace's snapshot container.", name)
		}
		key := u.Container + "/" + u.Blob
		size, err := s.Files.Size(ctx, key)
		if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid) {
			return nil, badTree("The file %.200q was not uploaded.", name)
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", key, err)
		}
		if size != u.Size {
			return nil, badTree("The file %.200q has %d bytes, not the %d that were announced.", name, size, u.Size)
		}
		out[name] = File{Path: name, Key: key, Size: size}
	}
	return out, nil
}

func (s *Service) parent(ctx context.Context, w Place, guid string) (map[string]File, error) {
	if guid == "" || guid == NoSnapshot {
		return nil, nil
	}
	snap, err := s.Snapshot(ctx, w, guid)
	if errors.Is(err, fault.NotFound) {
		return nil, badTree("The parent snapshot %.60q was not found in this workspace.", guid)
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]File, len(snap.Files))
	for _, f := range snap.Files {
		out[f.Path] = f
	}
	return out, nil
}

// Snapshot returns a snapshot by its guid.
func (s *Service) Snapshot(ctx context.Context, w Place, guid string) (Snapshot, error) {
	var snap Snapshot
	_, err := s.read(ctx, row.Snapshot, snapshotID(w, guid), &snap)
	if errors.Is(err, fault.NotFound) {
		err = fault.Coded(fault.NotFound, "SnapshotNotFound", guid, "The snapshot %.60q was not found.", guid)
	}
	return snap, err
}

// FilesOf returns the files of a snapshot by its row's id, as a task names it.
func (s *Service) FilesOf(ctx context.Context, snapshotID string) ([]File, error) {
	var snap Snapshot
	if _, err := s.read(ctx, row.Snapshot, strings.ToLower(snapshotID), &snap); err != nil {
		return nil, err
	}
	return snap.Files, nil
}

// WriteZip writes a snapshot as a zip archive.
func (s *Service) WriteZip(ctx context.Context, snap Snapshot, to io.Writer) error {
	z := zip.NewWriter(to)
	for _, f := range snap.Files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.Path, Method: zip.Deflate, Modified: snap.Created})
		if err != nil {
			return fmt.Errorf("zip %s: %w", f.Path, err)
		}
		if err := s.copy(ctx, w, f.Key); err != nil {
			return fmt.Errorf("zip %s: %w", f.Path, err)
		}
	}
	return z.Close()
}

func (s *Service) copy(ctx context.Context, to io.Writer, key string) error {
	from, err := s.Files.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, from.Close())
}

// ImportZip makes the snapshot guid of a zip archive. What an
// archive claims is not believed: sizes are counted, names checked, and
// anything but plain files and folders is refused.
func (s *Service) ImportZip(ctx context.Context, p access.Principal, w Place, guid string, from io.ReaderAt, size, most int64) error {
	z, err := zip.NewReader(from, size)
	if err != nil {
		return fault.Coded(fault.Invalid, "InvalidSnapshot", "project.zip", "The project is not a zip archive: %s.", err)
	}
	names, err := archiveNames(z)
	if err != nil {
		return err
	}
	var files []File
	left := most
	for i, f := range z.File {
		if names[i] == "" {
			continue
		}
		file, err := s.unzip(ctx, w, f, left)
		if err != nil {
			return err
		}
		left -= file.Size
		file.Path = names[i]
		files = append(files, file)
	}
	root := treeOf(files)
	if _, err := root.leaves(); err != nil {
		return err
	}
	snap := Snapshot{GUID: strings.ToLower(guid), Root: root, Files: files, Created: s.Now().UTC()}
	return s.keep(ctx, p, w, snap)
}

// archiveNames returns the path of every entry, empty for folders, or refuses
// them all: nothing is written for an archive that is refused.
func archiveNames(z *zip.Reader) ([]string, error) {
	if len(z.File) > maxFiles {
		return nil, badTree("The archive has more than %d entries.", maxFiles)
	}
	seen := map[string]bool{}
	names := make([]string, len(z.File))
	for i, f := range z.File {
		name := strings.TrimSuffix(f.Name, "/")
		if err := checkPath(name); err != nil {
			return nil, err
		}
		if mode := f.Mode(); !mode.IsRegular() && !mode.IsDir() {
			return nil, badTree("%.200q is neither a file nor a folder.", name)
		}
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if seen[name] {
			return nil, badTree("The file %.200q occurs twice.", name)
		}
		seen[name], names[i] = true, name
	}
	for name := range seen {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return nil, badTree("%.200q is both a file and a folder.", dir)
			}
		}
	}
	return names, nil
}

// unzip stores one entry, of at most so many bytes.
func (s *Service) unzip(ctx context.Context, w Place, f *zip.File, most int64) (File, error) {
	r, err := f.Open()
	if err != nil {
		return File{}, badTree("%.200q cannot be read: %s.", f.Name, err)
	}
	defer func() { _ = r.Close() }() // nothing is lost with it: the checksum was checked by reading to the end
	slot := s.Slots(w, []string{f.Name})[0]
	key := slot.Container + "/" + slot.Blob
	counted := &counter{from: r, left: most}
	size, err := s.Files.Put(ctx, key, counted, "application/octet-stream")
	switch {
	case counted.left < 0:
		return File{}, fault.Coded(fault.TooLarge, "SnapshotTooLarge", "project.zip", "The project is larger than allowed once unpacked.")
	case counted.bad != nil:
		return File{}, badTree("%.200q cannot be unpacked: %s.", f.Name, counted.bad)
	case err != nil:
		return File{}, fmt.Errorf("store %s: %w", key, err)
	}
	return File{Key: key, Size: size}, nil
}

// counter stops a reader that gives more than it may.
type counter struct {
	from io.Reader
	left int64
	bad  error // what the archive did wrong
}

var errTooMuch = errors.New("too much")

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	if c.left -= int64(n); c.left < 0 {
		return 0, errTooMuch
	}
	if err != nil && err != io.EOF {
		c.bad = err
	}
	return n, err
}
