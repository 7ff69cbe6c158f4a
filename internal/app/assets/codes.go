package assets

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Blob is a blob's key and size in bytes, and which content of it that is.
type Blob struct {
	Key     string
	Size    int64
	Written string // another one when the content is
}

// NewUpload returns a container for one upload of code, which nobody else
// knows. It comes to be with the first file; what no code asset names is
// removed by retention.
func (s *Service) NewUpload(w Place) string {
	random := strings.ReplaceAll(s.NewID(), "-", "")
	return UploadContainer + random[len(random)-uploadDigits:] + "-" + strings.ToLower(w.GUID)
}

// UploadContainer begins the name of an upload's container: so many random hexadecimal
// digits follow, and the workspace's guid. It is as long as a container's name may be.
const (
	UploadContainer = "snapshots-"
	uploadDigits    = 16
)

// hashed says under what name code of some content is kept.
type hashed struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

func hashID(w Place, hash string) string { return w.key() + "/codehashes/" + strings.ToLower(hash) }

// hashOf returns the hash that SDK v2 gives code, and the version of its making.
func hashOf(props map[string]any) (hash, method string) {
	more, _ := props["properties"].(map[string]any)
	hash, _ = more["hash_sha256"].(string)
	if hash == "" {
		hash, _ = more["hash"].(string)
	}
	method, _ = more["hash_version"].(string)
	return hash, method
}

// accept checks a new version and says what is to be written with it.
func (s *Service) accept(ctx context.Context, p access.Principal, w Place, c Collection, a *Asset) ([]row.Change, error) {
	if err := kinds[c].check(a.Properties, false); err != nil {
		return nil, err
	}
	switch c {
	case Codes:
		return s.acceptCode(ctx, p, w, a)
	case Environments:
		return nil, acceptEnvironment(a)
	}
	return nil, nil
}

// acceptCode makes a snapshot of what was uploaded, for nodes to fetch.
func (s *Service) acceptCode(ctx context.Context, p access.Principal, w Place, a *Asset) ([]row.Change, error) {
	uri, _ := a.Properties["codeUri"].(string)
	files, err := s.filesAt(ctx, w, uri)
	if err != nil {
		return nil, err
	}
	root := treeOf(files)
	if _, err := root.leaves(); err != nil {
		return nil, err
	}
	snap := Snapshot{GUID: strings.ToLower(s.NewID()), Root: root, Files: files, Created: s.Now().UTC()}
	a.Snapshot = snap.GUID
	doc, err := s.document(p, row.Snapshot, snapshotID(w, snap.GUID), w.key(), row.SortTime(snap.Created), snap)
	if err != nil {
		return nil, err
	}
	changes := []row.Change{row.Create(doc)}
	if hash, _ := hashOf(a.Properties); hash != "" {
		pointer, err := s.document(p, row.Asset, hashID(w, hash), "", "", hashed{a.Name, a.Version})
		if err != nil {
			return nil, err
		}
		changes = append(changes, row.Put(pointer))
	}
	return changes, nil
}

// filesAt lists the files below an address, or the one file that lies there.
func (s *Service) filesAt(ctx context.Context, w Place, uri string) ([]File, error) {
	bad := func(format string, args ...any) error {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.codeUri", format, args...)
	}
	at, err := s.Locate(ctx, w, uri)
	if err != nil {
		return nil, err
	}
	at.Path = strings.Trim(at.Path, "/")
	blobs, err := s.Files.List(ctx, at.Container+"/"+at.Path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", at.Container, err)
	}
	folders := map[string]bool{}
	for _, b := range blobs {
		for dir := path.Dir(b.Key); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	var files []File
	total := int64(0)
	for _, b := range blobs {
		name, ok := below(b.Key, at.Container, at.Path)
		if !ok || b.Size == 0 && folders[b.Key] { // an empty blob stands for a folder
			continue
		}
		if err := checkPath(name); err != nil {
			return nil, err
		}
		if total += b.Size; total > maxTotal {
			return nil, badTree("The code has more than %d bytes.", int64(maxTotal))
		}
		if files = append(files, File{Path: name, Key: b.Key, Size: b.Size, Written: b.Written}); len(files) > maxFiles {
			return nil, badTree("The code has more than %d files.", maxFiles)
		}
	}
	if len(files) == 0 {
		return nil, bad("There is no file at %.300q. Upload the code before it is registered.", uri)
	}
	return files, nil
}

// below returns what a key is called from a folder on: its base name where the
// key is the folder's own, which then is a file.
func below(key, container, folder string) (string, bool) {
	name, ok := strings.CutPrefix(key, container+"/")
	if !ok || folder == "" {
		return name, ok
	}
	if name == folder {
		return path.Base(name), true
	}
	return strings.CutPrefix(name, folder+"/")
}

// snapshotVersion is the only version of the code that a snapshot is.
const snapshotVersion = "1"

// SnapshotCodeID is the id of a snapshot as a version of a code asset. SDK v2
// reads no job, and so no list of jobs, whose codeId is not of that form.
func SnapshotCodeID(workspace, guid string) string {
	return workspace + "/" + string(Codes) + "/" + guid + "/versions/" + snapshotVersion
}

// snapshotCode is the code asset that a snapshot stands for, as SDK v1 makes them.
// Its files lie scattered, with those of others: there is no codeUri for all of them.
func (s *Service) snapshotCode(ctx context.Context, w Place, c Collection, name, version string) (Asset, bool) {
	if c != Codes || version != snapshotVersion || !armid.IsGUID(name) {
		return Asset{}, false
	}
	snap, err := s.Snapshot(ctx, w, name)
	if err != nil {
		return Asset{}, false
	}
	return Asset{
		Name: snap.GUID, Version: version, Snapshot: snap.GUID, Created: snap.Created, Modified: snap.Created,
		Properties: map[string]any{"codeUri": nil, "isAnonymous": true},
	}, true
}

// CodeOf returns the snapshot of the code that a job's codeId names: the guid
// of a snapshot, the id of one, or that of a version of a code asset.
func (s *Service) CodeOf(ctx context.Context, w Place, id string) (guid string, err error) {
	if id == "" || armid.IsGUID(id) {
		return id, nil
	}
	if i := strings.LastIndex(strings.ToLower(id), "/snapshots/"); i >= 0 {
		return id[i+len("/snapshots/"):], nil
	}
	a, err := s.Find(ctx, w, Codes, id)
	if errors.Is(err, fault.NotFound) {
		return "", fault.Coded(fault.Invalid, "CodeNotFound", "properties.codeId", "The code asset %.300q was not found in this workspace.", id)
	}
	if err != nil {
		return "", err
	}
	if _, err := s.Snapshot(ctx, w, a.Snapshot); errors.Is(err, fault.NotFound) {
		return "", fault.Coded(fault.Invalid, "CodeNotFound", "properties.codeId", "The files of the code asset %s:%s are gone: no job had used them for as long as the server keeps them. Upload the code again.", a.Name, a.Version)
	} else if err != nil {
		return "", err
	}
	return a.Snapshot, nil
}
