package arm

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func encoded(v any) (string, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(buf.String(), "\n"), err
}

func TestAppendJSONSaysWhatTheLibrarySays(t *testing.T) {
	t.Parallel()
	many := map[string]any{}
	for i := range 40 { // more keys than there is room for without a slice of its own
		many[strings.Repeat("k", i)] = i
	}
	for name, v := range map[string]any{
		"nothing":           nil,
		"texts":             []any{"", "plain <b>&</b>", "a \"quote\"", `C:\x`, "tab\t\x00\x7f", "ü€😀", "\u2028", "no UTF-8: \xff"},
		"numbers":           []any{0, -7, int64(math.MaxInt64), 1.5, 1e21, json.Number("12345678901234567890.5"), uint8(3)},
		"flags":             map[string]any{"yes": true, "no": false, "": nil},
		"keys in order":     many,
		"keys to escape":    map[string]string{"ä\n": "x", "a\"": "\x01"},
		"absent maps":       []any{map[string]any(nil), map[string]string(nil), []any(nil), []map[string]any(nil), json.RawMessage(nil)},
		"empty ones":        []any{map[string]any{}, map[string]string{}, []any{}, []map[string]any{}},
		"a page":            List[map[string]any]{Value: []map[string]any{{"id": "x"}, nil}, NextLink: "https://x/?a=b&c=d"},
		"the last page":     List[map[string]any]{Value: []map[string]any{}},
		"what is not known": []any{struct{ A *int }{}, time.Unix(0, 0).UTC(), []string{"a", "\""}, json.RawMessage(`{"a": [1 , 2]}`), map[int]any{1: "x"}},
	} {
		got, err := appendJSON([]byte("before "), v)
		want, wantErr := encoded(v)
		if err != nil || wantErr != nil || string(got) != "before "+want {
			t.Errorf("%s: %s, %v; want %s, %v", name, got, err, want, wantErr)
		}
	}
	for name, v := range map[string]any{
		"no number": math.NaN(), "a channel in a map": map[string]any{"a": make(chan int)},
		"a function in a list": []any{func() {}}, "text that is no JSON": map[string]any{"a": json.RawMessage("{")},
	} {
		if got, err := appendJSON(nil, v); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}
