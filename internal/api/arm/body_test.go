package arm_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/fault"
)

func post(body string) *http.Request {
	return httptest.NewRequest("POST", "/x", strings.NewReader(body))
}

func TestReadJSONRefuses(t *testing.T) {
	t.Parallel()
	type doc struct {
		Properties struct {
			Max int `json:"max"`
		} `json:"properties"`
	}
	for name, c := range map[string]struct {
		body, code, target, says string
		kind                     fault.Kind
	}{
		"nothing":                {"", "InvalidRequestContent", "", "empty", fault.Invalid},
		"white space":            {" \n ", "InvalidRequestContent", "", "empty", fault.Invalid},
		"a slip on line 3":       {"{\n\"a\":1,\n!}", "InvalidRequestContent", "", "line 3, offset 10", fault.Invalid},
		"an early end":           {`{"a":`, "InvalidRequestContent", "", "ends too early", fault.Invalid},
		"a wrong type":           {`{"properties":{"max":"4"}}`, "InvalidRequestContent", "properties.max", "string", fault.Invalid},
		"two values":             {`{} {}`, "InvalidRequestContent", "", "goes on", fault.Invalid},
		"bytes that are no text": {"{\"a\":\"\xff\"}", "InvalidRequestContent", "", "UTF-8", fault.Invalid},
		"10,000 levels":          {strings.Repeat("[", 10000), "InvalidRequestContent", "", "deeper than 200", fault.Invalid},
		"a million levels":       {strings.Repeat(`{"a":`, 800000), "InvalidRequestContent", "", "deeper than 200", fault.Invalid},
		"more than 4 MiB":        {`"` + strings.Repeat("a", arm.MaxBody) + `"`, "RequestContentTooLarge", "", "4194304", fault.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, known := range []bool{true, false} {
				r := post(c.body)
				if !known {
					r.ContentLength = -1
				}
				err := arm.ReadJSON(r, &doc{})
				e, ok := err.(*fault.Error)
				if !ok || e.Kind != c.kind || e.Code != c.code || e.Target != c.target || !strings.Contains(e.Msg, c.says) {
					t.Errorf("ReadJSON = %#v, want %s %s with %q", err, c.kind, c.code, c.says)
				}
			}
		})
	}
}

func TestReadDocument(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 199) + "{}" + strings.Repeat("}", 199)
	for name, c := range map[string]struct {
		read func(*http.Request) (map[string]any, error)
		body string
		want string // "": refused
	}{
		"numbers stay as they came":         {arm.ReadDocument, `{"a":1.50,"b":12345678901234567890}`, `{"a":1.50,"b":12345678901234567890}`},
		"a key given twice: the last":       {arm.ReadDocument, `{"a":1,"a":2}`, `{"a":2}`},
		"brackets in strings do not nest":   {arm.ReadDocument, `{"a":"` + strings.Repeat(`[\"`, 300) + `"}`, `{"a":"` + strings.Repeat(`[\"`, 300) + `"}`},
		"200 levels are fine":               {arm.ReadDocument, deep, deep},
		"a byte order mark is skipped":      {arm.ReadDocument, "\ufeff{}", "{}"},
		"an array is no document":           {arm.ReadDocument, `[]`, ""},
		"null is no document":               {arm.ReadDocument, `null`, ""},
		"a string is no document":           {arm.ReadDocument, `"{}"`, ""},
		"a patch may be encoded twice":      {arm.ReadPatch, `"{\"identity\":{\"type\":\"None\"}}"`, `{"identity":{"type":"None"}}`},
		"but not three times":               {arm.ReadPatch, `"\"{}\""`, ""},
		"a string with no JSON is no patch": {arm.ReadPatch, `"hello"`, ""},
		"a patch may be plain":              {arm.ReadPatch, `{"a":null}`, `{"a":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := c.read(post(c.body))
			if c.want == "" {
				if fault.KindOf(err) != fault.Invalid {
					t.Fatalf("%s = %v, %v, want fault.Invalid", c.body, doc, err)
				}
				return
			}
			got, _ := json.Marshal(doc)
			if err != nil || string(got) != c.want {
				t.Errorf("%s = %s, %v, want %s", c.body, got, err, c.want)
			}
		})
	}
}

func mustMarshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestMatch(t *testing.T) {
	t.Parallel()
	tag := arm.ETag(255)
	for name, c := range map[string]struct {
		method, match, none string
		exists              bool
		want                fault.Kind
	}{
		"nothing asked":                        {"PUT", "", "", true, ""},
		"any, and it is there":                 {"PUT", "*", "", true, ""},
		"any, and it is not":                   {"PUT", "*", "", false, fault.Precondition},
		"its tag":                              {"PATCH", `"ff"`, "", true, ""},
		"its tag without quotes":               {"PATCH", `ff`, "", true, ""},
		"its tag, weak, in a list":             {"PATCH", `"1", W/"ff"`, "", true, ""},
		"another tag":                          {"PATCH", `"fe"`, "", true, fault.Precondition},
		"another tag on a delete":              {"DELETE", `"fe"`, "", true, fault.Precondition},
		"a patch of nothing is its handler's":  {"PATCH", "*", "", false, ""},
		"a delete of nothing is its handler's": {"DELETE", `"ff"`, "", false, ""},
		"none, and there is none":              {"PUT", "", "*", false, ""},
		"none, and there is one":               {"PUT", "", "*", true, fault.Precondition},
		"not this one, and it is":              {"PUT", "", `"ff"`, true, fault.Precondition},
		"not that one, and it is not":          {"PUT", "", `"fe"`, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(c.method, "/x", nil)
			r.Header.Set("If-Match", c.match)
			r.Header.Set("If-None-Match", c.none)
			err := arm.Match(r, "x", c.exists, tag)
			if got := err; (c.want == "") != (got == nil) || (got != nil && fault.KindOf(got) != c.want) {
				t.Errorf("Match = %v, want %q", err, c.want)
			}
		})
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/a/b?api-version=1&%24skiptoken=old&%24top=2", nil)
	r.Host = "westus.api.azureml.ms"
	if got, want := mustMarshal(arm.Page[int](r, nil, "")), `{"value":[]}`; got != want {
		t.Errorf("the empty page is %s, want %s", got, want)
	}
	p := arm.Page(r, []int{1, 2}, "n/2")
	if want := "https://westus.api.azureml.ms/a/b?%24skipToken=n%2F2&%24top=2&api-version=1"; p.NextLink != want {
		t.Errorf("nextLink = %s, want %s", p.NextLink, want)
	}
	if got := arm.SkipToken(httptest.NewRequest("GET", p.NextLink, nil)); got != "n/2" {
		t.Errorf("SkipToken = %q, want n/2", got)
	}
}

func TestAsyncFollowsTheHost(t *testing.T) {
	t.Parallel()
	for host, base := range map[string]string{
		"localhost:8443":            "https://localhost:8443",
		"management.azure.com":      "https://management.azure.com",
		"westus.api.azureml.ms:443": "https://management.azure.com",
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("PUT", "/x?api-version=2020-02-02", nil)
		r.Host = host
		arm.Async(w, r, "/ops/1", "")
		h := w.Header()
		if got, want := h.Get("Azure-AsyncOperation"), base+"/ops/1?api-version=2020-02-02"; got != want || h.Get("Retry-After") != "1" || h.Get("Location") != "" {
			t.Errorf("on %s the headers are %v, want %s", host, h, want)
		}
		arm.Async(w, r, "/ops/1", "/res/1")
		if got, want := h.Get("Location"), base+"/res/1?api-version=2020-02-02"; got != want {
			t.Errorf("Location = %s, want %s", got, want)
		}
	}
}

func TestPageOfIsPage(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "https://127.0.0.1:8443/x?a=1&$skipToken=old&q=%22%3C", nil)
	items := []map[string]any{{"a": `<"&>`}, {"b": 1}}
	for name, c := range map[string]struct {
		n    int
		next string
	}{"none": {}, "one": {n: 1}, "two and more": {2, "n/2"}} {
		var encoded []arm.JSON
		for _, item := range items[:c.n] {
			text, err := arm.Encode(item)
			if err != nil {
				t.Fatal(err)
			}
			encoded = append(encoded, text)
		}
		got, err := arm.PageOf(r, encoded, c.next)
		want, err2 := arm.Encode(arm.Page(r, items[:c.n], c.next))
		if string(got) != string(want) || err != nil || err2 != nil {
			t.Errorf("%s: %s, %v; want %s, %v", name, got, err, want, err2)
		}
	}
}
