package studio_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/studio"
)

func TestPages(t *testing.T) {
	t.Parallel()
	rt := &arm.Router{}
	studio.Register(rt)
	const place = "?wsid=/subscriptions/s/resourcegroups/rg/workspaces/main&tid=t"
	for name, c := range map[string]struct {
		path   string
		status int
		says   []string
		not    string
	}{
		"a job, as SDK v1 has it":        {"/runs/short_1" + place, 200, []string{"<h1>job short_1</h1>", "<b>main</b>", "<b>rg</b>", "ebb job show short_1 -w main -g rg\n", "ebb job stream short_1 -w main -g rg\n", "takes a credential"}, ""},
		"a job, as SDK v2 has it":        {"/runs/j?wsid=/subscriptions/s/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/main", 200, []string{"ebb job show j -w main -g rg\n"}, ""},
		"a job of no workspace":          {"/runs/j", 200, []string{"ebb job show j\n"}, " -w "},
		"an experiment":                  {"/experiments/id/5" + place, 200, []string{"ebb job list -w main -g rg\n"}, ""},
		"a workspace":                    {"/" + place, 200, []string{"ebb status -w main -g rg\n"}, ""},
		"a run, as MLflow has it":        {"/mlflow/v2.0/subscriptions/s/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/main/", 200, []string{"<b>main</b>", "behind the #", "ebb job list -w main -g rg\n", "ebb job show RUN -w main -g rg\n"}, ""},
		"the server itself":              {"/", 200, []string{"<h1>Ebb</h1>", "An Ebb server answers here", "ebb status\n"}, "link"},
		"a name that is more than one":   {"/runs/j;rm%20-rf%20x" + place, 404, []string{"not the name of a job"}, "ebb job"},
		"a workspace that is more":       {"/runs/j?wsid=/resourcegroups/rg/workspaces/%3Cscript%3E$(x)", 200, []string{"ebb job show j\n"}, "script"},
		"what does not look like a link": {"/runs", 404, nil, "html"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := httptest.NewRecorder()
			rt.ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, nil))
			body := out.Body.String()
			if out.Code != c.status || c.status == 200 && out.Header().Get("Content-Type") != "text/html; charset=utf-8" {
				t.Fatalf("%d %v: %s", out.Code, out.Header(), body)
			}
			for _, want := range c.says {
				if !strings.Contains(body, want) {
					t.Errorf("%q is not in %s", want, body)
				}
			}
			if c.not != "" && strings.Contains(body, c.not) {
				t.Errorf("%q is in %s", c.not, body)
			}
		})
	}
}
