package merge_test

import (
	"encoding/json"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/merge"
)

func TestPatch(t *testing.T) {
	t.Parallel()
	// The table of RFC 7396, appendix A, as far as documents are objects.
	for name, c := range map[string]struct{ doc, patch, want string }{
		"replace":                    {`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		"add":                        {`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		"delete":                     {`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		"an array is replaced":       {`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		"by an array":                {`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		"within":                     {`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		"an array is not merged":     {`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		"null within nothing":        {`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		"null in the document stays": {`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var doc, patch map[string]any
			if json.Unmarshal([]byte(c.doc), &doc) != nil || json.Unmarshal([]byte(c.patch), &patch) != nil {
				t.Fatal("the case is no JSON")
			}
			kept, _ := json.Marshal(doc)
			before := string(kept)
			got, _ := json.Marshal(merge.Patch(doc, patch))
			if string(got) != c.want {
				t.Errorf("Patch(%s, %s) = %s, want %s", c.doc, c.patch, got, c.want)
			}
			if after, _ := json.Marshal(doc); string(after) != before {
				t.Errorf("Patch changed its document to %s", after)
			}
		})
	}
}
