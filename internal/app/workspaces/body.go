package workspaces

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Bounds of Resource Manager.
const (
	mostTags     = 50
	mostTagName  = 512
	mostTagValue = 256
)

// CheckTags returns tags as they are kept: never null, strings only.
func CheckTags(v any) (map[string]any, error) {
	if v == nil {
		return map[string]any{}, nil
	}
	tags, ok := v.(map[string]any)
	if !ok {
		return nil, fault.Coded(fault.Invalid, "InvalidTags", "tags", "The property 'tags' must be an object of strings.")
	}
	if len(tags) > mostTags {
		return nil, fault.Coded(fault.Invalid, "TooManyTags", "tags", "There are %d tags; at most %d are allowed.", len(tags), mostTags)
	}
	for k, v := range tags {
		s, ok := v.(string)
		if !ok || k == "" || len(k) > mostTagName || len(s) > mostTagValue {
			return nil, fault.Coded(fault.Invalid, "InvalidTags", "tags", "The tag '%.64s' must have a string of at most %d characters for a value, and a name of 1 to %d.", k, mostTagValue, mostTagName)
		}
	}
	return maps.Clone(tags), nil
}

// CheckRegion returns the short name of a region, or says for which type of
// resource it is none of Azure's.
func CheckRegion(name, typ string) (string, error) {
	if _, ok := armid.RegionText(name); ok {
		return armid.Region(name), nil
	}
	var names []string
	for _, p := range armid.Regions() {
		names = append(names, p.Name)
	}
	return "", fault.Coded(fault.Invalid, "LocationNotAvailableForResourceType", "location",
		"The provided location '%.64s' is not available for resource type '%s'. List of available regions for the resource type is '%s'.", name, typ, strings.Join(names, ","))
}

// place reads a resource's region: that of what exists, which never changes, or
// the one given. None of both is refused.
func place(given any, have, typ, name string) (string, error) {
	location, ok := given.(string)
	if given != nil && !ok {
		return "", invalid("location", "The property 'location' must be a string.")
	}
	switch {
	case location == "" && have != "":
		return have, nil
	case location == "":
		return "", fault.Coded(fault.Invalid, "LocationRequired", "location", "The location property is required for this definition.")
	case have != "" && armid.Region(location) != have:
		return "", fault.Coded(fault.Conflict, "InvalidResourceLocation", name,
			"The resource '%s' already exists in location '%s'. A resource with the same name cannot be created in location '%.64s'. Please select a new resource name.", name, have, location)
	}
	return CheckRegion(location, typ)
}

// identities is the name space of the guids made from ids (RFC 9562, version 5).
var identities = uuid.MustParse("6a0d6c1e-7b0f-5d1b-9a53-0f3f6a1f7c11")

// GUID returns the guid that stands for one thing of what is named: always the
// same one. A user-assigned identity's principal and client are made of its id
// ("principal", "client"), so that whoever names it shows the same.
func GUID(what, of string) string {
	return uuid.NewSHA1(identities, []byte(what+":"+strings.ToLower(of))).String()
}

// UserIdentity is who a user-assigned identity is, by its resource id.
func UserIdentity(id string) (principal, client string) {
	return GUID("principal", armid.Key(id)), GUID("client", armid.Key(id))
}

// decode unpacks a row's body; numbers stay as they were written.
func decode(doc row.Document, v any) error {
	d := json.NewDecoder(bytes.NewReader(doc.Body))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("decode %s %s: %w", doc.Kind, doc.ID, err)
	}
	return nil
}

// object returns an object inside m, nil if there is none or it is null.
func object(m map[string]any, key string) (map[string]any, error) {
	switch v := m[key].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	}
	return nil, invalid(key, "The property '%s' must be an object.", key)
}

func invalid(target, format string, args ...any) *fault.Error {
	return fault.Coded(fault.Invalid, "InvalidPropertyValue", target, format, args...)
}

// sentence turns an error's words into the beginning of a sentence.
func sentence(err error) string {
	t := err.Error()
	return strings.ToUpper(t[:1]) + t[1:]
}

func creator(p access.Principal) string {
	if p.Kind == access.User {
		return "User"
	}
	return "Application"
}

// mayChange refuses what lies outside of p's scope, and every change to a run.
func mayChange(p access.Principal, scope, action string) error {
	if p.Kind == access.RunIdentity {
		p.Scope = "-" // matches nothing
	}
	return may(p, scope, action)
}
