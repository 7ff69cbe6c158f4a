package compat_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestTemplates deploys templates with az. What each script makes has names of its
// own, so that one server is enough.
func TestTemplates(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t, testkit.OnPath())
	for _, file := range scripts(t, "templates") {
		if filepath.Ext(file) != ".sh" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			newUser(t, s).az(file, testkit.Binary(t), "exec", "--", "sh", file)
		})
	}
}

// TestTemplatesSurviveKills: a server that is killed in the middle of a deployment,
// again and again, goes on with it at its next start until it is done.
func TestTemplatesSurviveKills(t *testing.T) {
	t.Parallel()
	s := testkit.Serve(t)
	c := s.Client()
	group := "/subscriptions/" + c.File().SubscriptionID + "/resourceGroups/" + c.File().ResourceGroup
	at := group + "/providers/Microsoft.Resources/deployments/long"
	const clusters = 24
	template := `{
		"$schema": "x", "contentVersion": "1.0.0.0", "parameters": {"pw": {"type": "securestring"}},
		"resources": [{
			"type": "Microsoft.MachineLearningServices/workspaces/computes", "apiVersion": "2024-04-01", "name": "[format('main/cpu-{0}', copyIndex())]",
			"copy": {"name": "all", "count": ` + fmt.Sprint(clusters) + `, "mode": "Serial"}, "location": "westus2",
			"properties": {"computeType": "AmlCompute", "properties": {"vmSize": "STANDARD_DS3_V2", "scaleSettings": {"maxNodeCount": 1},
				"userAccountCredentials": {"adminUserName": "me", "adminUserPassword": "[parameters('pw')]"}}}
		}],
		"outputs": {"last": {"type": "string", "value": "[reference(resourceId('Microsoft.MachineLearningServices/workspaces/computes', 'main', 'cpu-` + fmt.Sprint(clusters-1) + `')).properties.vmSize]"}}
	}`
	var parsed any
	if err := json.Unmarshal([]byte(template), &parsed); err != nil {
		t.Fatal(err)
	}
	body := map[string]any{"properties": map[string]any{"mode": "Incremental", "template": parsed, "parameters": map[string]any{"pw": map[string]any{"value": "Kill-me-not-1"}}}}
	if _, err := c.Do(t.Context(), "PUT", at+"?api-version=2024-03-01", body, nil); err != nil {
		t.Fatal(err)
	}
	begun := func() int {
		var page struct{ Value []any }
		if _, err := c.Do(t.Context(), "GET", at+"/operations?api-version=2024-03-01", nil, &page); err != nil {
			t.Fatal(err)
		}
		return len(page.Value)
	}
	for kill := 1; kill <= 3; kill++ {
		testkit.Until(t, time.Minute, "the deployment gets on", func() bool { return begun() >= kill*clusters/5 })
		s.Kill()
		s.Start()
	}
	var made struct {
		Properties struct {
			ProvisioningState string
			OutputResources   []any
			Outputs           map[string]struct{ Value any }
			Error             any
		}
	}
	testkit.Until(t, 2*time.Minute, "the deployment ends", func() bool {
		if _, err := c.Do(t.Context(), "GET", at+"?api-version=2024-03-01", nil, &made); err != nil {
			t.Fatal(err)
		}
		return made.Properties.ProvisioningState != "Running" && made.Properties.ProvisioningState != "Accepted"
	})
	if p := made.Properties; p.ProvisioningState != "Succeeded" || len(p.OutputResources) != clusters || p.Outputs["last"].Value != "STANDARD_DS3_V2" {
		t.Errorf("it ended as %+v", p)
	}
	if n := begun(); n != clusters {
		t.Errorf("%d operations, want %d", n, clusters)
	}
	s.Stop()
	files, err := filepath.Glob(filepath.Join(s.Dir, "ebb.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the database: %v, %v", files, err)
	}
	for _, f := range append(files, filepath.Join(s.Dir, "server.log")) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("Kill-me-not-1")) {
			t.Errorf("%s holds the password", filepath.Base(f))
		}
	}
}
