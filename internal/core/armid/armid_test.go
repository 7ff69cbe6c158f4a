package armid_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/armid"
)

const ws = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/Ebb/providers/Microsoft.MachineLearningServices/workspaces/Main"

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, text, typ, last, parent string }{
		"a subscription":               {"/subscriptions/s1", "/subscriptions/s1", "Microsoft.Resources/subscriptions", "s1", "/"},
		"a group, odd case":            {"/SUBSCRIPTIONS/s1/resourcegroups/G", "/subscriptions/s1/resourceGroups/G", "Microsoft.Resources/resourceGroups", "G", "/subscriptions/s1"},
		"a workspace":                  {ws, ws, armid.WorkspaceType, "Main", ws[:strings.Index(ws, "/providers")]},
		"a compute":                    {ws + "/computes/Cpu", ws + "/computes/Cpu", armid.ComputeType, "Cpu", ws},
		"slashes doubled and at end":   {"//subscriptions//s1/", "/subscriptions/s1", "Microsoft.Resources/subscriptions", "s1", "/"},
		"a resource without a group":   {"/subscriptions/s/providers/N.X/t/n", "/subscriptions/s/providers/N.X/t/n", "N.X/t", "n", "/subscriptions/s"},
		"a subnet, two levels of type": {"/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/d", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/d", "Microsoft.Network/virtualNetworks/subnets", "d", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, err := armid.Parse(c.in)
			if err != nil {
				t.Fatalf("Parse(%q): %v", c.in, err)
			}
			if id.String() != c.text || id.Type() != c.typ || id.Name() != c.last || id.Parent().String() != c.parent {
				t.Errorf("Parse(%q) = %q, type %q, name %q, parent %q; want %+v", c.in, id, id.Type(), id.Name(), id.Parent(), c)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"nothing": "", "no slash first": "subscriptions/s", "no subscription": "/resourceGroups/g", "a type without a name": ws + "/computes",
		"dots for a name": "/subscriptions/s/resourceGroups/..", "a control character": "/subscriptions/s\x00", "an encoded slash": "/subscriptions/s/resourceGroups/a%2Fb",
		"an extension": ws + "/providers/Microsoft.Authorization/locks/l", "far too long": "/subscriptions/" + strings.Repeat("x", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if id, err := armid.Parse(in); err == nil {
				t.Errorf("Parse(%.80q) = %q, want an error", in, id)
			}
		})
	}
}

func TestKeyIgnoresCaseAndDoubledSlashes(t *testing.T) {
	t.Parallel()
	if a, b := armid.Key(ws), armid.Key("/"+strings.ToUpper(ws)+"/"); a != b || a != strings.ToLower(ws) {
		t.Errorf("Key: %q and %q, want both %q", a, b, strings.ToLower(ws))
	}
	if !armid.Equal(ws, strings.ToLower(ws)) || armid.Equal(ws, ws+"x") {
		t.Error("Equal does not tell ids apart by their letters alone")
	}
}

func TestWorkspaceOfWhatLiesInIt(t *testing.T) {
	t.Parallel()
	id, err := armid.Parse(ws + "/computes/c/nodes/n")
	if err != nil {
		t.Fatal(err)
	}
	if w, ok := id.Workspace(); !ok || w.String() != ws {
		t.Errorf("Workspace() = %q, %v, want %q", w, ok, ws)
	}
	group, err := armid.Parse("/subscriptions/s/resourceGroups/g")
	if err != nil {
		t.Fatal(err)
	}
	if w, ok := group.Workspace(); ok {
		t.Errorf("Workspace() of a group = %q, want none", w)
	}
}

// TestChildDoesNotShare: two children of one parent are two ids.
func TestChildDoesNotShare(t *testing.T) {
	t.Parallel()
	w, err := armid.ParseWorkspace(ws)
	if err != nil {
		t.Fatal(err)
	}
	a, b := w.Child("computes", "a"), w.Child("computes", "b")
	if a.String() != ws+"/computes/a" || b.String() != ws+"/computes/b" {
		t.Errorf("Child: %q and %q", a, b)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		check func(string) error
		good  []string
		bad   []string
	}{
		"a compute":        {armid.CheckCompute, []string{"cpu-cluster", "abc", "gpu-1", "A" + strings.Repeat("b", 31)}, []string{"", "ab", "1abc", "a_bc", "abc-", "A" + strings.Repeat("b", 32), "amlcompute", "LOCAL", "ContainerInstance", "a/b", "äbc"}},
		"a workspace":      {armid.CheckWorkspace, []string{"main", "1ab", "a_b-c"}, []string{"", "ab", "-abc", "a b c", strings.Repeat("a", 34)}},
		"a resource group": {armid.CheckGroup, []string{"g", "a.b_(c)-d"}, []string{"", "a.", "a/b", strings.Repeat("a", 91)}},
		"a job":            {armid.CheckJob, []string{"x_17_ab", "0", strings.Repeat("a", 255)}, []string{"", "_a", "a.b", "../a", strings.Repeat("a", 256)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, s := range c.good {
				if err := c.check(s); err != nil {
					t.Errorf("%q: %v, want it accepted", s, err)
				}
			}
			for _, s := range c.bad {
				if c.check(s) == nil {
					t.Errorf("%q is accepted", s)
				}
			}
		})
	}
}

func TestAccountOfContainer(t *testing.T) {
	t.Parallel()
	const guid, account = "0123ABCD-4567-89ef-0123-456789abcdef", "ebb0123abcd456789ef0123"
	if got := armid.Account(guid); got != account || len(got) > 24 {
		t.Errorf("Account(%s) = %q, want %q", guid, got, account)
	}
	for _, prefix := range []string{"azureml-", "snapshots-", "azureml-blobstore-", "logs-"} {
		if got, ok := armid.AccountOfContainer(prefix + guid); !ok || got != account {
			t.Errorf("AccountOfContainer(%s) = %q, %v, want %q", prefix+guid, got, ok, account)
		}
	}
	for _, bad := range []string{"", "x", guid, "-" + guid, "azureml" + guid, "azureml-" + guid[:35] + "g", "azureml-" + guid + "0"} {
		if got, ok := armid.AccountOfContainer(bad); ok {
			t.Errorf("AccountOfContainer(%q) = %q, want none", bad, got)
		}
	}
}

func TestRegion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"West US 2": "westus2", " westeurope ": "westeurope", "EASTUS": "eastus"} {
		if got := armid.Region(in); got != want {
			t.Errorf("Region(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRegions(t *testing.T) {
	t.Parallel()
	all := armid.Regions()
	for i, p := range all {
		if text, ok := armid.RegionText(strings.ToUpper(p.Text)); !ok || text != p.Text || armid.Region(p.Text) != p.Name {
			t.Errorf("region %d, %+v: RegionText = %q, %v", i, p, text, ok)
		}
	}
	if text, ok := armid.RegionText("atlantis"); ok {
		t.Errorf("RegionText(atlantis) = %q", text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ws)
	f.Add(ws + "/computes/c")
	f.Add("//subscriptions/s/resourceGroups/g/")
	f.Add("/subscriptions/s/providers/a/b/c/d/e")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := armid.Parse(s)
		if err != nil {
			return
		}
		again, err := armid.Parse(id.String())
		if err != nil || again.String() != id.String() {
			t.Fatalf("Parse(%q).String() = %q, which parses to %q, %v", s, id, again, err)
		}
		if armid.Key(s) != id.Key() {
			t.Fatalf("Key(%q) = %q, but the parsed id's is %q", s, armid.Key(s), id.Key())
		}
		for p := id; p.String() != "/"; p = p.Parent() {
			if !strings.HasPrefix(id.Key(), p.Key()) {
				t.Fatalf("%q is not inside its ancestor %q", id, p)
			}
		}
	})
}
