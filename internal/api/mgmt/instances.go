package mgmt

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/quota"
	"github.com/ebb-compute/ebb/internal/fault"
)

// registerInstances adds what is asked of compute instances, and of no other type.
func registerInstances(reg arm.Registrar, prefix string, h computeRoutes) {
	reg.Handle("POST "+prefix+workspacePath+"/checkComputeNameAvailability", h.free)
	at := "POST " + prefix + computePath + "/"
	reg.Handle(at+"start", act(h.c.Start))
	reg.Handle(at+"stop", act(h.c.Stop))
	reg.Handle(at+"restart", act(h.c.Restart))
	reg.Handle(at+"resize", h.resize)
	reg.Handle(at+"getAllowedVmSizesForResize", h.resizes)
	reg.Handle(at+"enableSso", h.set("ComputeEnableSso", "enableSSO"))
	reg.Handle(at+"updateIdleShutdownSetting", h.set("ComputeUpdateIdleShutdownSetting", "idleTimeBeforeShutdown"))
	for action, name := range map[string]string{
		"listKeys": "ComputeListKeys", "customServices": "ComputeUpdateCustomServices", "updateDataMounts": "ComputeUpdateDataMounts",
	} {
		reg.Handle(at+action, h.unsuited(name))
	}
}

// act answers an operation without a body: 202, and where to look.
func act(do func(ctx context.Context, p access.Principal, workspace, name string) (computes.Result, error)) arm.Handler {
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		res, err := do(r.Context(), arm.Caller(r.Context()), workspaceID(r), r.PathValue("compute"))
		if err != nil {
			return 0, nil, err
		}
		async(w, r, res)
		return http.StatusAccepted, nil, nil
	}
}

func (h computeRoutes) resize(w http.ResponseWriter, r *http.Request) (int, any, error) {
	var body struct {
		Size string `json:"targetVMSize"`
	}
	if err := arm.ReadJSON(r, &body); err != nil {
		return 0, nil, err
	}
	if body.Size == "" {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", "targetVMSize", "The property 'targetVMSize' is required.")
	}
	return act(func(ctx context.Context, p access.Principal, workspace, name string) (computes.Result, error) {
		return h.c.Resize(ctx, p, workspace, name, body.Size)
	})(w, r)
}

// resizes lists the sizes that an instance may be given: every one on offer.
func (h computeRoutes) resizes(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := h.mustBeInstance(r, "ComputeGetAllowedResizeSizes"); err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, m := range quota.Sizes() {
		list = append(list, sizeBody(m))
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

// set changes one property of an instance, by an address of its own. Its name is
// taken in any case: SDK v1 writes EnableSSO.
func (h computeRoutes) set(action, property string) arm.Handler {
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		body, err := arm.ReadDocument(r)
		if err != nil {
			return 0, nil, err
		}
		if err := h.mustBeInstance(r, action); err != nil {
			return 0, nil, err
		}
		inner := map[string]any{}
		for k, v := range body {
			if strings.EqualFold(k, property) {
				inner[property] = v
			}
		}
		if len(inner) == 0 {
			return 0, nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", property, "The property '%s' is required.", property)
		}
		patch := map[string]any{"properties": map[string]any{"properties": inner}}
		res, err := h.c.Patch(r.Context(), arm.Caller(r.Context()), request(r, patch))
		if err != nil {
			return 0, nil, err
		}
		written(w, r, res)
		return http.StatusOK, nil, nil
	}
}

// unsuited refuses what no compute here can do.
func (h computeRoutes) unsuited(action string) arm.Handler {
	return func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		if err := h.mustBeInstance(r, action); err != nil {
			return 0, nil, err
		}
		return 0, nil, fault.Coded(fault.Unsupported, "NotImplemented", r.PathValue("compute"), "%s with computeType ComputeInstance is not part of Ebb yet.", action)
	}
}

// mustBeInstance refuses an action for what is no compute instance.
func (h computeRoutes) mustBeInstance(r *http.Request, action string) error {
	doc, err := h.c.Get(r.Context(), arm.Caller(r.Context()), workspaceID(r), r.PathValue("compute"))
	if err != nil {
		return err
	}
	if props, _ := doc.Body["properties"].(map[string]any); props["computeType"] != "ComputeInstance" {
		return computes.Unsuited(action, r.PathValue("compute"))
	}
	return nil
}

// free answers what SDK v1 asks before it makes an instance.
func (h computeRoutes) free(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var body struct {
		Name string `json:"name"`
	}
	if err := arm.ReadJSON(r, &body); err != nil {
		return 0, nil, err
	}
	code, why, err := h.c.Free(r.Context(), arm.Caller(r.Context()), workspaceID(r), body.Name)
	if err != nil {
		return 0, nil, err
	}
	if code != "" {
		return http.StatusOK, map[string]any{"nameAvailable": false, "reason": code, "message": why}, nil
	}
	return http.StatusOK, map[string]any{"nameAvailable": true}, nil
}
