package computes_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/row"
)

// TestCreateOnly: a template may repeat a cluster, and not change it.
func TestCreateOnly(t *testing.T) {
	t.Parallel()
	const body = `{"location": "westus2", "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "STANDARD_DS3_V2", "scaleSettings": {"maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT120S"}}}}`
	for name, c := range map[string]struct{ from, to, says string }{
		"the same again succeeds":                     {"", "", ""},
		"other spellings of the same succeed":         {`"STANDARD_DS3_V2"`, `"standard_ds3_v2"`, ""},
		"what is left out and has a default succeeds": {`, "nodeIdleTimeBeforeScaleDown": "PT120S"`, "", ""},
		"another maximum is refused by name":          {`"maxNodeCount": 4`, `"maxNodeCount": 8`, "properties.properties.scaleSettings.maxNodeCount' is 4 and the template says 8"},
		"a further tag is refused by name":            {`"location": "westus2"`, `"location": "westus2", "tags": {"team": "a"}`, "tags.team' is not set and the template says a"},
		"where login is not specified, again":         {`"vmSize"`, `"remoteLoginPortPublicAccess": "NotSpecified", "vmSize"`, ""},
		"an identity is refused by name":              {`"location": "westus2"`, `"location": "westus2", "identity": {"type": "SystemAssigned"}`, "'identity'"},
		"another size is refused as by a direct PUT":  {`"STANDARD_DS3_V2"`, `"STANDARD_D2_V2"`, "properties.properties.vmSize"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			req := w.request("cpu", body)
			req.CreateOnly = true
			if res, err := w.s.Put(t.Context(), w.owner, req); err != nil || !res.Created {
				t.Fatalf("the first PUT: %v", err)
			}
			req = w.request("cpu", strings.Replace(body, c.from, c.to, 1))
			req.CreateOnly, req.Check = true, true
			_, foreseen := w.s.Put(t.Context(), w.owner, req)
			if n := len(w.st.Rows(row.Operation)); n != 1 {
				t.Errorf("a check wrote: there are %d operations", n)
			}
			req.Check = false
			_, err := w.s.Put(t.Context(), w.owner, req)
			if fmt.Sprint(foreseen) != fmt.Sprint(err) {
				t.Errorf("a check says %v, and the PUT %v", foreseen, err)
			}
			switch {
			case c.says == "" && err != nil:
				t.Errorf("Put: %v", err)
			case c.says != "" && err == nil:
				t.Error("it was changed")
			case c.says != "" && !strings.Contains(err.Error(), c.says):
				t.Errorf("Put says %q, want %q in it", err, c.says)
			}
		})
	}
}

// TestDefaultsAreToldOf: a template does not say what it leaves out.
func TestDefaultsAreToldOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const idle = `"maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT900S"`
	const body = `{"location": "westus2", "tags": {"a.b": "c"}, "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "STANDARD_DS3_V2", "scaleSettings": {` + idle + `}}}}`
	if _, err := w.s.Put(t.Context(), w.owner, w.request("cpu", body)); err != nil {
		t.Fatal(err)
	}
	for left, says := range map[string]string{
		strings.Replace(body, idle, `"maxNodeCount": 4`, 1): "nodeIdleTimeBeforeScaleDown' is PT900S and the template leaves it out, which is PT120S by default.",
		strings.Replace(body, `"c"`, `"d"`, 1):              "'tags.a.b' is c and the template says d.",
	} {
		req := w.request("cpu", left)
		req.CreateOnly = true
		if _, err := w.s.Put(t.Context(), w.owner, req); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Put: %v, want %q in it", err, says)
		}
	}
}

// TestCheckMakesNothing: what is not there is only looked at.
func TestCheckMakesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for text, ok := range map[string]bool{body(""): true, body(`"vmSize":"none",`): false} {
		req := w.request("cpu", text)
		req.Check = true
		if _, err := w.s.Put(t.Context(), w.owner, req); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	if n := len(w.st.Rows(row.Compute)) + len(w.st.Rows(row.Operation)); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}
