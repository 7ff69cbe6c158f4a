package mgmt

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// The longest that a signature for a datastore of the workspace's own lives.
const mostHours = 7 * 24

func (s AssetServices) datastores(reg arm.Registrar, root string) {
	reg.Handle("GET "+root, s.in(s.listDatastores))
	reg.Handle("GET "+root+"/{name}", s.in(s.getDatastore))
	reg.Handle("PUT "+root+"/{name}", s.in(s.putDatastore))
	reg.Handle("DELETE "+root+"/{name}", s.in(s.deleteDatastore))
	reg.Handle("POST "+root+"/{name}/listSecrets", s.in(s.listSecrets))
}

// listDatastores serves all of them in one page: a workspace has few.
func (s AssetServices) listDatastores(r *assetRequest) (int, any, error) {
	list, err := s.Assets.Datastores(r.Context(), r.place())
	if err != nil {
		return 0, nil, err
	}
	only, names, text := query(r.Request, "isDefault"), query(r.Request, "names"), query(r.Request, "searchText")
	if only != "" && only != "true" && only != "false" {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidParameter", "isDefault", "isDefault must be true or false, not %.40q.", only)
	}
	out := []map[string]any{}
	for i := range list {
		d := &list[i]
		name := strings.ToLower(d.Name)
		if only != "" && strconv.FormatBool(d.Properties["isDefault"] == true) != only ||
			names != "" && !slices.Contains(strings.Split(names, ","), name) || text != "" && !strings.Contains(name, text) {
			continue
		}
		out = append(out, datastoreShape(r, d))
	}
	return http.StatusOK, arm.Page(r.Request, out, ""), nil
}

func (s AssetServices) getDatastore(r *assetRequest) (int, any, error) {
	d, err := s.Assets.Datastore(r.Context(), r.place(), r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, datastoreShape(r, &d), nil
}

func (s AssetServices) putDatastore(r *assetRequest) (int, any, error) {
	props, err := propertiesOf(r.Request)
	if err != nil {
		return 0, nil, err
	}
	d, created, err := s.Assets.PutDatastore(r.Context(), arm.Caller(r.Context()), r.place(), r.PathValue("name"), props)
	if err != nil {
		return 0, nil, err
	}
	if created {
		return http.StatusCreated, datastoreShape(r, &d), nil
	}
	return http.StatusOK, datastoreShape(r, &d), nil
}

func (s AssetServices) deleteDatastore(r *assetRequest) (int, any, error) {
	existed, err := s.Assets.DeleteDatastore(r.Context(), arm.Caller(r.Context()), r.place(), r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	if !existed {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, nil, nil
}

// listSecrets gives what opens a datastore. For the workspace's own stores that
// is a signature that expires, where the client takes one (expirableSecret), as
// SDK v2 does; else the account's key, which a run's token does not get.
func (s AssetServices) listSecrets(r *assetRequest) (int, any, error) {
	var in struct {
		ExpirableSecret  bool
		ExpireAfterHours int
	}
	b, err := arm.ReadBody(r.Request, arm.MaxBody)
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		err = arm.Decode(b, &in)
	}
	if err != nil {
		return 0, nil, err
	}
	who := arm.Caller(r.Context())
	d, err := s.Assets.Datastore(r.Context(), r.place(), r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	account, container := d.Blob()
	switch {
	case d.BuiltIn && container != "" && (in.ExpirableSecret || who.Kind == access.RunIdentity):
		hours := min(max(in.ExpireAfterHours, 1), mostHours)
		may := "racwdl"
		if who.Kind == access.RunIdentity && container != r.place().DatastoreContainer() {
			may = "rl" // the files of other runs; its own it writes by the artifacts' API
		}
		sas := s.Keys.SAS(account, container, "", may, s.Now().Add(time.Duration(hours)*time.Hour))
		return http.StatusOK, map[string]any{"secretsType": "Sas", "sasToken": sas.Encode()}, nil
	case who.Kind == access.RunIdentity:
		return 0, nil, fault.Coded(fault.Forbidden, "AuthorizationFailed", d.Name, "A run's token may not read the secrets of the datastore %q.", d.Name)
	case d.BuiltIn:
		keys, err := s.Accounts.Keys(r.Context(), who, account)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, map[string]any{"secretsType": "AccountKey", "key": keys[0].Value}, nil
	}
	secrets, err := s.Assets.DatastoreSecrets(r.Context(), who, r.place(), d.Name)
	return http.StatusOK, secrets, err
}

// datastoreShape is a datastore as ARM shows it. Those of the workspace's own
// account follow the host that the client came by: clients build a blob's address
// of account and endpoint.
func datastoreShape(r *assetRequest, d *assets.Datastore) map[string]any {
	props := maps.Clone(d.Properties)
	if d.BuiltIn {
		_, endpoint, _ := strings.Cut(arm.HostsOf(r.Request).Blob(armid.Account(r.w.GUID)), ".blob.")
		props["endpoint"] = endpoint
		props["subscriptionId"], props["resourceGroup"] = r.w.Subscription(), r.w.Group()
	}
	fillMissing(props, map[string]any{"description": nil, "isDefault": false})
	out := map[string]any{"id": r.w.ID + "/datastores/" + d.Name, "name": d.Name, "type": armid.WorkspaceType + "/datastores", "properties": props}
	if !d.BuiltIn {
		out["systemData"] = systemData(d.Creator, d.Modifier, d.Created, d.Modified)
	}
	return out
}
