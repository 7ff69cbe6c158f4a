package mgmt

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/authorization"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Authorization is what the routes of locks, roles and the directory need of app/authorization.
type Authorization interface {
	PutLock(ctx context.Context, p access.Principal, scope, name string, body map[string]any) (authorization.Document, error)
	Lock(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error)
	DeleteLock(ctx context.Context, p access.Principal, scope, name string) (bool, error)
	Locks(ctx context.Context, p access.Principal, scope string, atScope bool) ([]map[string]any, error)
	PutRole(ctx context.Context, p access.Principal, scope, id string, body map[string]any) (authorization.Document, error)
	Role(ctx context.Context, p access.Principal, scope, id string) (map[string]any, error)
	DeleteRole(ctx context.Context, p access.Principal, scope, id string) (map[string]any, error)
	Roles(ctx context.Context, p access.Principal, scope string) ([]map[string]any, error)
	PutAssignment(ctx context.Context, p access.Principal, scope, name string, body map[string]any) (authorization.Document, error)
	Assignment(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error)
	DeleteAssignment(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error)
	Assignments(ctx context.Context, p access.Principal, scope string, want authorization.Wanted) ([]map[string]any, error)
	Directory(ctx context.Context) ([]authorization.Entry, error)
	Check(ctx context.Context, id string, deletes bool) error
}

// authorizationRoutes serves what is put on a scope of any kind: the end of the
// path names it, the rest is the scope.
type authorizationRoutes struct{ a Authorization }

// verbs of one kind of extension; a missing one is a 405.
type verbs struct {
	list, get, put, remove arm.Handler
}

func (h authorizationRoutes) kinds() map[string]verbs {
	return map[string]verbs{
		"locks":           {h.locks, h.lock, h.putLock, h.deleteLock},
		"roleDefinitions": {h.roles, h.role, h.putRole, h.deleteRole},
		"roleAssignments": {h.assignments, h.assignment, h.putAssignment, h.deleteAssignment},
		"permissions":     {list: h.permissions},
		"denyAssignments": {list: h.denied},
	}
}

func registerAuthorization(reg arm.Registrar, h authorizationRoutes) {
	for _, scope := range []string{"", subPath, groupPath, workspacePath, computePath} {
		for kind, v := range h.kinds() {
			if scope == "" && kind != "roleDefinitions" {
				continue
			}
			at := scope + "/providers/" + authorization.Namespace + "/" + kind
			handle(reg, "GET "+at, v.list)
			handle(reg, "GET "+at+"/{name}", v.get)
			if scope != "" {
				handle(reg, "PUT "+at+"/{name}", v.put)
				handle(reg, "DELETE "+at+"/{name}", v.remove)
			}
		}
	}
}

func handle(reg arm.Registrar, pattern string, h arm.Handler) {
	if h != nil {
		reg.Handle(pattern, h)
	}
}

// extended splits a path at the namespace of an extension, as in
// {scope}/providers/Microsoft.Authorization/locks/{name}.
func extended(path, namespace string) (scope, kind, name string, ok bool) {
	mark := "/providers/" + namespace + "/"
	cut := strings.LastIndex(strings.ToLower(path), strings.ToLower(mark))
	if cut < 0 {
		return "", "", "", false
	}
	kind, name, _ = strings.Cut(path[cut+len(mark):], "/")
	return path[:cut], kind, name, true
}

// scopeOf is the scope and the name that a path has.
func scopeOf(r *http.Request) (scope, name string) {
	scope, _, name, _ = extended(r.URL.Path, authorization.Namespace)
	return scope, name
}

// extension answers for a scope that no route names: a resource of another provider.
func (h authorizationRoutes) extension(w http.ResponseWriter, r *http.Request) (int, any, error) {
	_, kind, name, _ := extended(r.URL.Path, authorization.Namespace)
	for known, v := range h.kinds() {
		if !strings.EqualFold(kind, known) {
			continue
		}
		do := map[string]arm.Handler{"GET": v.get, "HEAD": v.get, "PUT": v.put, "DELETE": v.remove}[r.Method]
		if name == "" {
			do = map[string]arm.Handler{"GET": v.list, "HEAD": v.list}[r.Method]
		}
		if do != nil {
			return do(w, r)
		}
	}
	return 0, nil, fault.Coded(fault.NotFound, "InvalidResourceType", "", "There is no %s of '%.200s' in the namespace '%s' of this server.", r.Method, kind, authorization.Namespace)
}

func (h authorizationRoutes) locks(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, _ := scopeOf(r)
	terms, err := parseFilter(arm.Query(r, "$filter"))
	if err != nil {
		return 0, nil, err
	}
	list, err := h.a.Locks(r.Context(), arm.Caller(r.Context()), scope, len(terms) > 0 && terms[0].op == "atscope")
	return http.StatusOK, arm.Page(r, list, ""), err
}

func (h authorizationRoutes) lock(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, name := scopeOf(r)
	body, err := h.a.Lock(r.Context(), arm.Caller(r.Context()), scope, name)
	return http.StatusOK, body, err
}

func (h authorizationRoutes) putLock(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return h.put(r, h.a.PutLock)
}

func (h authorizationRoutes) put(r *http.Request, do func(context.Context, access.Principal, string, string, map[string]any) (authorization.Document, error)) (int, any, error) {
	body, err := arm.ReadDocument(r)
	if err != nil {
		return 0, nil, err
	}
	scope, name := scopeOf(r)
	doc, err := do(r.Context(), arm.Caller(r.Context()), scope, name, body)
	if err != nil {
		return 0, nil, err
	}
	if doc.Created {
		return http.StatusCreated, doc.Body, nil
	}
	return http.StatusOK, doc.Body, nil
}

func (h authorizationRoutes) deleteLock(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, name := scopeOf(r)
	found, err := h.a.DeleteLock(r.Context(), arm.Caller(r.Context()), scope, name)
	if err != nil || !found {
		return http.StatusNoContent, nil, err
	}
	return http.StatusOK, nil, nil
}

func (h authorizationRoutes) roles(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, _ := scopeOf(r)
	terms, err := parseFilter(arm.Query(r, "$filter"), "roleName", "type")
	if err != nil {
		return 0, nil, err
	}
	all, err := h.a.Roles(r.Context(), arm.Caller(r.Context()), scope)
	if err != nil {
		return 0, nil, err
	}
	var list []map[string]any
	for _, role := range all {
		props, _ := role["properties"].(map[string]any)
		if matches(terms, props) {
			list = append(list, role)
		}
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

func (h authorizationRoutes) role(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, name := scopeOf(r)
	body, err := h.a.Role(r.Context(), arm.Caller(r.Context()), scope, name)
	return http.StatusOK, body, err
}

func (h authorizationRoutes) putRole(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return h.put(r, h.a.PutRole)
}

// gone answers a deletion with what was there, as this provider does.
func gone(body map[string]any, err error) (int, any, error) {
	if err != nil || body == nil {
		return http.StatusNoContent, nil, err
	}
	return http.StatusOK, body, nil
}

func (h authorizationRoutes) deleteRole(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, name := scopeOf(r)
	return gone(h.a.DeleteRole(r.Context(), arm.Caller(r.Context()), scope, name))
}

func (h authorizationRoutes) assignments(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, _ := scopeOf(r)
	terms, err := parseFilter(arm.Query(r, "$filter"), "principalId")
	if err != nil {
		return 0, nil, err
	}
	var want authorization.Wanted
	for _, t := range terms {
		switch t.op {
		case "atscope":
			want.AtScope = true
		default: // principalId eq, assignedTo()
			want.Principal = t.value
		}
	}
	list, err := h.a.Assignments(r.Context(), arm.Caller(r.Context()), scope, want)
	return http.StatusOK, arm.Page(r, list, ""), err
}

func (h authorizationRoutes) assignment(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, name := scopeOf(r)
	body, err := h.a.Assignment(r.Context(), arm.Caller(r.Context()), scope, name)
	return http.StatusOK, body, err
}

func (h authorizationRoutes) putAssignment(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return h.put(r, h.a.PutAssignment)
}

func (h authorizationRoutes) deleteAssignment(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, name := scopeOf(r)
	return gone(h.a.DeleteAssignment(r.Context(), arm.Caller(r.Context()), scope, name))
}

// permissions says what the caller may do: everything, or for a run, look.
func (h authorizationRoutes) permissions(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	scope, _ := scopeOf(r)
	who := arm.Caller(r.Context())
	if _, err := h.a.Locks(r.Context(), who, scope, false); err != nil { // the scope is there, and the caller's
		return 0, nil, err
	}
	actions := []string{"*"}
	if who.Kind == access.RunIdentity {
		actions = []string{"*/read"}
	}
	return http.StatusOK, arm.Page(r, []map[string]any{{"actions": actions, "notActions": []string{}, "dataActions": []string{}, "notDataActions": []string{}}}, ""), nil
}

// denied lists what only Azure itself makes: none.
func (h authorizationRoutes) denied(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return http.StatusOK, arm.Page[any](r, nil, ""), nil
}

// looks are the last segments of POSTs that change nothing.
var looks = []string{"listnodes", "validate", "whatif", "register", "checkcomputenameavailability", "checknameavailability", "getallowedvmsizesforresize", "calculatetemplatehash"}

// Alive refuses writes to what is on its way out.
type Alive interface {
	Alive(ctx context.Context, id armid.ID) error
}

// Guard refuses writes to Resource Manager's addresses that a lock forbids, or
// whose group or workspace is being deleted. The router asks it before any
// handler, so that no route forgets.
func Guard(a Authorization, alive Alive) func(*http.Request) error {
	writable := Writable(a, alive)
	return func(r *http.Request) error {
		path := strings.TrimPrefix(strings.ToLower(r.URL.Path), dataPrefix)
		if !strings.HasPrefix(path, "/subscriptions/") || r.Method == http.MethodGet || r.Method == http.MethodHead {
			return nil
		}
		for _, look := range looks {
			if r.Method == http.MethodPost && strings.HasSuffix(path, "/"+look) {
				return nil
			}
		}
		if r.Method == http.MethodDelete {
			return a.Check(r.Context(), path, true)
		}
		return writable(r.Context(), r.URL.Path[len(r.URL.Path)-len(path):])
	}
}

// Writable refuses a write to an address of Resource Manager as [Guard] does, for
// those that come by no request of their own.
func Writable(a Authorization, alive Alive) func(ctx context.Context, path string) error {
	return func(ctx context.Context, path string) error {
		if err := a.Check(ctx, path, false); err != nil {
			return err
		}
		return alive.Alive(ctx, container(path))
	}
}

// container is the workspace, or else the group, that a path lies in. What is
// malformed lies in none, and is for the handler to refuse.
func container(path string) armid.ID {
	parts := strings.Split(path, "/")
	for _, n := range []int{9, 5} { // /subscriptions/{}/resourceGroups/{}/providers/{}/workspaces/{}
		if len(parts) < n {
			continue
		}
		if id, err := armid.Parse(strings.Join(parts[:n], "/")); err == nil && id.Group != "" && (n == 5 || id.Is(armid.WorkspaceType)) {
			return id
		}
	}
	return armid.ID{}
}
