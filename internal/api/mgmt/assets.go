package mgmt

import (
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// AssetServices is what answers for code, data, models, components,
// environments and datastores.
type AssetServices struct {
	Jobs     *jobs.Service // finds the workspace
	Assets   *assets.Service
	Accounts AccountKeys
	Keys     Signer
	Now      func() time.Time // site clock
}

// Signer makes signatures of storage accounts. *token.Keys is one.
type Signer interface {
	SAS(account, container, blob, permissions string, expiry time.Time) url.Values
}

// uploadFor is how long a place for code stays open.
const uploadFor = 12 * time.Hour

// RegisterAssets adds the routes of what has names and versions, and of
// datastores (mfe.json, 2024-04-01).
func RegisterAssets(reg arm.Registrar, s AssetServices) {
	for _, prefix := range []string{"", dataPrefix} {
		for _, c := range []assets.Collection{assets.Codes, assets.Data, assets.Models, assets.Components, assets.Environments} {
			root := prefix + workspacePath + "/" + string(c)
			h := assetRoutes{s, c}
			reg.Handle("GET "+root, s.in(h.names))
			version := root + "/{name}/versions/{version}"
			reg.Handle("GET "+root+"/{name}/versions", s.in(h.versions))
			for _, at := range []string{root + "/{name}", version} {
				reg.Handle("GET "+at, s.in(h.get))
				reg.Handle("PUT "+at, s.in(h.put))
				reg.Handle("DELETE "+at, s.in(h.delete))
			}
			arm.NotBuilt(reg, "POST "+version+"/publish", "Publishing assets to a registry")
			if c == assets.Models {
				arm.NotBuilt(reg, "POST "+version+"/package", "Packaging of models")
			}
			if c == assets.Codes {
				reg.Handle("POST "+version+"/startPendingUpload", s.in(h.startUpload))
			}
		}
		s.datastores(reg, prefix+workspacePath+"/datastores")
	}
}

// assetRequest is a call within a workspace.
type assetRequest struct {
	*http.Request
	w jobs.Workspace
}

func (r *assetRequest) place() assets.Place { return assets.Place{ID: r.w.ID, GUID: r.w.GUID} }

// in finds the workspace that a path names, and whether the caller may touch it.
func (s AssetServices) in(f func(r *assetRequest) (int, any, error)) arm.Handler {
	return func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		w, err := s.Jobs.Workspace(r.Context(), arm.Caller(r.Context()), workspaceID(r))
		if err != nil {
			return 0, nil, err
		}
		if name := r.PathValue("name"); r.Method == http.MethodGet {
			// SDK v2 asks for the newest of Input(path="azureml:NAME@latest") by that
			// name, scheme and all; no name has a colon.
			r.SetPathValue("name", strings.TrimPrefix(name, "azureml:"))
		}
		return f(&assetRequest{r, w})
	}
}

// assetRoutes serves one collection.
type assetRoutes struct {
	AssetServices
	c assets.Collection
}

// filterOf reads what a list is asked for.
func filterOf(r *http.Request) (assets.Filter, error) {
	f := assets.Filter{View: arm.Query(r, "listViewType"), Order: arm.Query(r, "$orderBy"), Stage: arm.Query(r, "stage"), Text: arm.Query(r, "description"),
		Hash: arm.Query(r, "hash"), Method: arm.Query(r, "hashVersion"), After: skip(r)}
	if f.Tags = arm.Query(r, "$tags"); f.Tags == "" {
		f.Tags = arm.Query(r, "tags")
	}
	for _, name := range []string{"$top", "count"} {
		text := arm.Query(r, name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return f, fault.Coded(fault.Invalid, "InvalidParameter", name, "%s must be a number of 1 or more, not %.40q.", name, text)
		}
		f.Limit = min(n, mostAtOnce)
	}
	return f, nil
}

// mostAtOnce is how many assets one answer has at most: it keeps under ARM's 8 MB.
const mostAtOnce = 500

// skip is where a page begins: nextLink has it as $skipToken, some clients send
// it back as $skip.
func skip(r *http.Request) string {
	if t := arm.SkipToken(r); t != "" {
		return t
	}
	return arm.Query(r, "$skip")
}

// page writes a list. Who asks for the $top few gets no more, however many
// pages there are.
func page[T any](r *http.Request, items []T, next string) any {
	top, err := strconv.Atoi(arm.Query(r, "$top"))
	if err != nil {
		return arm.Page(r, items, next)
	}
	if top -= len(items); top <= 0 {
		return arm.Page(r, items, "")
	}
	again := r.Clone(r.Context())
	q := again.URL.Query()
	maps.DeleteFunc(q, func(k string, _ []string) bool { return k == "$top" || k == "$Top" })
	q.Set("$top", strconv.Itoa(top))
	again.URL.RawQuery = q.Encode()
	return arm.Page(again, items, next)
}

func (h assetRoutes) names(r *assetRequest) (int, any, error) {
	f, err := filterOf(r.Request)
	if err != nil {
		return 0, nil, err
	}
	list, next, err := h.Assets.Names(r.Context(), r.place(), h.c, f)
	return http.StatusOK, page(r.Request, h.shapes(r, list), next), err
}

func (h assetRoutes) versions(r *assetRequest) (int, any, error) {
	f, err := filterOf(r.Request)
	if err != nil {
		return 0, nil, err
	}
	list, next, err := h.Assets.VersionsOf(r.Context(), r.place(), h.c, r.PathValue("name"), f)
	return http.StatusOK, page(r.Request, h.shapes(r, list), next), err
}

func (h assetRoutes) shapes(r *assetRequest, list []assets.Asset) []map[string]any {
	out := make([]map[string]any, len(list))
	for i := range list {
		out[i] = h.shape(r, &list[i])
	}
	return out
}

func (h assetRoutes) get(r *assetRequest) (int, any, error) {
	a, err := h.Assets.Get(r.Context(), r.place(), h.c, r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, h.shape(r, &a), nil
}

// propertiesOf reads the properties of a resource that is sent.
func propertiesOf(r *http.Request) (map[string]any, error) {
	doc, err := arm.ReadDocument(r)
	if err != nil {
		return nil, err
	}
	props, ok := doc["properties"].(map[string]any)
	if !ok {
		return nil, fault.Coded(fault.Invalid, "InvalidRequestContent", "properties", "The body must be an object with properties, and they an object.")
	}
	for _, k := range []string{"provisioningState", "latestVersion", "nextVersion", "environmentType"} {
		delete(props, k) // clients send back what they read
	}
	return props, nil
}

func (h assetRoutes) put(r *assetRequest) (int, any, error) {
	props, err := propertiesOf(r.Request)
	if err != nil {
		return 0, nil, err
	}
	put := h.Assets.PutName
	who, name, version := arm.Caller(r.Context()), r.PathValue("name"), r.PathValue("version")
	if version != "" {
		if err := h.settle(r, props); err != nil {
			return 0, nil, err
		}
		a, created, err := h.Assets.PutVersion(r.Context(), who, r.place(), h.c, name, version, props)
		return h.made(r, a, created, err)
	}
	a, created, err := put(r.Context(), who, r.place(), h.c, name, props)
	return h.made(r, a, created, err)
}

func (h assetRoutes) made(r *assetRequest, a assets.Asset, created bool, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	if created {
		return http.StatusCreated, h.shape(r, &a), nil
	}
	return http.StatusOK, h.shape(r, &a), nil
}

func (h assetRoutes) delete(r *assetRequest) (int, any, error) {
	existed, err := h.Assets.Delete(r.Context(), arm.Caller(r.Context()), r.place(), h.c, r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		return 0, nil, err
	}
	if !existed {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, nil, nil
}

// startUpload opens a place for one upload of code: a container of its own,
// since the client puts its files at the top.
func (h assetRoutes) startUpload(r *assetRequest) (int, any, error) {
	var in struct{ PendingUploadID, PendingUploadType string }
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	if t := in.PendingUploadType; t != "" && t != "TemporaryBlobReference" && t != "None" {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", "pendingUploadType", "The pendingUploadType %.60q is not known; TemporaryBlobReference is.", t)
	}
	account, container := armid.Account(r.w.GUID), h.Assets.NewUpload(r.place())
	uri := arm.HostsOf(r.Request).Blob(account) + "/" + container
	if in.PendingUploadID == "" {
		in.PendingUploadID = h.Assets.NewID()
	}
	return http.StatusOK, map[string]any{
		"pendingUploadId": in.PendingUploadID, "pendingUploadType": "TemporaryBlobReference",
		"blobReferenceForConsumption": map[string]any{
			"blobUri": uri, "storageAccountArmId": armid.Group(r.w.Subscription(), r.w.Group()) + "/providers/Microsoft.Storage/storageAccounts/" + account,
			"credential": map[string]any{"credentialType": "SAS", "sasUri": uri + "?" + h.Keys.SAS(account, container, "", "racwl", h.Now().Add(uploadFor)).Encode()},
		},
	}, nil
}

// shape is an asset as ARM shows it.
func (h assetRoutes) shape(r *assetRequest, a *assets.Asset) map[string]any {
	props := maps.Clone(a.Properties)
	fillMissing(props, map[string]any{"description": nil, "tags": map[string]any{}, "properties": map[string]any{}, "isArchived": false})
	id, name, kind := r.w.ID+"/"+string(h.c)+"/"+a.Name, a.Name, armid.WorkspaceType+"/"+string(h.c)
	if a.Version == "" {
		props["latestVersion"], props["nextVersion"] = nullable(a.Latest), a.Next()
	} else {
		id, name, kind = id+"/versions/"+a.Version, a.Version, kind+"/versions"
		fillMissing(props, map[string]any{"isAnonymous": false})
		switch h.c {
		case assets.Environments:
			props["environmentType"] = "UserCreated"
			fillMissing(props, map[string]any{"osType": "Linux"})
		case assets.Models:
			fillMissing(props, map[string]any{"flavors": map[string]any{}, "jobName": nil})
			if props["flavors"] == nil { // SDK v2 iterates over it
				props["flavors"] = map[string]any{}
			}
		}
	}
	props["provisioningState"] = "Succeeded"
	return map[string]any{"id": id, "name": name, "type": kind, "properties": props, "systemData": systemData(a.Creator, a.Modifier, a.Created, a.Modified)}
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func systemData(by, last assets.Creator, created, modified time.Time) map[string]any {
	name := func(c assets.Creator) string {
		if c.Name != "" {
			return c.Name
		}
		return c.ID
	}
	return map[string]any{"createdBy": name(by), "createdByType": by.Kind, "createdAt": rfc(created), "lastModifiedBy": name(last), "lastModifiedByType": last.Kind, "lastModifiedAt": rfc(modified)}
}
