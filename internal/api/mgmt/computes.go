package mgmt

import (
	"errors"
	"net/http"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/memo"
	"github.com/ebb-compute/ebb/internal/core/operation"
	"github.com/ebb-compute/ebb/internal/fault"
)

// warningHeader carries one sentence for people each time it occurs; "ebb" prints
// them, and other clients ignore it.
const warningHeader = "x-ebb-warning"

// How many computes, and nodes, one page of a list has.
const (
	pageSize  = 200
	nodesPage = 1000
)

// computeRoutes serves clusters, their nodes, and operations on them.
type computeRoutes struct {
	c Computes

	shown *memo.Map[string, computes.Version, arm.JSON] // by id
}

func registerComputes(reg arm.Registrar, h computeRoutes) {
	h.shown = &memo.Map[string, computes.Version, arm.JSON]{}
	for _, prefix := range []string{"", dataPrefix} {
		reg.Handle("GET "+prefix+workspacePath+"/computes", h.list)
		reg.Handle("GET "+prefix+computePath, h.get)
		reg.Handle("PUT "+prefix+computePath, h.put)
		reg.Handle("PATCH "+prefix+computePath, h.patch)
		reg.Handle("DELETE "+prefix+computePath, h.remove)
		reg.Handle("POST "+prefix+computePath+"/listNodes", h.nodes)
		reg.Handle("GET "+prefix+computePath+"/listNodes", h.nodes) // a nextLink is got
		registerInstances(reg, prefix, h)
	}
	reg.Handle("GET "+locationPath+"/mfeOperationsStatus/{operation}", h.status)
	reg.Handle("GET "+locationPath+"/mfeOperationResults/{operation}", h.result)
}

func (h computeRoutes) list(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	list, next, err := h.c.List(r.Context(), arm.Caller(r.Context()), workspaceID(r), arm.SkipToken(r), pageSize)
	if err != nil {
		return 0, nil, err
	}
	value := make([]arm.JSON, len(list))
	for i, c := range list {
		if value[i], err = h.show(c); err != nil {
			return 0, nil, err
		}
	}
	page, err := arm.PageOf(r, value, next)
	return http.StatusOK, page, err
}

// show encodes a compute of a list, or has it from the last time: most of them have
// not changed since.
func (h computeRoutes) show(c computes.Listed) (arm.JSON, error) {
	if text, ok := h.shown.Get(c.ID, c.Version); ok {
		return text, nil
	}
	doc, err := c.Show()
	if err != nil {
		return nil, err
	}
	text, err := arm.Encode(doc.Body)
	if err != nil {
		return nil, err
	}
	h.shown.Put(c.ID, c.Version, text, len(text))
	return text, nil
}

func (h computeRoutes) get(w http.ResponseWriter, r *http.Request) (int, any, error) {
	doc, err := h.c.Get(r.Context(), arm.Caller(r.Context()), workspaceID(r), r.PathValue("compute"))
	if err != nil {
		return 0, nil, err
	}
	// No 304: the ETag is the wish's, and what clients poll for is the status.
	w.Header().Set("ETag", arm.ETag(doc.Rev))
	return http.StatusOK, doc.Body, nil
}

// createOnlyHeader is set by deployments of templates: a compute that exists may be
// put again as it is, and not changed. Anybody may set it.
const createOnlyHeader = "X-Ebb-Create-Only"

// checkHeader is set by what-if: nothing is written, and what would be refused is.
const checkHeader = "X-Ebb-Check"

// request is what PUT and PATCH have in common.
func request(r *http.Request, body map[string]any) computes.Request {
	return computes.Request{
		Workspace: workspaceID(r), Name: r.PathValue("compute"), Body: body, Match: match(r),
		CreateOnly: r.Header.Get(createOnlyHeader) != "", Check: r.Header.Get(checkHeader) != "",
	}
}

// match checks If-Match and If-None-Match against what there is.
func match(r *http.Request) func(bool, int64) error {
	target := armid.Compute(workspaceID(r), r.PathValue("compute"))
	return func(exists bool, rev int64) error { return arm.Match(r, target, exists, arm.ETag(rev)) }
}

func (h computeRoutes) put(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := arm.ReadDocument(r)
	if err != nil {
		return 0, nil, err
	}
	res, err := h.c.Put(r.Context(), arm.Caller(r.Context()), request(r, body))
	if err != nil {
		return 0, nil, err
	}
	written(w, r, res)
	if res.Created {
		return http.StatusCreated, res.Body, nil
	}
	return http.StatusOK, res.Body, nil
}

func (h computeRoutes) patch(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := arm.ReadPatch(r)
	if err != nil {
		return 0, nil, err
	}
	res, err := h.c.Patch(r.Context(), arm.Caller(r.Context()), request(r, body))
	if err != nil {
		return 0, nil, err
	}
	written(w, r, res)
	return http.StatusOK, res.Body, nil
}

// written sets the headers of a write's answer.
func written(w http.ResponseWriter, r *http.Request, res computes.Result) {
	w.Header().Set("ETag", arm.ETag(res.Rev))
	for _, sentence := range res.Warnings {
		w.Header().Add(warningHeader, sentence)
	}
	async(w, r, res)
}

// async points to the operation, where there is one.
func async(w http.ResponseWriter, r *http.Request, res computes.Result) {
	if res.Operation == "" {
		return
	}
	at := operationsAt(res.Subscription, res.Region)
	arm.Async(w, r, at+"/mfeOperationsStatus/"+res.Operation, at+"/mfeOperationResults/"+res.Operation)
}

func operationsAt(sub, region string) string {
	return armid.Subscription(sub) + "/providers/" + armid.Provider + "/locations/" + region
}

func (h computeRoutes) remove(w http.ResponseWriter, r *http.Request) (int, any, error) {
	res, err := h.c.Delete(r.Context(), arm.Caller(r.Context()), workspaceID(r), r.PathValue("compute"), query(r, "underlyingResourceAction"), match(r))
	if err != nil {
		return 0, nil, err
	}
	if res.Operation == "" {
		return http.StatusNoContent, nil, nil
	}
	async(w, r, res)
	return http.StatusAccepted, nil, nil
}

// nodeBody is a node of listNodes. Nodes dial out and open no port, so that they
// have no address to show; the keys are there because clients print them.
type nodeBody struct {
	ID             string  `json:"nodeId"`
	PrivateAddress *string `json:"privateIpAddress"`
	PublicAddress  *string `json:"publicIpAddress"`
	Port           *int    `json:"port"`
	State          string  `json:"nodeState"`
	Run            *string `json:"runId"`

	Warnings []string `json:"warnings,omitempty"` // Ebb's own: what jobs do without there
	Engine   string   `json:"engine,omitempty"`   // Ebb's own: whose containers jobs run in there
}

func (h computeRoutes) nodes(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	nodes, next, err := h.c.Nodes(r.Context(), arm.Caller(r.Context()), workspaceID(r), r.PathValue("compute"), arm.SkipToken(r), nodesPage)
	if err != nil {
		return 0, nil, err
	}
	list := []nodeBody{}
	for _, n := range nodes {
		b := nodeBody{ID: n.ID, State: n.State, Warnings: n.Warnings, Engine: n.Engine}
		if n.Run != "" {
			b.Run = &n.Run
		}
		list = append(list, b)
	}
	page := map[string]any{"nodes": list}
	if link := arm.Page(r, list, next).NextLink; link != "" { // SDK v1 follows a null one
		page["nextLink"] = link
	}
	return http.StatusOK, page, nil
}

// operationBody is the state of an operation (arm-rpc v1.0, "Azure-AsyncOperation Resource format").
type operationBody struct {
	ID      string         `json:"id"`
	Name    string         `json:"name"`
	Status  string         `json:"status"`
	Started string         `json:"startTime"`
	Ended   string         `json:"endTime,omitempty"`
	Percent int            `json:"percentComplete"`
	Target  string         `json:"resourceId"`
	Problem *operationFail `json:"error,omitempty"`
}

// operationFail is an ARM error with the number that SDK v1 prints.
type operationFail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Status  int    `json:"statusCode"`
	Details []any  `json:"details"`
}

func (h computeRoutes) status(w http.ResponseWriter, r *http.Request) (int, any, error) {
	op, err := h.c.Operation(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("operation"))
	if err != nil {
		return 0, nil, err
	}
	if !op.Status.Final() {
		w.Header().Set("Retry-After", arm.RetryAfter)
	}
	return http.StatusOK, bodyOf(op, "mfeOperationsStatus"), nil
}

// bodyOf shows an operation at the address that has its states.
func bodyOf(op operation.Operation, address string) operationBody {
	body := operationBody{
		ID:   operationsAt(op.Scope, op.Location) + "/" + address + "/" + op.ID,
		Name: op.ID, Status: string(op.Status), Started: op.Started.UTC().Format(time.RFC3339Nano), Target: op.Target,
	}
	if op.Status.Final() {
		body.Percent, body.Ended = 100, op.Ended.UTC().Format(time.RFC3339Nano)
	}
	if op.Status == operation.Failed {
		body.Problem = &operationFail{op.Code, op.Message, http.StatusConflict, []any{}}
	}
	return body
}

// result answers as the operation would have, had it not been asynchronous.
func (h computeRoutes) result(w http.ResponseWriter, r *http.Request) (int, any, error) {
	who := arm.Caller(r.Context())
	op, err := h.c.Operation(r.Context(), who, r.PathValue("sub"), r.PathValue("operation"))
	if err != nil {
		return 0, nil, err
	}
	switch {
	case !op.Status.Final():
		at := operationsAt(op.Scope, op.Location)
		arm.Async(w, r, at+"/mfeOperationsStatus/"+op.ID, at+"/mfeOperationResults/"+op.ID)
		return http.StatusAccepted, nil, nil
	case op.Status != operation.Succeeded:
		return 0, nil, fault.Coded(fault.Conflict, op.Code, op.Target, "%s", op.Message)
	}
	doc, err := h.c.Target(r.Context(), who, op)
	if errors.Is(err, fault.NotFound) {
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, doc.Body, err
}
