package storage

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// A container is an empty blob in one of these, which no URL can name, with its
// metadata. The containers of a workspace need none: they are there.
const (
	containers = "$containers" // /account/container
	dead       = "$dead"       // /box: deleted, and perhaps not yet emptied; the record's key is in its metadata
)

// roomKey is where a container's record says what its blobs' keys begin with, behind
// account and name: one that is made again after a deletion is another.
const roomKey = ":room"

func record(unique, container string) string { return containers + "/" + unique + "/" + container }

// record is where the container's lies.
func (c *call) record() (string, error) {
	a, err := c.accountOf()
	return record(a.Unique, c.container), err
}

// own reports whether the container is one that its workspace came with. The
// account must be there: the server's signatures outlive a workspace.
func (c *call) own() (bool, error) {
	if c.Accounts == nil {
		owner, ok := armid.AccountOfContainer(c.container)
		return ok && owner == c.account, nil
	}
	a, err := c.accountOf()
	switch {
	case err != nil:
		return false, err
	case a.Owns != nil:
		return a.Owns(c.container), nil
	}
	return slices.Contains(a.Containers, c.container), nil
}

// enter finds the container that the request is for.
func (c *call) enter() error {
	own, err := c.own()
	if err != nil {
		return err
	}
	if own {
		c.box = c.container
		return nil
	}
	at, err := c.record()
	if err != nil {
		return err
	}
	info, err := c.Blobs.Stat(c.r.Context(), at)
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid) {
		return noContainer()
	}
	if err != nil {
		return err
	}
	c.box = box(info)
	return nil
}

// box is what the keys of a container's blobs begin with, by its record.
func box(info blob.Info) string {
	return strings.ReplaceAll(strings.TrimPrefix(info.Key, containers+"/"), "/", ".") + "." + info.Meta.Metadata[roomKey]
}

// still makes sure that the container is the one that it was when the request came.
// What was written to another is taken away again.
func (c *call) still() error {
	was := c.box
	err := c.enter()
	if err == nil && c.box == was {
		return nil
	}
	c.box = was
	if err == nil || errors.Is(err, fault.NotFound) {
		err = noContainer()
		if gone := c.Blobs.Delete(c.r.Context(), c.key()); gone != nil && !errors.Is(gone, fault.NotFound) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

func (c *call) createContainer() error {
	if len(c.container) < 3 || len(c.container) > 63 || !containerName.MatchString(c.container) {
		return fault.Coded(fault.Invalid, "InvalidResourceName", "", "The specified resource name contains invalid characters: a container has 3 to 63 of lower-case letters, digits and single hyphens between them.")
	}
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	already := fault.Coded(fault.Conflict, "ContainerAlreadyExists", "", "The specified container already exists.")
	own, err := c.own()
	if err != nil {
		return err
	}
	if own {
		return already
	}
	at, err := c.record()
	if err != nil {
		return err
	}
	metadata[roomKey] = strings.ReplaceAll(requestID(), "-", "")[:16]
	info, err := c.Blobs.Create(c.r.Context(), at, strings.NewReader(""), blob.Meta{Metadata: metadata})
	if errors.Is(err, fault.Conflict) {
		return already
	}
	if err != nil {
		return err
	}
	c.tagged(info)
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// containerInfo is what is known of the container.
func (c *call) containerInfo() (blob.Info, error) {
	own, err := c.own()
	if err != nil {
		return blob.Info{}, err
	}
	if own {
		return ownContainer(c.container), nil
	}
	at, err := c.record()
	if err != nil {
		return blob.Info{}, err
	}
	info, err := c.Blobs.Stat(c.r.Context(), at)
	if errors.Is(err, fault.NotFound) {
		err = noContainer()
	}
	return info, err
}

// ownContainer is what is known of a container of a workspace's, which never changes.
func ownContainer(name string) blob.Info {
	return blob.Info{Key: name, ETag: "0x0", Modified: epoch}
}

func (c *call) containerProperties() error {
	info, err := c.containerInfo()
	if err != nil {
		return err
	}
	c.tagged(info)
	c.showMetadata(info.Meta.Metadata)
	h := c.w.Header()
	if c.q.Get("comp") != "metadata" {
		h.Set("x-ms-lease-status", "unlocked")
		h.Set("x-ms-lease-state", "available")
		h.Set("x-ms-has-immutability-policy", "false")
		h.Set("x-ms-has-legal-hold", "false")
	}
	h.Set("Content-Length", "0")
	return nil
}

func ownOnly(what string) error {
	return fault.Coded(fault.Conflict, "OperationNotAllowed", "", "This container is its workspace's own: %s.", what)
}

func (c *call) setContainerMetadata() error {
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	own, err := c.own()
	if err != nil {
		return err
	}
	if own {
		return ownOnly("it takes no metadata")
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	at, err := c.record()
	if err != nil {
		return err
	}
	info, err := c.Blobs.Amend(c.r.Context(), at, func(old blob.Info) (blob.Meta, error) {
		metadata[roomKey] = old.Meta.Metadata[roomKey]
		return blob.Meta{Metadata: metadata}, may(&old)
	})
	if errors.Is(err, fault.NotFound) {
		return noContainer()
	}
	if err != nil {
		return err
	}
	c.tagged(info)
	c.w.Header().Set("Content-Length", "0")
	return nil
}

// deleteContainer answers Delete Container. The record goes first: what is left of
// its blobs after a crash is in a box that nobody can name, and [Tidy] empties it.
func (c *call) deleteContainer() error {
	own, err := c.own()
	if err != nil {
		return err
	}
	if own {
		return ownOnly("it goes with the workspace")
	}
	may, err := c.mayWrite()
	if err != nil {
		return err
	}
	at, err := c.record()
	if err != nil {
		return err
	}
	if err := remove(c.r.Context(), c.Blobs, at, c.box, may); err != nil {
		return err
	}
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// remove removes a container with its blobs, if it has that box still and may says so.
func remove(ctx context.Context, blobs *blob.Store, at, room string, may func(old *blob.Info) error) error {
	grave := dead + "/" + room
	if _, err := blobs.Put(ctx, grave, strings.NewReader(""), blob.Meta{Metadata: map[string]string{"record": at}}); err != nil {
		return err
	}
	err := blobs.DeleteIf(ctx, at, func(old *blob.Info) error {
		if box(*old) != room {
			return noContainer()
		}
		return may(old)
	})
	if err != nil {
		if errors.Is(err, fault.NotFound) {
			err = noContainer()
		}
		return errors.Join(err, blobs.Delete(ctx, grave))
	}
	return bury(ctx, blobs, grave)
}

// bury empties the box of a container that was deleted.
func bury(ctx context.Context, blobs *blob.Store, grave string) error {
	box := strings.TrimPrefix(grave, dead+"/")
	for {
		page, err := blobs.List(ctx, box+"/", "", 1000)
		if err != nil {
			return err
		}
		for _, b := range page {
			c := call{Service: Service{Blobs: blobs}, box: box, name: strings.TrimPrefix(b.Key, box+"/")}
			if err := errors.Join(blobs.Delete(ctx, b.Key), c.dropBlocks(ctx)); err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
		}
		if len(page) == 0 {
			return blobs.Delete(ctx, grave)
		}
	}
}

// Tidy ends deletions of containers that a crash broke off, and removes those of
// accounts that are there no more, by their [Account] Unique. It is for the start of the
// server: a deletion that was not acknowledged may be ended as well.
func Tidy(ctx context.Context, blobs *blob.Store, living func(unique string) (bool, error)) error {
	graves, err := blobs.List(ctx, dead+"/", "", maxBlocks)
	if err != nil {
		return err
	}
	for _, g := range graves {
		at := g.Meta.Metadata["record"]
		info, err := blobs.Stat(ctx, at)
		if err == nil && strings.HasSuffix(g.Key, "."+info.Meta.Metadata[roomKey]) {
			err = blobs.Delete(ctx, at)
		}
		if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
		if err := bury(ctx, blobs, g.Key); err != nil {
			return err
		}
	}
	return forget(ctx, blobs, containers+"/", living)
}

// Forget removes the containers that were made in an account.
func Forget(ctx context.Context, blobs *blob.Store, unique string) error {
	return forget(ctx, blobs, record(unique, ""), func(string) (bool, error) { return false, nil })
}

func forget(ctx context.Context, blobs *blob.Store, prefix string, living func(unique string) (bool, error)) error {
	for after := ""; ; {
		page, err := blobs.List(ctx, prefix, after, 1000)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, info := range page {
			unique, _, _ := strings.Cut(strings.TrimPrefix(info.Key, containers+"/"), "/")
			alive, err := living(unique)
			if err == nil && !alive {
				err = remove(ctx, blobs, info.Key, box(info), func(*blob.Info) error { return nil })
			}
			if err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
		}
		after = page[len(page)-1].Key
	}
}

// accessPolicy answers Get Container ACL: there are none.
func (c *call) accessPolicy() error {
	info, err := c.containerInfo()
	if err != nil {
		return err
	}
	c.tagged(info)
	c.send(http.StatusOK, marshal(struct {
		XMLName xml.Name `xml:"SignedIdentifiers"`
	}{}))
	return nil
}

// containersXML is the answer to List Containers.
type containersXML struct {
	XMLName         xml.Name `xml:"EnumerationResults"`
	ServiceEndpoint string   `xml:",attr"`
	Prefix          string   `xml:",omitempty"`
	Marker          string   `xml:",omitempty"`
	MaxResults      int      `xml:",omitempty"`
	Containers      struct {
		Container []containerXML
	}
	NextMarker string
}

type containerXML struct {
	Name       string
	Properties struct {
		LastModified string `xml:"Last-Modified"`
		Etag         string
		LeaseStatus  string
		LeaseState   string
		Immutable    bool `xml:"HasImmutabilityPolicy"`
		LegalHold    bool `xml:"HasLegalHold"`
	}
	Metadata *metadataXML
}

// listContainers answers List Containers. The marker is the last name that was shown.
func (c *call) listContainers() error {
	top, err := c.top()
	if err != nil {
		return err
	}
	marker, err := base64.RawURLEncoding.DecodeString(c.q.Get("marker"))
	if err != nil {
		return badMarker()
	}
	prefix := c.q.Get("prefix")
	all, err := c.allContainers(prefix, string(marker), top+1)
	if err != nil {
		return err
	}
	out := containersXML{ServiceEndpoint: c.endpoint(), Prefix: prefix, Marker: c.q.Get("marker")}
	if c.q.Get("maxresults") != "" {
		out.MaxResults = top
	}
	if len(all) > top {
		all = all[:top]
		out.NextMarker = base64.RawURLEncoding.EncodeToString([]byte(all[top-1].Key))
	}
	for _, info := range all {
		x := containerXML{Name: info.Key}
		x.Properties.LastModified, x.Properties.Etag = info.Modified.Format(http.TimeFormat), quote(info.ETag)
		x.Properties.LeaseStatus, x.Properties.LeaseState = "unlocked", "available"
		if strings.Contains(c.q.Get("include"), "metadata") {
			x.Metadata = metadataOf(info.Meta.Metadata)
		}
		out.Containers.Container = append(out.Containers.Container, x)
	}
	c.send(http.StatusOK, marshal(out))
	return nil
}

// allContainers are at least the first few after a name, by name in Key.
func (c *call) allContainers(prefix, after string, few int) ([]blob.Info, error) {
	a, err := c.accountOf()
	if err != nil {
		return nil, err
	}
	root := record(a.Unique, "")
	all, err := c.Blobs.List(c.r.Context(), root+prefix, root+after, few)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Key = strings.TrimPrefix(all[i].Key, root)
	}
	for _, name := range a.Containers {
		if strings.HasPrefix(name, prefix) && name > after {
			all = append(all, ownContainer(name))
		}
	}
	slices.SortFunc(all, func(a, b blob.Info) int { return strings.Compare(a.Key, b.Key) })
	return all, nil
}
