package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"

	"github.com/dustin/go-humanize"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/upload"
)

// What a job or an asset names of this machine is taken to the server first:
// code, data, build folders, and the environments that a job defines itself.

// resolveJob uploads what a job has of this machine.
func (a *app) resolveJob(ctx context.Context, c *client.Client, s *azml.Job) (azml.Resolved, error) {
	r := azml.Resolved{Data: map[string]string{}}
	var err error
	if r.Environment, err = a.environmentOf(ctx, c, s.Environment, s.Dir); err != nil {
		return r, err
	}
	if r.Code, err = a.codeOf(ctx, c, s.Code, s.Dir); err != nil {
		return r, err
	}
	for _, name := range sortedKeys(s.Inputs) {
		in, field := s.Inputs[name], "inputs."+name+".path"
		switch kind := in.AssetKind(); {
		case in.Literal:
		case kind == "models":
			r.Data[name], err = idOf(ctx, c, &modelKind, field, in.Path)
		case kind == "data":
			r.Data[name], err = idOf(ctx, c, &dataKind, field, in.Path)
		case azml.IsLocal(in.Path):
			r.Data[name], err = a.sendData(ctx, c, azml.Abs(s.Dir, in.Path), client.DefaultDatastore, in.Type, field)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// idOf is the id of the version that a document names in a field. The newest is
// looked up here, as az does: what is sent again after a restart is then the same,
// whatever was registered meanwhile.
func idOf(ctx context.Context, c *client.Client, k *assetKind, field, ref string) (string, error) {
	id, err := azml.AssetID(c.File(), k.plural, ref)
	if err != nil {
		return "", usagef("%s: %w", field, err)
	}
	name, newest := strings.CutPrefix(id, "azureml:")
	if !newest {
		return id, nil
	}
	got, err := c.Assets(k.plural).Latest(ctx, name)
	if client.IsNotFound(err) {
		err = noAsset(ctx, c, k, name, "", err)
	}
	return got.ID, err
}

// codeOf returns the id of a job's code, which is uploaded unless the server has
// the same already.
func (a *app) codeOf(ctx context.Context, c *client.Client, code, dir string) (string, error) {
	switch {
	case code == "":
		return "", nil
	case strings.HasPrefix(code, "azureml:") || strings.HasPrefix(code, "/subscriptions/"):
		id, err := azml.AssetID(c.File(), "codes", code)
		return id, asUsage(err)
	case strings.HasPrefix(code, "git") || !azml.IsLocal(code):
		return "", usagef("code: %q is not a folder of this machine; fetching code from elsewhere is not built: clone it first", code)
	}
	folder, err := readFolder("code", azml.Abs(dir, code))
	if err != nil {
		return "", err
	}
	got, err := a.sendCode(ctx, c, folder, newID(), "1", true)
	return got.ID, err
}

func readFolder(field, path string) (*upload.Folder, error) {
	folder, err := upload.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("%s: there is no %s on this machine", field, path)
	}
	if err != nil {
		return nil, usagef("%s: %w", field, err)
	}
	return folder, nil
}

// sendCode makes a version of code of a folder. Code that nobody named is not
// sent again when the server has it, under whatever name.
func (a *app) sendCode(ctx context.Context, c *client.Client, folder *upload.Folder, name, version string, anonymous bool) (client.Asset, error) {
	codes := c.Assets("codes")
	hash, err := folder.Hash()
	if err != nil {
		return client.Asset{}, err
	}
	if anonymous {
		for got, err := range codes.ByHash(ctx, name, hash, fmt.Sprint(upload.HashVersion)) {
			return got, err
		}
	}
	to, uri, err := codes.StartUpload(ctx, name, version)
	if err != nil {
		return client.Asset{}, err
	}
	prefix := folder.Base
	if folder.IsFile {
		prefix = ""
	}
	if err := a.send(ctx, to, folder, prefix); err != nil {
		return client.Asset{}, fmt.Errorf("upload %s: %w", folder.Root, err)
	}
	return codes.Put(ctx, name, version, map[string]any{
		"codeUri": strings.TrimSuffix(uri, "/") + "/" + folder.Base, "isAnonymous": anonymous,
		"properties": map[string]any{"hash_sha256": hash, "hash_version": fmt.Sprint(upload.HashVersion)},
	})
}

// sendData uploads a file or a folder to a datastore, and returns where it lies.
func (a *app) sendData(ctx context.Context, c *client.Client, local, datastore, kind, field string) (string, error) {
	folder, err := readFolder(field, local)
	if err != nil {
		return "", err
	}
	switch {
	case kind == "uri_file" && !folder.IsFile:
		return "", usagef("%s: %s is a folder, and the type is uri_file", field, local)
	case kind == "uri_folder" && folder.IsFile:
		return "", usagef("%s: %s is a file, and the type is uri_folder", field, local)
	}
	store, prefix, err := a.sendFolder(ctx, c, folder, datastore)
	if err != nil {
		return "", err
	}
	uri := "azureml://datastores/" + store + "/paths/" + prefix
	if !folder.IsFile {
		uri += "/"
	}
	return uri, nil
}

// sendFolder puts a folder below LocalUpload/HASH/ of a datastore, unless it is
// there already.
func (a *app) sendFolder(ctx context.Context, c *client.Client, folder *upload.Folder, datastore string) (store, prefix string, err error) {
	if store = strings.TrimPrefix(path.Base(datastore), "azureml:"); datastore == "" {
		store = client.DefaultDatastore
	}
	to, err := c.Datastores().Open(ctx, store)
	if err != nil {
		return "", "", err
	}
	hash, err := folder.Hash()
	if err != nil {
		return "", "", err
	}
	root := path.Join("LocalUpload", hash)
	prefix = path.Join(root, folder.Base)
	there, err := sentBefore(ctx, to, folder, prefix)
	if err != nil || there {
		return store, prefix, err
	}
	below := prefix
	if folder.IsFile {
		below = root
	}
	if err := a.send(ctx, to, folder, below); err != nil {
		return "", "", fmt.Errorf("upload %s: %w", folder.Root, err)
	}
	return store, prefix, nil
}

// sentBefore reports whether every file is there, as long as it should be: the
// prefix has the content's hash in it.
func sentBefore(ctx context.Context, to *client.Container, folder *upload.Folder, prefix string) (bool, error) {
	sizes := map[string]int64{}
	for b, err := range to.List(ctx, prefix) {
		if err != nil {
			return false, err
		}
		sizes[b.Name] = b.Size
	}
	for _, file := range folder.Files {
		name := path.Join(prefix, file.Name)
		if folder.IsFile {
			name = prefix
		}
		if size, ok := sizes[name]; !ok || size != file.Size {
			return false, nil
		}
	}
	return true, nil
}

// send uploads with progress.
func (a *app) send(ctx context.Context, to *client.Container, folder *upload.Folder, prefix string) error {
	total := folder.Bytes()
	p := a.progress("Uploading %s (%s)", folder.Base, humanize.IBytes(uint64(total)))
	defer p.end()
	var sent atomic.Int64
	return upload.Send(ctx, to, folder, prefix, func(n int64) {
		if now := sent.Add(n); p.tty && total > 0 {
			p.say("Uploading %s: %s of %s, %d %%", folder.Base, humanize.IBytes(uint64(now)), humanize.IBytes(uint64(total)), 100*now/total)
		}
	})
}

// environmentOf returns the id of a job's environment: the one named, or one
// made of what the job says itself, under its content's hash.
func (a *app) environmentOf(ctx context.Context, c *client.Client, e azml.EnvironmentRef, dir string) (string, error) {
	if e.Inline == nil {
		return idOf(ctx, c, &environmentKind, "environment", e.Ref)
	}
	if e.Inline.Dir == "" {
		e.Inline.Dir = dir
	}
	document, err := a.environmentDocument(ctx, c, e.Inline)
	if err != nil {
		return "", err
	}
	version, err := azml.Anonymous(document)
	if err != nil {
		return "", err
	}
	got, err := c.Assets("environments").Put(ctx, azml.AnonymousEnvironment, version, document)
	return got.ID, err
}

// environmentDocument uploads the build folder, if there is one.
func (a *app) environmentDocument(ctx context.Context, c *client.Client, e *azml.Environment) (map[string]any, error) {
	context := e.Build.Path
	if _, err := e.ARM(context); err != nil { // before anything is sent
		return nil, usagef("environment: %w", err)
	}
	if azml.IsLocal(context) {
		uri, err := a.sendData(ctx, c, azml.Abs(e.Dir, context), e.Datastore, "", "build.path")
		if err != nil {
			return nil, err
		}
		context = uri
	}
	return e.ARM(context)
}
