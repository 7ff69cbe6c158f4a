package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
)

// Asset is a thing with a name and versions (an environment, data, a model, a
// component, code), or the name alone, as ARM shows it.
type Asset struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"` // of a version: the version
	Properties map[string]any `json:"properties"`
	System     *SystemData    `json:"systemData,omitempty"`
}

// Assets are the calls about the assets of one kind.
type Assets struct {
	c    *Client
	kind string
}

// Assets returns the calls about assets of a kind: environments, data, models,
// components or codes.
func (c *Client) Assets(kind string) Assets { return Assets{c, kind} }

func (s Assets) root() string { return s.c.file.Workspace() + "/" + s.kind }

func (s Assets) named(name string) string { return s.root() + "/" + url.PathEscape(name) }

func (s Assets) version(name, version string) string {
	return s.named(name) + "/versions/" + url.PathEscape(version)
}

// View says which of a list are wanted.
type View string

// What may be wanted of a list.
const (
	Active   View = "ActiveOnly"
	Archived View = "ArchivedOnly"
	Whole    View = "All"
)

// All yields the names that there are, each with its newest version in
// properties.
func (s Assets) All(ctx context.Context, view View) iter.Seq2[Asset, error] {
	return all[Asset](ctx, s.c, s.root()+"?listViewType="+string(view))
}

// Versions yields the versions of a name, newest first.
func (s Assets) Versions(ctx context.Context, name string, view View) iter.Seq2[Asset, error] {
	return all[Asset](ctx, s.c, s.named(name)+"/versions?$orderBy=createdtime%20desc&listViewType="+string(view))
}

// ByHash yields the versions of code with a hash, under whichever name.
func (s Assets) ByHash(ctx context.Context, name, hash, hashVersion string) iter.Seq2[Asset, error] {
	q := url.Values{"hash": {hash}, "hashVersion": {hashVersion}}
	return all[Asset](ctx, s.c, s.named(name)+"/versions?"+q.Encode())
}

// Container returns what ARM knows of a name: its newest version and the one
// that would come next.
func (s Assets) Container(ctx context.Context, name string) (Asset, error) {
	var got Asset
	_, err := s.c.Do(ctx, http.MethodGet, s.named(name), nil, &got)
	return got, err
}

// Get returns a version.
func (s Assets) Get(ctx context.Context, name, version string) (Asset, error) {
	var got Asset
	_, err := s.c.Do(ctx, http.MethodGet, s.version(name, version), nil, &got)
	return got, err
}

// Latest returns the newest version of a name.
func (s Assets) Latest(ctx context.Context, name string) (Asset, error) {
	for got, err := range all[Asset](ctx, s.c, s.named(name)+"/versions?$orderBy=createdtime%20desc&$top=1") {
		return got, err
	}
	return Asset{}, &Error{Status: http.StatusNotFound, Code: "NotFound", Message: fmt.Sprintf("%s has no version.", name)}
}

// Put makes a version, or changes what may be changed of one.
func (s Assets) Put(ctx context.Context, name, version string, properties map[string]any) (Asset, error) {
	var got Asset
	_, err := s.c.Do(ctx, http.MethodPut, s.version(name, version), map[string]any{"properties": properties}, &got)
	return got, err
}

// PutContainer changes what ARM knows of a name: that it is archived.
func (s Assets) PutContainer(ctx context.Context, name string, properties map[string]any) (Asset, error) {
	var got Asset
	_, err := s.c.Do(ctx, http.MethodPut, s.named(name), map[string]any{"properties": properties}, &got)
	return got, err
}

// Delete removes a version; with no version, the name and all of them.
func (s Assets) Delete(ctx context.Context, name, version string) error {
	path := s.named(name)
	if version != "" {
		path = s.version(name, version)
	}
	_, err := s.c.Do(ctx, http.MethodDelete, path, nil, nil)
	return err
}

// StartUpload returns the container that the files of a version go into, and
// its address.
func (s Assets) StartUpload(ctx context.Context, name, version string) (*Container, string, error) {
	var got struct {
		Blob struct {
			URI        string `json:"blobUri"`
			Credential struct {
				SAS string `json:"sasUri"`
			} `json:"credential"`
		} `json:"blobReferenceForConsumption"`
	}
	in := map[string]string{"pendingUploadType": "TemporaryBlobReference"}
	if _, err := s.c.Do(ctx, http.MethodPost, s.version(name, version)+"/startPendingUpload", in, &got); err != nil {
		return nil, "", err
	}
	container, err := s.c.Container(got.Blob.Credential.SAS)
	return container, got.Blob.URI, err
}
