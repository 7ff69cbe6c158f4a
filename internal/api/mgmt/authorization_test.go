package mgmt_test

import (
	"net/url"
	"strings"
	"testing"
)

const (
	reader   = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	cluster  = `{"properties":{"computeType":"AmlCompute","properties":{"scaleSettings":{"maxNodeCount":1}}}}`
	deletion = `{"properties":{"level":"cannotdelete","notes":"n"}}`
	frozen   = `{"properties":{"level":"ReadOnly"}}`
)

// TestLocks puts a lock on each kind of scope and tries every sort of write.
func TestLocks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rg := strings.TrimSuffix(s.ws, "/providers/Microsoft.MachineLearningServices/workspaces/main")
	c := s.ws + "/computes/cpu"
	account := rg + "/providers/Microsoft.Storage/storageAccounts/acct1"
	s.want(201, "PUT", c, cluster)
	s.want(200, "PUT", account, `{"location":"westus2"}`)
	const locks = "/providers/Microsoft.Authorization/locks"
	scopes := []string{s.sub, rg, s.ws, c}
	for i, scope := range scopes {
		double := strings.Replace(scope, "Services/workspaces", "Services//workspaces", 1)
		a := s.want(201, "PUT", double+locks+"/keep", deletion)
		if id := scope + locks + "/keep"; at(a.body, "id") != id || at(a.body, "properties.level") != "CanNotDelete" {
			t.Errorf("the lock on %s is %s", scope, a.raw)
		}
		for _, target := range scopes[1:] { // what lies in the scope, and what it lies in, as that would take it along
			if a := s.want(409, "DELETE", target, ""); at(a.body, "error.code") != "ScopeLocked" || !strings.Contains(a.raw, scope) || !strings.Contains(a.raw, "keep") {
				t.Errorf("deleting %s under a lock on %s: %s", target, scope, a.raw)
			}
		}
		s.want(409, "DELETE", "/rp/workspaces"+c, "") // as SDK v1 asks
		s.want(200, "PATCH", c, `{"tags":{"a":"b"}}`)
		s.want(200, "PUT", scope+locks+"/keep", frozen)
		s.want(409, "PATCH", c, `{"tags":{"a":"c"}}`).under(t, scope)
		s.want(200, "POST", c+"/listNodes", "")
		if i < 3 {
			s.want(409, "PUT", s.ws+"/computes/new", cluster).under(t, scope)
		}
		if i < 2 {
			s.want(409, "PUT", account, `{"location":"westus2"}`).under(t, scope)
			s.want(409, "PUT", account+"/providers/Microsoft.Authorization/roleAssignments/11111111-2222-4333-8444-555555555555", "{}").under(t, scope)
		}
		if n := len(at(s.want(200, "GET", s.sub+locks, "").body, "value").([]any)); n != 1 {
			t.Errorf("%d locks are in the subscription", n)
		}
		if n := len(at(s.want(200, "GET", c+locks+"?$filter=atScope()", "").body, "value").([]any)); n != 1 {
			t.Errorf("%d locks hold for the cluster", n)
		}
		s.want(200, "GET", scope+locks+"/KEEP", "")
		s.want(200, "DELETE", scope+locks+"/keep", "")
		s.want(204, "DELETE", scope+locks+"/keep", "")
		s.want(404, "GET", scope+locks+"/keep", "")
	}
	s.want(201, "PUT", account+locks+"/l", deletion) // a scope that no route names
	s.want(409, "DELETE", account, "")
	s.want(200, "PUT", account, `{"location":"westus2"}`)
	s.want(409, "DELETE", rg, "")
	s.want(200, "DELETE", account+locks+"/l", "")
	s.want(200, "DELETE", account, "")
	s.want(202, "DELETE", c, "")
	s.want(404, "PUT", s.ws+"/computes/none"+locks+"/l", deletion)
}

// under checks that a lock refused, and says where it lies.
func (a answer) under(t *testing.T, scope string) {
	t.Helper()
	if at(a.body, "error.code") != "ScopeLocked" || !strings.Contains(a.raw, "'"+scope+"'") {
		t.Errorf("refused by no lock on %s: %s", scope, a.raw)
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rg := strings.TrimSuffix(s.ws, "/providers/Microsoft.MachineLearningServices/workspaces/main")
	const defs, gives = "/providers/Microsoft.Authorization/roleDefinitions", "/providers/Microsoft.Authorization/roleAssignments"
	for _, scope := range []string{"", s.sub, rg, s.ws} {
		a := s.want(200, "GET", scope+defs+"?$filter="+url.QueryEscape("roleName eq 'AzureML Data Scientist'"), "")
		list := at(a.body, "value").([]any)
		if len(list) != 1 || at(list[0].(map[string]any), "name") != "f6c7c914-8db3-469d-8ca1-694a8f32e121" {
			t.Errorf("the role at %q is %s", scope, a.raw)
		}
	}
	s.want(200, "GET", s.sub+defs+"/"+reader, "")
	own := "22222222-2222-4333-8444-555555555555"
	role := `{"properties":{"roleName":"Mine","description":"d","permissions":[{"actions":["*/read"]}],"assignableScopes":["` + rg + `"]}}`
	s.want(201, "PUT", rg+defs+"/"+own, role)
	s.want(200, "PUT", rg+defs+"/"+own, role)
	s.want(409, "PUT", rg+defs+"/"+strings.Replace(own, "2", "3", 1), role) // the name is taken
	s.want(409, "PUT", rg+defs+"/"+reader, role)

	principal := at(s.want(200, "GET", s.ws, "").body, "identity.principalId").(string)
	give := func(role, to string) string {
		return `{"properties":{"roleDefinitionId":"` + s.sub + defs + "/" + role + `","principalId":"` + to + `"}}`
	}
	one := s.ws + gives + "/33333333-2222-4333-8444-555555555555"
	a := s.want(201, "PUT", one, give(own, principal))
	if at(a.body, "properties.scope") != s.ws || at(a.body, "properties.principalType") != "ServicePrincipal" || at(a.body, "properties.principalId") != principal {
		t.Errorf("the assignment is %s", a.raw)
	}
	s.want(200, "PUT", one, give(own, principal))
	for name, c := range map[string]struct {
		status         int
		at, body, code string
	}{
		"the same once more":  {409, strings.Replace(one, "3333", "4444", 1), give(own, principal), "RoleAssignmentExists"},
		"another of its name": {409, one, give(reader, principal), "RoleAssignmentUpdateNotPermitted"},
		"no such role":        {400, one, give(strings.Replace(own, "2", "5", 1), principal), "RoleDefinitionDoesNotExist"},
		"nobody":              {400, strings.Replace(one, "3333", "4444", 1), give(reader, own), "PrincipalNotFound"},
		"no guid":             {400, s.ws + gives + "/me", give(reader, principal), "InvalidRoleAssignmentId"},
		"nowhere":             {404, strings.Replace(one, "main", "none", 1), give(reader, principal), "ResourceNotFound"},
	} {
		if a := s.ask("PUT", c.at, c.body); a.status != c.status || at(a.body, "error.code") != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.raw, c.status, c.code)
		}
	}
	for query, n := range map[string]int{
		s.sub + gives:                        1,
		s.sub + gives + "?$filter=atScope()": 0,
		s.ws + gives + "?$filter=atScope()":  1,
		s.ws + "/jobs/j" + gives:             1, // inherited
		s.sub + gives + "?$filter=principalId%20eq%20'" + principal + "'":       1,
		s.ws + gives + "?$filter=atScope()%20and%20assignedTo('" + own + "')":   0,
		s.ws + gives + "?$filter=atScope()+and+assignedTo('" + principal + "')": 1,
	} {
		if a := s.want(200, "GET", query, ""); len(at(a.body, "value").([]any)) != n {
			t.Errorf("GET %s: %s; want %d", query, a.raw, n)
		}
	}
	s.want(409, "DELETE", rg+defs+"/"+own, "")
	s.want(200, "DELETE", one, "")
	s.want(204, "DELETE", one, "")
	s.want(404, "GET", one, "")
	s.want(200, "DELETE", rg+defs+"/"+own, "")
}

func TestGraph(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rg := strings.TrimSuffix(s.ws, "/providers/Microsoft.MachineLearningServices/workspaces/main")
	user := s.want(201, "PUT", rg+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uai1", `{"location":"westus2"}`)
	app := at(user.body, "properties.clientId").(string)
	a := s.want(200, "GET", "/v1.0/servicePrincipals?$filter="+url.QueryEscape("servicePrincipalNames/any(c:c eq '"+app+"')"), "")
	list := at(a.body, "value").([]any)
	if len(list) != 1 || at(list[0].(map[string]any), "id") != at(user.body, "properties.principalId") || at(list[0].(map[string]any), "servicePrincipalType") != "ManagedIdentity" {
		t.Errorf("the principal is %s", a.raw)
	}
	if a := s.want(200, "GET", "/v1.0/servicePrincipals", ""); len(at(a.body, "value").([]any)) != 3 { // the client, the workspace, the identity
		t.Errorf("the principals are %s", a.raw)
	}
	if a := s.want(200, "GET", "/v1.0/applications?$filter=displayName%20eq%20'ebb'", ""); len(at(a.body, "value").([]any)) != 1 {
		t.Errorf("the applications are %s", a.raw)
	}
	id := at(user.body, "properties.principalId").(string)
	if a := s.want(200, "POST", "/v1.0/directoryObjects/getByIds", `{"ids":["`+id+`","`+app+`"],"types":["user"]}`); len(at(a.body, "value").([]any)) != 1 {
		t.Errorf("the objects are %s", a.raw)
	}
	s.want(200, "GET", "/v1.0/servicePrincipals/"+id, "")
	s.want(404, "GET", "/v1.0/users/"+id, "")
	s.want(400, "GET", "/v1.0/me", "")
	for _, c := range [][2]string{{"GET", "/v1.0/sites"}, {"POST", "/v1.0/applications"}, {"DELETE", "/v1.0/users/" + id}} {
		if a := s.want(400, c[0], c[1], "{}"); at(a.body, "error.code") != "NotImplemented" {
			t.Errorf("%s %s: %s", c[0], c[1], a.raw)
		}
	}
}
