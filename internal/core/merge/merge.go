// Package merge applies JSON merge patches.
package merge

import "maps"

// Patch applies a patch as RFC 7396 has it: null deletes, objects merge, anything
// else replaces. Neither argument is changed, but the result shares parts with both.
func Patch(doc, patch map[string]any) map[string]any {
	out := maps.Clone(doc)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			old, _ := out[k].(map[string]any)
			out[k] = Patch(old, v)
		default:
			out[k] = v
		}
	}
	return out
}
