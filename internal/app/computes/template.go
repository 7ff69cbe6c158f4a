package computes

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

// repeats refuses to change a compute by a template: "We currently support only
// creation (and not updating) of clusters through ARM templates", says Azure's
// documentation. What is put again as it is succeeds.
func repeats(have stored, want wanted, body map[string]any) error {
	same, err := equal(have.Resource, want.resource)
	if err != nil {
		return fmt.Errorf("compare compute %s: %w", have.Name, err)
	}
	if same {
		return nil
	}
	path, is, wish := differs(clone(have.Resource), clone(want.resource), "")
	says := fmt.Sprintf("says %.200s", wish)
	if !has(body, path) { // what it leaves out was filled in
		says = fmt.Sprintf("leaves it out, which is %.200s by default", wish)
	}
	return fault.Coded(fault.Conflict, "PropertyChangeNotAllowed", path,
		"The compute '%s' exists, and a template only creates computes: it does not update them. The property '%s' is %.200s and the template %s. Deploy what is there, or change it with a direct PUT or PATCH ('az resource update', an SDK, 'ebb compute update').",
		have.Name, path, is, says)
}

// has reports whether a body says what a property is, by its path.
func has(body map[string]any, path string) bool {
	key, rest, inner := strings.Cut(path, ".")
	v, ok := body[key]
	if !ok || !inner {
		_, whole := body[path] // a tag's name may have dots
		return ok || whole
	}
	within, _ := v.(map[string]any)
	return has(within, rest)
}

// differs finds the first property that differs, by name.
func differs(a, b any, path string) (at, is, wish string) {
	x, isObject := a.(map[string]any)
	y, areObjects := b.(map[string]any)
	if !isObject || !areObjects {
		if shown(a) == shown(b) {
			return "", "", ""
		}
		return path, shown(a), shown(b)
	}
	keys := maps.Clone(x)
	maps.Copy(keys, y)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		inner := k
		if path != "" {
			inner = path + "." + k
		}
		if at, is, wish = differs(x[k], y[k], inner); at != "" {
			return at, is, wish
		}
	}
	return "", "", ""
}

func shown(v any) string {
	if v == nil {
		return "not set"
	}
	return fmt.Sprint(v)
}
