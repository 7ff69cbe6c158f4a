package mgmt

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/accounts"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// AccountKeys is what the keys of storage accounts need of app/accounts.
type AccountKeys interface {
	Find(ctx context.Context, name string) (accounts.Account, error)
	Keys(ctx context.Context, p access.Principal, name string) ([]accounts.Key, error)
	Regenerate(ctx context.Context, p access.Principal, name, key string) ([]accounts.Key, error)
}

// accountRoutes serves the keys of storage accounts: of records, and of the
// workspaces' own, which lie in the group of their workspace.
type accountRoutes struct{ a AccountKeys }

// RegisterAccounts adds the routes of the keys of storage accounts.
func RegisterAccounts(reg arm.Registrar, a AccountKeys) {
	at := groupPath + "/providers/Microsoft.Storage/storageAccounts/{account}"
	h := accountRoutes{a}
	reg.Handle("POST "+at+"/listKeys", h.list)
	reg.Handle("POST "+at+"/regenerateKey", h.regenerate)
}

// name is the account's, if it is in the group that the address says.
func (h accountRoutes) name(r *http.Request) (string, error) {
	name := strings.ToLower(r.PathValue("account"))
	group := strings.ToLower(armid.Group(r.PathValue("sub"), r.PathValue("group")))
	a, err := h.a.Find(r.Context(), name)
	if err == nil && !strings.HasPrefix(a.Scope, group+"/") {
		err = fault.Coded(fault.NotFound, "ResourceNotFound", name, "The Resource 'Microsoft.Storage/storageAccounts/%s' under resource group '%s' was not found.", name, r.PathValue("group"))
	}
	return name, err
}

func (h accountRoutes) list(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	name, err := h.name(r)
	if err != nil {
		return 0, nil, err
	}
	keys, err := h.a.Keys(r.Context(), arm.Caller(r.Context()), name)
	return http.StatusOK, showKeys(keys), err
}

func (h accountRoutes) regenerate(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	name, err := h.name(r)
	if err != nil {
		return 0, nil, err
	}
	var in struct{ KeyName string }
	b, err := arm.ReadBody(r, arm.MaxBody)
	if err == nil {
		err = arm.Decode(b, &in)
	}
	if err != nil {
		return 0, nil, err
	}
	keys, err := h.a.Regenerate(r.Context(), arm.Caller(r.Context()), name, in.KeyName)
	return http.StatusOK, showKeys(keys), err
}

func showKeys(keys []accounts.Key) map[string]any {
	list := []map[string]any{}
	for _, k := range keys {
		shown := map[string]any{"keyName": k.Name, "value": k.Value, "permissions": "FULL"}
		if !k.Made.IsZero() {
			shown["creationTime"] = k.Made.UTC().Format(time.RFC3339Nano)
		}
		list = append(list, shown)
	}
	return map[string]any{"keys": list}
}
