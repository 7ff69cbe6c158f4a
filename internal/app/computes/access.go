package computes

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	subnetType   = "Microsoft.Network/virtualNetworks/subnets"
	identityType = "Microsoft.ManagedIdentity/userAssignedIdentities"
)

// subnet checks subnet and public addresses.
func (w *wanted) subnet() error {
	const at = "properties.properties.subnet"
	subnet, err := object(w.inner, "subnet")
	if err != nil {
		return err
	}
	id, err := text(subnet, "id", at+".id")
	if err != nil {
		return err
	}
	if id != "" {
		parsed, err := armid.Parse(id)
		if err != nil || !parsed.Is(subnetType) || parsed.Group == "" {
			return invalid(at+".id", "'%.300s' is not the id of a subnet: /subscriptions/{id}/resourceGroups/{group}/providers/Microsoft.Network/virtualNetworks/{network}/subnets/{subnet}.", id)
		}
		// SDK v1 cuts the id at these words, in this case.
		network := parsed.Parent()
		subnet["id"] = armid.Group(parsed.Subscription, parsed.Group) + "/providers/Microsoft.Network/virtualNetworks/" + network.Name() + "/subnets/" + parsed.Name()
		w.inner["subnet"] = subnet
	}
	return flag(w.inner, "enableNodePublicIp", "properties.properties.enableNodePublicIp", true)
}

// network checks remote login and isolation. was is what exists.
func (w *wanted) network(was map[string]any) error {
	login, err := choice(w.inner, "remoteLoginPortPublicAccess", "NotSpecified", "Enabled", "Disabled", "NotSpecified")
	if err != nil {
		return err
	}
	if login == "NotSpecified" { // only at creation: open unless in a network
		login = "Enabled"
		if w.inner["subnet"] != nil {
			login = "Disabled"
		}
		if old, ok := was["remoteLoginPortPublicAccess"].(string); ok {
			login = old
		}
		w.inner["remoteLoginPortPublicAccess"] = login
	}
	return flag(w.inner, "isolatedNetwork", "properties.properties.isolatedNetwork", false)
}

// userName is what Linux takes for the name of an administrator.
var userName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}$`)

// login checks userAccountCredentials. The password is looked at and dropped:
// nothing needs it yet, and a secret that is not kept cannot leak. (References to encrypted
// secrets come with SSH to nodes.) was is what exists, and is not checked again.
func (w *wanted) login(was map[string]any) error {
	const at = "properties.properties.userAccountCredentials"
	c, err := object(w.inner, "userAccountCredentials")
	if err != nil {
		return err
	}
	if len(c) == 0 {
		delete(w.inner, "userAccountCredentials")
		return nil
	}
	old, _ := was["userAccountCredentials"].(map[string]any)
	if same, err := equal(old, c); err == nil && same {
		return nil
	}
	user, err := text(c, "adminUserName", at+".adminUserName")
	if err != nil {
		return err
	}
	password, err := text(c, "adminUserPassword", at+".adminUserPassword")
	if err != nil {
		return err
	}
	key, err := text(c, "adminUserSshPublicKey", at+".adminUserSshPublicKey")
	if err != nil {
		return err
	}
	delete(c, "adminUserPassword")
	switch {
	case user == "" || password == "" && key == "" && old == nil:
		return invalid(at, "Invalid user credentials: an admin username must be provided along with either a password or SSH key information.")
	case !userName.MatchString(user):
		return invalid(at+".adminUserName", "The admin username '%.64s' is not valid: it must begin with a letter or underscore and have at most 32 letters, digits, underscores, dots and dashes.", user)
	case password != "" && !strong(password):
		return invalid(at+".adminUserPassword", "The admin password must have 6 to 72 characters of at least three of these sorts: lower-case letters, upper-case letters, digits, others.")
	case key != "" && !publicKey(key):
		return invalid(at+".adminUserSshPublicKey", "The SSH public key is not valid: it must be one line that begins with its type, such as 'ssh-rsa AAAA…', or a public key in PEM form. A private key must never be sent.")
	}
	if key == "" {
		delete(c, "adminUserSshPublicKey")
		if k, ok := old["adminUserSshPublicKey"]; ok { // a client that treats it as a secret sends back what it read without it
			c["adminUserSshPublicKey"] = k
		}
	}
	w.inner["userAccountCredentials"] = c
	return nil
}

// strong is the rule of SDK v1 and Azure's Linux images.
func strong(password string) bool {
	if n := len(password); n < 6 || n > 72 {
		return false
	}
	sorts := 0
	for _, in := range []func(rune) bool{unicode.IsLower, unicode.IsUpper, unicode.IsDigit, func(r rune) bool {
		return !unicode.IsLower(r) && !unicode.IsUpper(r) && !unicode.IsDigit(r)
	}} {
		if strings.ContainsFunc(password, in) {
			sorts++
		}
	}
	return sorts >= 3
}

func publicKey(key string) bool {
	k := strings.TrimSpace(key)
	if strings.Contains(k, "PRIVATE KEY") {
		return false
	}
	if strings.HasPrefix(k, "-----BEGIN ") || strings.HasPrefix(k, "---- BEGIN SSH2 PUBLIC KEY") {
		return strings.Contains(k, "PUBLIC KEY")
	}
	f := strings.Fields(k)
	return len(f) >= 2 && !strings.Contains(k, "\n") && (strings.HasPrefix(f[0], "ssh-") || strings.HasPrefix(f[0], "ecdsa-") || strings.HasPrefix(f[0], "sk-"))
}

// identify sets the identity from what exists and what is given: a null given
// removes, {"type":"None"} removes all, another type replaces, further user identities join, and
// one with the value null leaves. had: it is shown as None rather than left out.
func (w *wanted) identify(exists, given any, had bool) error {
	patch, ok := given.(map[string]any)
	if !ok && given != nil {
		return invalid("identity", "The property 'identity' must be an object.")
	}
	old, _ := exists.(map[string]any)
	typ, err := identityKind(patch, old)
	if err != nil {
		return err
	}
	users, err := userIdentities(typ, old, patch)
	if err != nil {
		return err
	}
	if typ == "UserAssigned" && len(users) == 0 {
		if len(old) == 0 {
			return invalid("identity.userAssignedIdentities", "The identity type UserAssigned needs at least one user-assigned identity, by its resource id.")
		}
		typ = "None" // the last one has left
	}
	switch typ {
	case "None":
		delete(w.resource, "identity")
		if had || patch != nil {
			w.resource["identity"] = map[string]any{"type": "None"}
		}
	case "SystemAssigned":
		w.resource["identity"] = map[string]any{"type": typ}
	default:
		w.resource["identity"] = map[string]any{"type": typ, "userAssignedIdentities": users}
	}
	return nil
}

// identityKind returns the type that results, in Azure's spelling.
func identityKind(patch, old map[string]any) (string, error) {
	if patch == nil {
		return "None", nil
	}
	typed, err := text(patch, "type", "identity.type")
	if err != nil {
		return "", err
	}
	switch flat := strings.ToLower(strings.ReplaceAll(typed, " ", "")); flat {
	case "none":
		return "None", nil
	case "systemassigned":
		return "SystemAssigned", nil
	case "userassigned":
		return "UserAssigned", nil
	case "systemassigned,userassigned", "userassigned,systemassigned", "systemassigneduserassigned":
		return "", invalid("identity.type", "A compute cluster supports one system-assigned identity or several user-assigned identities, not both.")
	case "":
		if t, ok := old["type"].(string); ok {
			return t, nil
		}
		if patch["userAssignedIdentities"] != nil {
			return "UserAssigned", nil
		}
		return "None", nil
	}
	return "", invalid("identity.type", "'%.64s' is not a type of identity: SystemAssigned, UserAssigned or None.", typed)
}

// userIdentities returns the user-assigned identities that result.
func userIdentities(typ string, old, patch map[string]any) (map[string]any, error) {
	const at = "identity.userAssignedIdentities"
	given, err := object(patch, "userAssignedIdentities")
	if err != nil {
		return nil, err
	}
	if typ != "UserAssigned" {
		for id, v := range given {
			if v != nil && typ == "SystemAssigned" {
				return nil, invalid(at, "A compute cluster supports one system-assigned identity or several user-assigned identities, not both: '%.300s' is user-assigned.", id)
			}
		}
		return nil, nil
	}
	users := map[string]any{}
	if before, ok := old["userAssignedIdentities"].(map[string]any); ok {
		for id := range before {
			users[id] = map[string]any{}
		}
	}
	for id, v := range given {
		parsed, err := armid.Parse(id)
		if err != nil || !parsed.Is(identityType) || parsed.Group == "" {
			return nil, invalid(at, "'%.300s' is not the id of a user-assigned identity: /subscriptions/{id}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}.", id)
		}
		for other := range users {
			if armid.Equal(other, id) {
				delete(users, other)
			}
		}
		if v != nil {
			users[id] = map[string]any{}
		}
	}
	return users, nil
}

// object returns a copy of an object inside m, nil if there is none or it is null.
func object(m map[string]any, key string) (map[string]any, error) {
	switch v := m[key].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = x
		}
		return out, nil
	}
	return nil, invalid(key, "The property '%s' must be an object.", key)
}

// text returns a string inside m, empty if there is none or it is null.
func text(m map[string]any, key, at string) (string, error) {
	switch v := m[key].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", invalid(at, "The property '%s' must be a string.", key)
}

// flag checks that what is at key is true or false; nothing and null become otherwise.
func flag(m map[string]any, key, at string, otherwise bool) error {
	switch m[key].(type) {
	case nil:
		m[key] = otherwise
		return nil
	case bool:
		return nil
	}
	return invalid(at, "The property '%s' must be true or false.", key)
}

// choice brings an enumeration into Azure's spelling. Case, dashes and
// underscores do not count: "low_priority" is LowPriority.
func choice(m map[string]any, key, otherwise string, words ...string) (string, error) {
	return choiceAt(m, key, "properties.properties", otherwise, words...)
}

// choiceAt is choice for a property of the object at a path.
func choiceAt(m map[string]any, key, path, otherwise string, words ...string) (string, error) {
	at := path + "." + key
	typed, err := text(m, key, at)
	if err != nil {
		return "", err
	}
	if typed == "" {
		typed = otherwise
	}
	flat := strings.NewReplacer("-", "", "_", "").Replace(typed)
	for _, word := range words {
		if strings.EqualFold(flat, word) {
			m[key] = word
			return word, nil
		}
	}
	return "", fault.Coded(fault.Invalid, "InvalidPropertyValue", at, "The value '%.64s' of the property '%s' is not one of: %s.", typed, key, strings.Join(words, ", "))
}

// keep copies what is missing from what exists.
func keep(m, old map[string]any, keys []string) {
	for _, k := range keys {
		if v, ok := old[k]; ok && m[k] == nil {
			m[k] = clone(v)
		}
	}
}

// clone copies a value that came from JSON.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = clone(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = clone(x)
		}
		return out
	}
	return v // strings, numbers, true, false and null cannot be changed
}

// dropNulls removes keys whose value is null: what was read has them, and they ask for nothing.
func dropNulls(m map[string]any, keys []string) {
	for _, k := range keys {
		if m[k] == nil {
			delete(m, k)
		}
	}
}

func drop(m map[string]any, keys []string) {
	for _, k := range keys {
		delete(m, k)
	}
}

func invalid(target, format string, args ...any) *fault.Error {
	return fault.Coded(fault.Invalid, "InvalidPropertyValue", target, format, args...)
}
