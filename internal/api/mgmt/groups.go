package mgmt

import (
	"net/http"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/fault"
)

func registerGroups(reg arm.Registrar, h resources) {
	reg.Handle("GET "+subPath+"/resourceGroups", h.groups)
	reg.Handle("GET "+groupPath, h.group)
	reg.Handle("HEAD "+groupPath, h.groupExists)
	reg.Handle("PUT "+groupPath, h.putGroup)
	reg.Handle("PATCH "+groupPath, h.patchGroup)
	reg.Handle("DELETE "+groupPath, h.deleteGroup)
	reg.Handle("GET "+subPath+"/operationresults/{operation}", h.operationResult)
}

func (h resources) groups(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	docs, err := h.ws.Groups(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"))
	if err != nil {
		return 0, nil, err
	}
	if docs, err = tagged(r, docs); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, arm.Page(r, bodies(docs), ""), nil
}

func (h resources) group(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	doc, err := h.ws.Group(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"))
	return http.StatusOK, doc.Body, err
}

func (h resources) groupExists(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	_, err := h.ws.Group(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"))
	return http.StatusNoContent, nil, err
}

func (h resources) putGroup(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := arm.ReadDocument(r)
	if err != nil {
		return 0, nil, err
	}
	doc, created, err := h.ws.PutGroup(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"), body)
	if err != nil {
		return 0, nil, err
	}
	if created {
		return http.StatusCreated, doc.Body, nil
	}
	return http.StatusOK, doc.Body, nil
}

func (h resources) patchGroup(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := arm.ReadPatch(r)
	if err != nil {
		return 0, nil, err
	}
	doc, err := h.ws.PatchGroup(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("group"), body)
	return http.StatusOK, doc.Body, err
}

// deleteGroup answers with a Location alone, as Resource Manager does for its own.
func (h resources) deleteGroup(w http.ResponseWriter, r *http.Request) (int, any, error) {
	sub, group := r.PathValue("sub"), r.PathValue("group")
	op, err := h.ws.DeleteGroup(r.Context(), arm.Caller(r.Context()), sub, group)
	if err != nil {
		return 0, nil, err
	}
	if op.ID == "" {
		return 0, nil, fault.Coded(fault.NotFound, "ResourceGroupNotFound", "", "Resource group '%s' could not be found.", group)
	}
	arm.Later(w, r, resultAt(op))
	return http.StatusAccepted, nil, nil
}

func resultAt(op operation.Operation) string {
	return armid.Subscription(op.Scope) + "/operationresults/" + op.ID
}

// operationResult answers 202 until what was asked for is done.
func (h resources) operationResult(w http.ResponseWriter, r *http.Request) (int, any, error) {
	op, err := h.ws.Operation(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("operation"))
	if err != nil {
		return 0, nil, err
	}
	switch {
	case !op.Status.Final():
		arm.Later(w, r, resultAt(op))
		return http.StatusAccepted, nil, nil
	case op.Status != operation.Succeeded:
		return 0, nil, fault.Coded(fault.Conflict, op.Code, op.Target, "%s", op.Message)
	}
	return http.StatusNoContent, nil, nil
}
