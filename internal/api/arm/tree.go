package arm

import (
	"maps"
	"slices"
	"strings"
)

// tree finds the route of a path. A literal beats a wildcard and a wildcard
// beats a rest, decided at the leftmost segment where two patterns differ; so
// two patterns never conflict, as they do in http.ServeMux for
// /{tenant}/v2.0/keys and /adfs/{tenant}/keys.
//
// The most specific pattern that matches the path answers for all methods: one
// it lacks is a 405 and is not looked for in wider patterns. A first segment
// that is a literal of any route owns its whole subtree: an unknown address
// under /subscriptions is a 404 and never a blob of a container called
// "subscriptions".
type tree struct {
	literal  map[string]*tree
	wildcard *tree
	rest     *leaf
	leaf     *leaf
}

// leaf holds the routes of one path by method; "" is any method.
type leaf struct{ routes map[string]*route }

type route struct {
	pattern string
	public  bool
	handler Handler
	names   []string // of the wildcards, in order; the last may be a rest
	rest    bool
}

// add panics for patterns that cannot be right: those are our own bugs.
func (t *tree) add(pattern string, public bool, h Handler) {
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		method, path = "", pattern
	}
	if !strings.HasPrefix(path, "/") {
		panic("arm: pattern " + pattern + " has no path")
	}
	rt := &route{pattern: pattern, public: public, handler: h}
	segments, err := Segments(path)
	if err != nil {
		panic("arm: pattern " + pattern + ": " + err.Error())
	}
	at := t
	for i, s := range segments {
		name, isRest, isWildcard := wildcardName(pattern, s)
		switch {
		case isRest && i != len(segments)-1:
			panic("arm: pattern " + pattern + " goes on after its rest")
		case isRest:
			rt.names, rt.rest = append(rt.names, name), true
			at.rest = at.rest.with(method, rt)
			return
		case isWildcard:
			rt.names = append(rt.names, name)
			if at.wildcard == nil {
				at.wildcard = &tree{}
			}
			at = at.wildcard
		default:
			at = at.child(lower(s))
		}
	}
	at.leaf = at.leaf.with(method, rt)
}

func wildcardName(pattern, segment string) (name string, rest, ok bool) {
	if !strings.ContainsAny(segment, "{}") {
		return "", false, false
	}
	name, opened := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	if name, rest = strings.CutSuffix(name, "..."); !opened || !closed || name == "" || strings.ContainsAny(name, "{}.") {
		panic("arm: pattern " + pattern + " has a wildcard that is not a whole segment")
	}
	return name, rest, true
}

func (t *tree) child(literal string) *tree {
	if t.literal == nil {
		t.literal = make(map[string]*tree)
	}
	if t.literal[literal] == nil {
		t.literal[literal] = &tree{}
	}
	return t.literal[literal]
}

func (l *leaf) with(method string, rt *route) *leaf {
	if l == nil {
		l = &leaf{routes: make(map[string]*route)}
	}
	if old := l.routes[method]; old != nil {
		panic("arm: " + rt.pattern + " is registered twice; first as " + old.pattern)
	}
	l.routes[method] = rt
	return l
}

// find returns the leaf of a path and the values of its wildcards.
func (t *tree) find(segments []string) (*leaf, []string) {
	if len(segments) > 0 {
		if owner := t.literal[lower(segments[0])]; owner != nil {
			return owner.match(segments[1:], nil)
		}
	}
	return t.match(segments, nil)
}

func (t *tree) match(segments, values []string) (*leaf, []string) {
	if len(segments) == 0 {
		return t.leaf, values
	}
	if next := t.literal[lower(segments[0])]; next != nil {
		if l, v := next.match(segments[1:], values); l != nil {
			return l, v
		}
	}
	if t.wildcard != nil {
		if l, v := t.wildcard.match(segments[1:], append(slices.Clip(values), segments[0])); l != nil {
			return l, v
		}
	}
	if t.rest != nil {
		return t.rest, append(slices.Clip(values), strings.Join(segments, "/"))
	}
	return nil, nil
}

// of returns the route for a method; HEAD is answered by GET.
func (l *leaf) of(method string) *route {
	if rt := l.routes[method]; rt != nil {
		return rt
	}
	if method == "HEAD" && l.routes["GET"] != nil {
		return l.routes["GET"]
	}
	return l.routes[""]
}

// allow lists the methods of a leaf for the Allow header.
func (l *leaf) allow() string {
	methods := slices.Collect(maps.Keys(l.routes))
	if l.routes["GET"] != nil && l.routes["HEAD"] == nil {
		methods = append(methods, "HEAD")
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}
