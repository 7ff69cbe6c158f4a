// Package access says who is asking and what they may do to which scope.
package access

import "strings"

// Principal is whoever a request comes from, once its token is verified.
type Principal struct {
	ID     string // object id
	App    string // application (client) id; empty for a run or node
	Name   string // for people
	Tenant string
	Kind   PrincipalKind
	// Scope confines a run's principal to its workspace (lower-case ARM id).
	// Empty: the tenant.
	Scope string
	Run   string // guid of the run a run token was made for
	Fence int64  // of the attempt a run token was made for
}

// PrincipalKind says what sort of caller it is.
type PrincipalKind string

// Users and applications own the tenant; a run may only use the data plane of
// its own workspace.
const (
	Application PrincipalKind = "Application"
	User        PrincipalKind = "User"
	RunIdentity PrincipalKind = "Run"
)

// May reports whether p may touch anything under scope (an ARM id, any case).
func (p Principal) May(scope string) bool {
	if p.Scope == "" {
		return true
	}
	s := strings.ToLower(scope)
	return s == p.Scope || strings.HasPrefix(s, p.Scope+"/")
}

// UserName is what a person is called where a name with an @ is expected.
func (p Principal) UserName() string { return p.Name + "@" + p.Tenant }
