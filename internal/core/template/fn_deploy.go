package template

import (
	"strings"
)

// deployments are the functions that ask about the template and what it is deployed to.
var deployments = map[string]function{
	"parameters":                fn(1, 1, text1(parameter)),
	"variables":                 fn(1, 1, text1(variable)),
	"copyIndex":                 fn(0, 2, copyIndex),
	"reference":                 fn(1, 3, reference),
	"references":                fn(1, 2, references),
	"deployment":                fn(0, 0, deployment),
	"deployer":                  fn(0, 0, func(c *invocation, _ []any) (any, error) { return c.d.in.Deployer, nil }),
	"environment":               fn(0, 0, func(c *invocation, _ []any) (any, error) { return c.d.in.Environment, nil }),
	"tenant":                    fn(0, 0, func(c *invocation, _ []any) (any, error) { return c.d.in.Tenant, nil }),
	"subscription":              fn(0, 0, func(c *invocation, _ []any) (any, error) { return c.d.in.Subscription, nil }),
	"resourceGroup":             fn(0, 0, resourceGroup),
	"managementGroup":           missing("there are no management groups here"),
	"managementGroupResourceId": missing("there are no management groups here"),
	"resourceId":                fn(2, -1, resourceID),
	"subscriptionResourceId":    fn(2, -1, subscriptionResourceID),
	"tenantResourceId":          fn(2, -1, func(c *invocation, v []any) (any, error) { return c.idBelow("", v) }),
	"extensionResourceId":       fn(3, -1, extensionResourceID),
	"providers":                 missing("it is not part of Ebb; write the api-version out, as Azure advises too"),
	"parseCidr":                 fn(1, 1, parseCIDR),
	"cidrSubnet":                fn(3, 3, cidrSubnet),
	"cidrHost":                  fn(2, 2, cidrHost),
	"getSecret":                 missing("key vaults hold no secrets here; give the value as a parameter"),
	"pickZones":                 fn(3, 5, func(*invocation, []any) (any, error) { return []any{}, nil }), // regions here have no zones
}

// missing is a function that Azure has and Ebb says no to, with the reason.
func missing(why string) function {
	return fn(0, -1, func(c *invocation, _ []any) (any, error) { return nil, c.fail("%s.", why) })
}

func parameter(c *invocation, name string) (any, error) {
	if c.inside {
		if v, ok := c.given[lower(name)]; ok {
			return v, nil
		}
		return nil, c.fail("the function has no parameter '%s'; it cannot see those of the template.", clip(name))
	}
	p, err := c.d.parameter(name, c.scope)
	if err != nil {
		return nil, err
	}
	return p.Value, c.roomFor(p.Value)
}

func variable(c *invocation, name string) (any, error) {
	if c.inside {
		return nil, c.fail("a function of the template's own cannot see its variables.")
	}
	v, err := c.d.variable(name, c.scope)
	if err != nil {
		return nil, err
	}
	return v, c.roomFor(v)
}

// copyIndex returns the turn of a loop: copyIndex(), copyIndex(offset),
// copyIndex('loop') or copyIndex('loop', offset).
func copyIndex(c *invocation, v []any) (any, error) {
	name, named := "", false
	if len(v) > 0 {
		if name, named = v[0].(string); named {
			v = v[1:]
		}
	}
	offset := int64(0)
	switch {
	case len(v) > 1:
		return nil, c.fail("the first of two arguments must be the name of a loop.")
	case len(v) == 1:
		n, err := c.whole(v, 0)
		if err != nil {
			return nil, err
		}
		offset = n
	}
	best := -1
	for i, l := range c.loops {
		if named && same(l.name, name) || !named && (!l.property || best < 0 || c.loops[best].property) {
			best = i
		}
	}
	if best < 0 {
		if named {
			return nil, c.fail("there is no copy loop '%s' around it.", clip(name))
		}
		return nil, c.fail("it is only allowed inside a copy loop.")
	}
	return c.loops[best].index + offset, nil
}

func resourceGroup(c *invocation, _ []any) (any, error) {
	if c.d.in.ResourceGroup == nil {
		return nil, c.fail("a deployment to a subscription has no resource group.")
	}
	return c.d.in.ResourceGroup, nil
}

func deployment(c *invocation, _ []any) (any, error) {
	in := c.d.in
	out := map[string]any{
		"name": in.Name,
		"properties": map[string]any{
			"template":                    map[string]any{"$schema": in.Template["$schema"], "contentVersion": in.Template["contentVersion"]},
			"mode":                        in.Mode,
			"provisioningState":           "Accepted",
			"debugSetting":                nil,
			"parametersLink":              nil,
			"expressionEvaluationOptions": nil,
		},
	}
	if in.ResourceGroup == nil {
		out["location"] = in.Location
	}
	return out, nil
}

// idBelow makes an id from a type and names: the first argument is the type.
func (c *invocation) idBelow(scope string, v []any) (any, error) {
	words, err := c.texts(v)
	if err != nil {
		return nil, err
	}
	types := strings.Split(strings.Trim(words[0], "/"), "/")
	names := words[1:]
	if len(types) < 2 {
		return nil, c.fail("'%s' is not a resource type, as Microsoft.Network/virtualNetworks is.", clip(words[0]))
	}
	if len(types)-1 != len(names) {
		return nil, c.fail("the resource type '%s' requires %d names, and there are %d.", clip(words[0]), len(types)-1, len(names))
	}
	if same(strings.Join(types, "/"), groupType) && strings.Count(scope, "/") == 2 {
		return scope + "/resourceGroups/" + names[0], nil // a group's id has no provider
	}
	return scope + "/providers/" + types[0] + between(types[1:], names), nil
}

// between writes types and names in turn.
func between(types, names []string) string {
	var b strings.Builder
	for i := range types {
		b.WriteString("/" + types[i] + "/" + names[i])
	}
	return b.String()
}

// resourceID takes a subscription and a group before the type, if they are given.
func resourceID(c *invocation, v []any) (any, error) {
	lead := 0
	for lead < len(v) {
		s, err := c.text(v, lead)
		if err != nil {
			return nil, err
		}
		if strings.Contains(s, "/") {
			break
		}
		lead++
	}
	sub, group := text(c.d.in.Subscription, "subscriptionId"), text(c.d.in.ResourceGroup, "name")
	switch lead {
	case 0:
	case 1:
		if first, _ := v[0].(string); c.d.in.ResourceGroup == nil && isGUID(first) {
			sub = first
		} else {
			group = first
		}
	case 2:
		sub, _ = v[0].(string)
		group, _ = v[1].(string)
	default:
		return nil, c.fail("no argument is a resource type, as Microsoft.Network/virtualNetworks is.")
	}
	if lead == len(v) {
		return nil, c.fail("no argument is a resource type, as Microsoft.Network/virtualNetworks is.")
	}
	scope := "/subscriptions/" + sub
	if group != "" || lead > 0 && c.d.in.ResourceGroup != nil {
		scope += "/resourceGroups/" + group
	}
	return c.idBelow(scope, v[lead:])
}

func isGUID(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}

func subscriptionResourceID(c *invocation, v []any) (any, error) {
	sub := text(c.d.in.Subscription, "subscriptionId")
	if first, ok := v[0].(string); ok && !strings.Contains(first, "/") {
		sub, v = first, v[1:]
	}
	return c.idBelow("/subscriptions/"+sub, v)
}

func extensionResourceID(c *invocation, v []any) (any, error) {
	base, err := c.text(v, 0)
	if err != nil {
		return nil, err
	}
	return c.idBelow(strings.TrimRight(base, "/"), v[1:])
}

// runtime refuses what can only be known while a deployment runs, where it must be
// known before.
func (c *invocation) runtime() error {
	if c.place == inBody || c.place == inOutput {
		return nil
	}
	return c.fail("it is not expected at this location: it is only allowed in the properties of resources and in outputs.")
}

// reference asks for a resource: its properties, or with 'Full' all of it.
func reference(c *invocation, v []any) (any, error) {
	if err := c.runtime(); err != nil {
		return nil, err
	}
	words, err := c.texts(v)
	if err != nil {
		return nil, err
	}
	version := ""
	if len(words) > 1 {
		version = words[1]
	}
	full := len(words) == 3 && same(words[2], "Full")
	return c.refer(words[0], version, full)
}

func (c *invocation) refer(name, version string, full bool) (any, error) {
	n, err := c.target(name, version)
	if err != nil {
		return nil, err
	}
	v, err := c.w.ask(n)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok || full {
		return v, nil
	}
	properties, ok := field(m, "properties")
	if !ok {
		return map[string]any{}, nil
	}
	return properties, nil
}

// target finds the resource that a name or an id means.
func (c *invocation) target(name, version string) (Need, error) {
	if r := c.d.find(name); r != nil {
		if version == "" {
			version = r.APIVersion
		}
		return Need{ID: r.ID, APIVersion: version}, nil
	}
	if !strings.HasPrefix(name, "/") {
		return Need{}, c.fail("the resource '%s' is not defined in the template. For one that is there already, give its id and an api-version.", clip(name))
	}
	if version == "" {
		return Need{}, c.fail("the resource '%s' is not defined in the template; give an api-version as the second argument.", clip(name))
	}
	return Need{ID: name, APIVersion: version}, nil
}

// references asks for all resources of a copy loop, by its symbolic name.
func references(c *invocation, v []any) (any, error) {
	if err := c.runtime(); err != nil {
		return nil, err
	}
	words, err := c.texts(v)
	if err != nil {
		return nil, err
	}
	full := len(words) == 2 && same(words[1], "Full")
	found, ok := c.d.loops[lower(words[0])]
	if !ok {
		return nil, c.fail("'%s' is not the symbolic name of a copy loop of resources.", clip(words[0]))
	}
	out := []any{}
	for _, i := range found {
		r, err := c.refer(c.d.resources[i].ID, c.d.resources[i].APIVersion, full)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// listAction is every function whose name begins with list: a POST to a resource.
func listAction(c *invocation, v []any) (any, error) {
	if err := c.runtime(); err != nil {
		return nil, err
	}
	id, err := c.text(v, 0)
	if err != nil {
		return nil, err
	}
	version := ""
	if len(v) > 1 {
		if version, err = c.text(v, 1); err != nil {
			return nil, err
		}
	}
	n, err := c.target(id, version)
	if err != nil {
		return nil, err
	}
	n.Action = c.name
	if len(v) > 2 {
		n.Body = v[2]
	}
	return c.w.ask(n)
}
