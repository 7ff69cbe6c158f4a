// Package armid reads, writes and compares Azure resource ids, and holds the rules
// for the names inside them. Ids are compared without regard to case and keep
// the case they were typed in (arm-rpc v1.0, "common API details").
//
// Start at [Parse]; [Key] is the form that rows are stored under.
package armid

import (
	"errors"
	"fmt"
	"strings"
)

// Resource provider and types that Ebb serves, in Azure's spelling.
const (
	Provider      = "Microsoft.MachineLearningServices"
	WorkspaceType = Provider + "/workspaces"
	ComputeType   = Provider + "/workspaces/computes"
	groupType     = "Microsoft.Resources/resourceGroups"
	rootType      = "Microsoft.Resources/subscriptions"
)

// maxLength of an id, in bytes: above it no id is looked at.
const maxLength = 2048

// ID is a resource id taken apart. The zero ID is the root, "/".
type ID struct {
	Subscription string
	Group        string // resource group; empty: the id is not in one
	Provider     string // namespace; empty: the subscription or group itself
	parts        []part // type and name, from the outermost
}

type part struct{ typ, name string }

// Parse takes an id apart: a subscription, a resource group, a resource of any
// provider in either, or a resource below such a one. Doubled slashes and one at the end count
// for nothing. An extension resource (a second "/providers/") is refused:
// callers cut it off first.
func Parse(s string) (ID, error) {
	if len(s) > maxLength {
		return ID{}, fmt.Errorf("a resource id of %d characters is longer than %d", len(s), maxLength)
	}
	if !strings.HasPrefix(s, "/") {
		return ID{}, fmt.Errorf("resource id %q does not begin with a slash", s)
	}
	seg, err := segments(s)
	if err != nil {
		return ID{}, err
	}
	if len(seg) < 2 || !strings.EqualFold(seg[0], "subscriptions") {
		return ID{}, fmt.Errorf("resource id %q does not begin with /subscriptions/{id}", s)
	}
	id := ID{Subscription: seg[1]}
	seg = seg[2:]
	if len(seg) >= 2 && strings.EqualFold(seg[0], "resourceGroups") {
		id.Group, seg = seg[1], seg[2:]
	}
	if len(seg) == 0 {
		return id, nil
	}
	if len(seg) < 4 || len(seg)%2 != 0 || !strings.EqualFold(seg[0], "providers") {
		return ID{}, fmt.Errorf("resource id %q is not /subscriptions/{id}/resourceGroups/{group}/providers/{namespace}/{type}/{name}", s)
	}
	id.Provider = seg[1]
	for i := 2; i < len(seg); i += 2 {
		if strings.EqualFold(seg[i], "providers") {
			return ID{}, fmt.Errorf("resource id %q names an extension of another resource", s)
		}
		id.parts = append(id.parts, part{seg[i], seg[i+1]})
	}
	return id, nil
}

// segments splits s at its slashes and refuses what no id holds.
func segments(s string) ([]string, error) {
	var seg []string
	for _, p := range strings.Split(s, "/") {
		switch {
		case p == "":
			continue
		case p == "." || p == "..":
			return nil, fmt.Errorf("resource id %q has %q for a name", s, p)
		case strings.ContainsFunc(p, forbidden):
			return nil, fmt.Errorf("resource id %q has a character that no name may have", s)
		}
		seg = append(seg, p)
	}
	return seg, nil
}

// forbidden in any name: control characters, and what ARM refuses in ids.
func forbidden(r rune) bool {
	return r < ' ' || r == 0x7f || r == '\uFFFD' || strings.ContainsRune(`<>%&\?#`, r)
}

// String returns the id as it is written, with the case it was typed in.
func (id ID) String() string {
	if id.Subscription == "" {
		return "/"
	}
	var b strings.Builder
	b.WriteString("/subscriptions/" + id.Subscription)
	if id.Group != "" {
		b.WriteString("/resourceGroups/" + id.Group)
	}
	if id.Provider != "" {
		b.WriteString("/providers/" + id.Provider)
	}
	for _, p := range id.parts {
		b.WriteString("/" + p.typ + "/" + p.name)
	}
	return b.String()
}

// Key returns the form rows are stored under: lower-case.
func (id ID) Key() string { return strings.ToLower(id.String()) }

// Key returns the stored form of an id, or of anything made like one, that
// need not be valid: lower-case, a slash at its start and none at its end or doubled.
func Key(s string) string {
	var b strings.Builder
	for _, p := range strings.Split(strings.ToLower(s), "/") {
		if p != "" {
			b.WriteString("/" + p)
		}
	}
	return b.String()
}

// Equal reports whether two ids name the same resource.
func Equal(a, b string) bool { return Key(a) == Key(b) }

// Name returns the last name: the resource's own.
func (id ID) Name() string {
	switch {
	case len(id.parts) > 0:
		return id.parts[len(id.parts)-1].name
	case id.Group != "":
		return id.Group
	}
	return id.Subscription
}

// Type returns the resource's type, as "Microsoft.Network/virtualNetworks/subnets".
func (id ID) Type() string {
	switch {
	case len(id.parts) > 0:
		t := id.Provider
		for _, p := range id.parts {
			t += "/" + p.typ
		}
		return t
	case id.Group != "":
		return groupType
	}
	return rootType
}

// Is reports whether the resource is of a type, in any case.
func (id ID) Is(typ string) bool { return strings.EqualFold(id.Type(), typ) }

// Parent returns what the resource lies in: the outer resource, the group, the
// subscription; of a subscription the root.
func (id ID) Parent() ID {
	switch {
	case len(id.parts) > 1:
		id.parts = id.parts[: len(id.parts)-1 : len(id.parts)-1]
		return id
	case len(id.parts) == 1:
		return ID{Subscription: id.Subscription, Group: id.Group}
	case id.Group != "":
		return ID{Subscription: id.Subscription}
	}
	return ID{}
}

// Child returns the id of a resource inside this one.
func (id ID) Child(typ, name string) ID {
	id.parts = append(id.parts[:len(id.parts):len(id.parts)], part{typ, name})
	return id
}

// Workspace returns the workspace that id is, or lies in.
func (id ID) Workspace() (ID, bool) {
	for ; len(id.parts) > 0; id = id.Parent() {
		if id.Is(WorkspaceType) && id.Group != "" {
			return id, true
		}
	}
	return ID{}, false
}

// Subscription returns the id of a subscription.
func Subscription(sub string) string { return "/subscriptions/" + sub }

// Group returns the id of a resource group.
func Group(sub, group string) string { return Subscription(sub) + "/resourceGroups/" + group }

// Workspace returns the id of a workspace.
func Workspace(sub, group, name string) string {
	return Group(sub, group) + "/providers/" + WorkspaceType + "/" + name
}

// Compute returns the id of a compute in a workspace, given by its id.
func Compute(workspace, name string) string { return workspace + "/computes/" + name }

// ParseWorkspace parses the id of a workspace and nothing else.
func ParseWorkspace(s string) (ID, error) {
	id, err := Parse(s)
	if err != nil {
		return ID{}, err
	}
	if !id.Is(WorkspaceType) || id.Group == "" {
		return ID{}, fmt.Errorf("%q is not the id of a workspace", s)
	}
	return id, nil
}

// Account returns the name of the storage account that belongs to the workspace with
// the given guid: "ebb" and the guid's first 20 hexadecimal digits, within the 24
// characters that Azure allows.
func Account(guid string) string {
	digits := strings.ReplaceAll(strings.ToLower(guid), "-", "")
	return "ebb" + digits[:min(len(digits), 20)]
}

// AccountOfContainer returns the account that holds a container. Containers are
// named so that they are unique on the whole server: each ends in "-" and its workspace's guid.
func AccountOfContainer(container string) (account string, ok bool) {
	const guid = 36 // characters
	cut := len(container) - guid
	if cut < 2 || container[cut-1] != '-' || !IsGUID(container[cut:]) {
		return "", false
	}
	return Account(container[cut:]), true
}

// IsGUID reports whether s has the form 8-4-4-4-12 of hexadecimal digits.
func IsGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case !isDigit(c) && (c < 'a' || c > 'f') && (c < 'A' || c > 'F'):
			return false
		}
	}
	return true
}

// errEmpty is what every rule says of a missing name.
var errEmpty = errors.New("the name is empty")
