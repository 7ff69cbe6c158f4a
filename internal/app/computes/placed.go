package computes

import (
	"slices"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Where a compute has its properties: clients nest them twice, and often err by one.
const (
	ofResource = ""
	ofCompute  = "properties."
	ofType     = "properties.properties."
	ofScale    = "properties.properties.scaleSettings."
)

// home is where a known property belongs; false: it is not known, or lies in more
// than one place.
func home(key string, r rules) (string, bool) {
	switch {
	case slices.Contains([]string{"minNodeCount", "maxNodeCount", "nodeIdleTimeBeforeScaleDown"}, key) && slices.Contains(r.mutable, "scaleSettings"):
		return ofScale, true
	case slices.Contains(r.immutable, key) || slices.Contains(r.mutable, key):
		return ofType, true
	case slices.Contains(immutableProps, key):
		return ofCompute, true
	case slices.Contains([]string{"identity", "tags", "location"}, key):
		return ofResource, true
	}
	return "", false
}

// placed refuses a patch that has a known property at the wrong level. As an
// unknown one it would be kept there, and nothing would change. Only changes are
// looked at: what a PUT brought along stays what it is.
func placed(patch map[string]any, at string, instance bool) error {
	w := wanted{instance: instance}
	r := w.rules()
	for key, v := range patch {
		path := at + key
		if belongs, known := home(key, r); known && belongs != at && v != nil {
			return fault.Coded(fault.Invalid, "InvalidPropertyLocation", path,
				"The property %q is not at the level where a compute has it, and would change nothing: it belongs at %q.", path, belongs+key)
		}
		within, _ := v.(map[string]any)
		if within == nil || !slices.Contains([]string{ofCompute, ofType, ofScale}, path+".") {
			continue
		}
		if err := placed(within, path+".", instance); err != nil {
			return err
		}
	}
	return nil
}
