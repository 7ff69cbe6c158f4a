package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// directives are the keys of a resource that tell how it is deployed, and are no
// part of it.
var directives = []string{"type", "name", "apiVersion", "condition", "copy", "dependsOn", "comments", "scope", "subscriptionId", "resourceGroup", "resources", "existing", "metadata", "asserts", "import", "extension", "$options", "@options"}

// readResources expands the resources: children brought to the top, copies counted
// out, conditions decided, names and ids made.
func (d *doc) readResources(w *work) error {
	switch list := d.in.Template["resources"].(type) {
	case []any:
		if err := d.expandList(w, list, "$.resources", nil); err != nil {
			return err
		}
	case map[string]any:
		d.symbolic = true
		for _, symbol := range slices.Sorted(maps.Keys(list)) {
			if err := d.expand(w, list[symbol], "$.resources."+symbol, symbol, nil); err != nil {
				return err
			}
		}
	default:
		return at("$.resources", bad("Deployment template validation failed: the required property 'resources' must be an array, or an object of symbolic names."))
	}
	for i, r := range d.resources {
		key := lower(r.ID)
		if j, ok := d.byID[key]; ok && !r.Existing && !d.resources[j].Existing && !r.Skip && !d.resources[j].Skip {
			return at(r.Path, bad("Deployment template validation failed: 'The resource '%s' is defined multiple times in the template; also at %s.'", r.ID, d.resources[j].Path))
		} else if !ok || d.resources[j].Skip || d.resources[j].Existing {
			d.byID[key] = i
		}
	}
	return nil
}

func (d *doc) expandList(w *work, list []any, path string, parent *Resource) error {
	for i, x := range list {
		if err := d.expand(w, x, fmt.Sprintf("%s[%d]", path, i), "", parent); err != nil {
			return err
		}
	}
	return nil
}

// expand makes the resources of one definition: one, or one for each turn of its loop.
func (d *doc) expand(w *work, v any, path, symbol string, parent *Resource) error {
	raw, ok := v.(map[string]any)
	if !ok {
		return at(path, bad("Deployment template validation failed: a resource must be an object."))
	}
	s := scope{d: d, w: w, place: inHead}
	if parent != nil {
		s.loops = parent.loops
	}
	copying, isLoop := raw["copy"].(map[string]any)
	if !isLoop {
		return d.one(s, &Resource{Symbol: symbol, Path: path, raw: raw, loops: s.loops}, parent)
	}
	name := text(copying, "name")
	if name == "" {
		if name = symbol; name == "" {
			return at(path+".copy", bad("The copy loop of a resource needs a name."))
		}
	}
	n, err := s.count(copying["count"], MaxResources, path+".copy.count")
	if err != nil {
		return err
	}
	batch := 0
	if same(text(copying, "mode"), "serial") {
		batch = 1
		if size, ok := copying["batchSize"]; ok {
			if batch, err = s.count(size, MaxResources, path+".copy.batchSize"); err != nil {
				return err
			}
			batch = max(batch, 1)
		}
	}
	for _, key := range []string{name, symbol} {
		if key != "" && d.loops[lower(key)] == nil {
			d.loops[lower(key)] = []int{}
		}
	}
	for i := range n {
		r := &Resource{Symbol: symbol, Path: path, raw: raw, copied: name, turn: i, serial: batch}
		r.loops = append(slices.Clip(s.loops), loop{name: name, index: int64(i)})
		turn := s
		turn.loops = r.loops
		if err := d.one(turn, r, parent); err != nil {
			return err
		}
	}
	return nil
}

// one fills in a resource's head, and goes on to its children.
func (d *doc) one(s scope, r *Resource, parent *Resource) error {
	if len(d.resources) >= MaxResources {
		return at(r.Path, bad("Deployment template validation failed: 'The template has more than %d resources; nested deployments can hold more.'", MaxResources))
	}
	if err := d.head(s, r, parent); err != nil {
		return err
	}
	i := len(d.resources)
	d.resources = append(d.resources, r)
	for _, key := range slices.Compact([]string{lower(r.copied), lower(r.Symbol)}) {
		if key != "" {
			d.loops[key] = append(d.loops[key], i)
		}
	}
	children, ok := r.raw["resources"].([]any)
	if !ok && r.raw["resources"] != nil {
		return at(r.Path+".resources", bad("Deployment template validation failed: the child resources must be an array."))
	}
	return d.expandList(s.w, children, r.Path+".resources", r)
}

func (d *doc) head(s scope, r *Resource, parent *Resource) error {
	var err error
	if r.Type, err = s.word(r, "type"); err != nil {
		return err
	}
	if r.Name, err = s.word(r, "name"); err != nil {
		return err
	}
	if r.APIVersion, err = s.word(r, "apiVersion"); err != nil {
		return err
	}
	if parent != nil && !strings.Contains(r.Type, ".") {
		r.Type, r.Name = parent.Type+"/"+r.Type, parent.Name+"/"+r.Name
	}
	if r.Existing = r.raw["existing"] == true; !r.Existing {
		if err := s.decide(r); err != nil {
			return err
		}
	}
	if r.ID, err = s.id(r); err != nil {
		return err
	}
	if deps, ok := r.raw["dependsOn"]; ok {
		v, err := s.tree(deps, r.Path+".dependsOn")
		if err != nil {
			return err
		}
		list, ok := v.([]any)
		if !ok && v != nil {
			return at(r.Path+".dependsOn", bad("Deployment template validation failed: 'dependsOn' must be an array of strings."))
		}
		for _, x := range list {
			name, ok := x.(string)
			if !ok {
				return at(r.Path+".dependsOn", bad("Deployment template validation failed: 'dependsOn' must be an array of strings, and holds %s.", typeName(x)))
			}
			r.waits = append(r.waits, name)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.raw)) {
		if !slices.Contains(directives, k) {
			r.body = append(r.body, k)
		}
	}
	return nil
}

// word evaluates a string that a resource must have.
func (s scope) word(r *Resource, key string) (string, error) {
	path := r.Path + "." + key
	v, err := s.tree(r.raw[key], path)
	if err != nil {
		return "", err
	}
	word, ok := v.(string)
	if !ok || word == "" {
		return "", at(path, bad("Deployment template validation failed: a resource's '%s' must be a string and not empty.", key))
	}
	return word, nil
}

// decide evaluates the condition.
func (s scope) decide(r *Resource) error {
	cond, ok := r.raw["condition"]
	if !ok {
		return nil
	}
	path := r.Path + ".condition"
	v, err := s.tree(cond, path)
	if err != nil {
		return err
	}
	c := invocation{scope: s, name: "condition"}
	yes, err := c.truth(v, 0)
	if err != nil {
		return at(path, bad("Deployment template validation failed: a condition must be true or false, not %s.", typeName(v)))
	}
	r.Skip = !yes
	return nil
}

// id makes the id of a resource from where it is deployed, its type and its name.
func (s scope) id(r *Resource) (string, error) {
	in := s.d.in
	types, names := strings.Split(r.Type, "/"), strings.Split(r.Name, "/")
	if len(types) < 2 || len(types)-1 != len(names) || slices.Contains(names, "") && r.Deployed() {
		return "", at(r.Path+".name", bad("Deployment template validation failed: 'The template resource '%s' for type '%s' has incorrect segment lengths. A nested resource type must have identical number of segments as its resource name. A root resource type must have segment length one greater than its resource name.'", clip(r.Name), clip(r.Type)))
	}
	base := in.Scope
	where := map[string]string{}
	for _, key := range []string{"scope", "subscriptionId", "resourceGroup"} {
		if v, ok := r.raw[key]; ok && v != nil {
			word, err := s.tree(v, r.Path+"."+key)
			if err != nil {
				return "", err
			}
			where[key], _ = word.(string)
		}
	}
	if sub := where["subscriptionId"]; sub != "" {
		base = "/subscriptions/" + sub
		// A deployment with a location of its own is one to the subscription.
		own := same(r.Type, "Microsoft.Resources/deployments") && r.raw["location"] != nil
		if where["resourceGroup"] == "" && in.ResourceGroup != nil && !own {
			where["resourceGroup"] = text(in.ResourceGroup, "name")
		}
	}
	if group := where["resourceGroup"]; group != "" {
		sub := where["subscriptionId"]
		if sub == "" {
			sub = text(in.Subscription, "subscriptionId")
		}
		base = "/subscriptions/" + sub + "/resourceGroups/" + group
	}
	switch on := where["scope"]; {
	case strings.HasPrefix(on, "/"):
		base = strings.TrimRight(on, "/")
	case strings.Contains(on, "/"):
		parts := strings.Split(on, "/")
		if len(parts)%2 == 0 {
			return "", at(r.Path+".scope", bad("The scope '%s' is not an id, nor a type and a name.", clip(on)))
		}
		base += "/providers/" + on
	case on != "":
		found := s.d.find(on)
		if found == nil {
			return "", at(r.Path+".scope", bad("The scope '%s' is not an id, nor the name of a resource of the template that stands before.", clip(on)))
		}
		base = found.ID
	}
	if same(r.Type, groupType) {
		return "/subscriptions/" + text(in.Subscription, "subscriptionId") + "/resourceGroups/" + r.Name, nil
	}
	return base + "/providers/" + types[0] + between(types[1:], names), nil
}

// connect finds what each resource waits for: what it says, its parent, the batch
// before it, and what its expressions refer to.
func (d *doc) connect(w *work) error {
	for i, r := range d.resources {
		if !r.Deployed() {
			continue
		}
		found := map[int]bool{}
		for _, name := range r.waits {
			w.steps += len(d.resources) / nodesAStep
			if err := w.spend(0); err != nil {
				return err
			}
			at, err := d.dependency(r, name)
			if err != nil {
				return err
			}
			for _, j := range at {
				found[j] = true
			}
		}
		if j, ok := d.byID[parentOf(lower(r.ID))]; ok && !slices.Contains(d.resources[j].waits, r.Name) {
			found[j] = true
		}
		if r.serial > 0 && r.turn >= r.serial {
			for _, j := range d.loops[lower(r.copied)] {
				if other := d.resources[j]; other.turn/r.serial == r.turn/r.serial-1 && other.Path == r.Path {
					found[j] = true
				}
			}
		}
		met := newWork(d.in.Limits, nil)
		met.steps, met.bytes = w.steps, w.bytes
		if _, err := d.evaluate(met, r); err != nil && len(met.needs) == 0 {
			return err
		}
		w.steps, w.bytes = met.steps, met.bytes
		for _, n := range met.needs {
			if j, ok := d.byID[lower(n.ID)]; ok {
				found[j] = true
			}
		}
		for j := range found {
			if d.resources[j].Deployed() && j != i {
				r.DependsOn = append(r.DependsOn, j)
			}
		}
		slices.Sort(r.DependsOn)
	}
	return d.circles()
}

// parentOf returns the id of what a resource lies in, or is an extension of.
func parentOf(id string) string {
	s := strings.Split(id, "/")
	s = s[:max(0, len(s)-2)]
	if n := len(s); n > 2 && s[n-2] == "providers" {
		s = s[:n-2]
	}
	return strings.Join(s, "/")
}

// dependency finds what an element of dependsOn means.
func (d *doc) dependency(r *Resource, name string) ([]int, error) {
	if found, ok := d.loops[lower(name)]; ok {
		return found, nil
	}
	if i, ok := d.byID[strings.TrimRight(lower(name), "/")]; ok {
		return []int{i}, nil
	}
	if !strings.HasPrefix(name, "/") {
		if found := d.named(name); len(found) > 0 {
			return found, nil
		}
		for id, i := range d.byID { // an id without its scope
			if strings.HasSuffix(id, "/providers/"+strings.Trim(lower(name), "/")) {
				return []int{i}, nil
			}
		}
	}
	return nil, at(r.Path+".dependsOn", bad("Deployment template validation failed: 'The resource '%s' is not defined in the template.' It stands in the dependsOn of '%s'.", clip(name), r.Name))
}

// circles refuses resources that wait for each other.
func (d *doc) circles() error {
	const (
		fresh = iota
		open
		done
	)
	state := make([]int, len(d.resources))
	var visit func(i int, trail []string) error
	visit = func(i int, trail []string) error {
		trail = append(trail, d.resources[i].Name)
		switch state[i] {
		case done:
			return nil
		case open:
			return at(d.resources[i].Path, bad("Deployment template validation failed: 'Circular dependency detected on resource: '%s'.' They wait for each other: %s.", d.resources[i].ID, clip(strings.Join(trail, " → "))))
		}
		state[i] = open
		for _, j := range d.resources[i].DependsOn {
			if err := visit(j, trail); err != nil {
				return err
			}
		}
		state[i] = done
		return nil
	}
	for i := range d.resources {
		if err := visit(i, nil); err != nil {
			return err
		}
	}
	return nil
}
