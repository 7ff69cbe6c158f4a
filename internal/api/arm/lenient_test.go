package arm_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/ebb-compute/ebb/internal/api/arm"
)

func TestStrict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"JSON proper stays as it is":                   {`{"a": [1, -2.5e3, true, null, "x\"\\\u00e4//"]}`, `{"a": [1, -2500, true, null, "x\"\\ä//"]}`},
		"names need no quotes":                         {`{"properties": {template: {$schema: "x", a-b: 1}}}`, `{"properties": {"template": {"$schema": "x", "a-b": 1}}}`},
		"comments of both kinds are left out":          {"{ // one\n \"a\": /* two\n \"b\": 3 */ 1 // {\n}", `{"a": 1}`},
		"a comment in a string is none":                {`{"a": "http://x /* y */"}`, `{"a": "http://x /* y */"}`},
		"strings may go over lines and have tabs":      {"{\"a\": \"x\r\n\ty\"}", `{"a": "x\r\n\ty"}`},
		"commas may stand before a closing bracket":    {`{"a": [1, 2, ], "b": {"c": 1 /* x */ ,} , }`, `{"a": [1, 2], "b": {"c": 1}}`},
		"single quotes are quotes":                     {`{'a': 'it\'s "x"'}`, `{"a": "it's \"x\""}`},
		"a comma in a string before a bracket stays":   {`{"a": ","}`, `{"a": ","}`},
		"words that are no names stay":                 {`[true, false, null, 1]`, `[true, false, null, 1]`},
		"an expression in a string stays":              {`{"a": "[concat('a', 'b')]"}`, `{"a": "[concat('a', 'b')]"}`},
		"a name may be in another script than Latin":   {`{ä: 1}`, `{"ä": 1}`},
		"a comment that is never closed ends the rest": {`{"a": 1} /* `, `{"a": 1}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got, want any
			if err := json.Unmarshal(arm.Strict([]byte(c.in)), &got); err != nil {
				t.Fatalf("Strict(%s) = %s: %v", c.in, arm.Strict([]byte(c.in)), err)
			}
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Strict(%s) = %v, want %v", c.in, got, want)
			}
		})
	}
}

// TestStrictKeepsJSON: what is JSON already means the same afterwards, and what is
// not never panics.
func TestStrictKeepsJSON(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	const alphabet = "{}[],:\"'\\/* \n\tatruefalsn0123-.é"
	for range 20_000 {
		b := make([]byte, r.IntN(24))
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		var before, after any
		strict := arm.Strict(b)
		if json.Unmarshal(b, &before) != nil {
			continue
		}
		if err := json.Unmarshal(strict, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("Strict(%q) = %q: %v; want %v, got %v", b, strict, err, before, after)
		}
	}
}
