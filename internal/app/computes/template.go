package computes

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ebb-compute/ebb/internal/fault"
)

// repeats refuses to change a compute by a template: "We currently support only
// creation (and not updating) of clusters through ARM templates", says Azure's
// documentation. What is put again as it is succeeds.
func repeats(have stored, want wanted) error {
	same, err := equal(have.Resource, want.resource)
	if err != nil {
		return fmt.Errorf("compare compute %s: %w", have.Name, err)
	}
	if same {
		return nil
	}
	path, is, wish := differs(clone(have.Resource), clone(want.resource), "")
	return fault.Coded(fault.Conflict, "PropertyChangeNotAllowed", path,
		"The compute '%s' exists, and a template only creates computes: it does not update them. The property '%s' is %.200s and the template says %.200s. Deploy what is there, or change it with a direct PUT or PATCH ('az resource update', an SDK, 'ebb compute update').",
		have.Name, path, is, wish)
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
