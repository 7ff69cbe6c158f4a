package data

import (
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

func (h *server) environments(reg arm.Registrar) {
	const root = "/environment/v1.0" + workspace + "/environments"
	reg.Handle("GET "+root, h.in(h.listEnvironments))
	for _, at := range []string{root + "/{env}", root + "/{env}/versions/{version}"} {
		reg.Handle("GET "+at, h.in(h.getEnvironment))
		reg.Handle("PUT "+at, h.in(h.putEnvironment))
		for _, v := range []string{at, strings.Replace(at, "/v1.0", "/v2.0", 1)} {
			arm.NotBuilt(reg, v+"/image", "Container images of environments")
			arm.NotBuilt(reg, v+"/imageoncompute", "Container images of environments")
			arm.NotBuilt(reg, v+"/recipe", "Container images of environments")
			arm.NotBuilt(reg, v+"/metadata", "Labels of environments")
			arm.NotBuilt(reg, v+"/labels", "Labels of environments")
		}
	}
	reg.Handle("GET "+root+"/{env}/versions", h.in(h.listVersions))
}

func (h *server) listEnvironments(_ http.ResponseWriter, r *request) (int, any, error) {
	list, next, err := h.Assets.Environments(r.Context(), r.place(), arm.Query(r.Request, "continuation"))
	return http.StatusOK, page(list, next), err
}

func (h *server) listVersions(_ http.ResponseWriter, r *request) (int, any, error) {
	list, next, err := h.Assets.Versions(r.Context(), r.place(), r.PathValue("env"), arm.Query(r.Request, "continuation"))
	return http.StatusOK, page(list, next), err
}

func (h *server) getEnvironment(_ http.ResponseWriter, r *request) (int, any, error) {
	env, err := h.Assets.Environment(r.Context(), r.place(), r.PathValue("env"), r.PathValue("version"))
	return http.StatusOK, env, err
}

func (h *server) putEnvironment(_ http.ResponseWriter, r *request) (int, any, error) {
	var definition map[string]any
	if err := arm.ReadJSON(r.Request, &definition); err != nil {
		return 0, nil, err
	}
	if definition == nil {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The definition of an environment is a JSON object.")
	}
	env, err := h.Assets.Register(r.Context(), arm.Caller(r.Context()), r.place(), r.PathValue("env"), r.PathValue("version"), definition)
	return http.StatusOK, env, err
}

func (h *server) datastores(reg arm.Registrar) {
	const root = "/datastore/v1.0" + workspace
	reg.Handle("GET "+root+"/default", h.in(h.getDefaultStore))
	reg.Handle("GET "+root+"/datastores", h.in(h.listStores))
	reg.Handle("GET "+root+"/datastores/{store}", h.in(h.getStore))
	for _, method := range []string{"POST ", "PUT ", "PATCH ", "DELETE "} {
		for _, at := range []string{"/default", "/datastores", "/datastores/{store}"} {
			arm.NotBuilt(reg, method+root+at, "Registering and changing datastores")
		}
	}
}

// storeName is the one datastore that every workspace has.
const storeName = "workspaceblobstore"

// store is the default datastore with a credential for its container. The
// client builds addresses as protocol://account.blob.endpoint.
func (h *server) store(r *request) object {
	account, container := armid.Account(r.w.GUID), r.place().DatastoreContainer()
	_, endpoint, _ := strings.Cut(r.hosts.Blob(account), ".blob.")
	sas := h.Keys.SAS(account, container, "", "racwdl", h.Now().Add(storeFor)).Encode()
	return object{"name": storeName, "dataStoreType": "AzureBlob", "hasBeenValidated": true, "isDefault": true, "tags": object{},
		"azureStorageSection": object{"accountName": account, "containerName": container, "endpoint": endpoint, "protocol": "https",
			"credentialType": "Sas", "sasToken": sas, "credential": sas, "isSas": true, "accountKey": nil,
			"subscriptionId": r.w.Subscription(), "resourceGroup": r.w.Group()}}
}

func (h *server) getDefaultStore(_ http.ResponseWriter, r *request) (int, any, error) {
	return http.StatusOK, h.store(r), nil
}

func (h *server) listStores(_ http.ResponseWriter, r *request) (int, any, error) {
	return http.StatusOK, page([]object{h.store(r)}, ""), nil
}

func (h *server) getStore(_ http.ResponseWriter, r *request) (int, any, error) {
	if name := r.PathValue("store"); !strings.EqualFold(name, storeName) {
		return 0, nil, fault.Coded(fault.NotFound, "DatastoreNotFound", name, "The datastore %.80q was not found; the workspace has %q.", name, storeName)
	}
	return h.getDefaultStore(nil, r)
}
