package quota_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/quota"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typed, canonical, family string
		vcpus                    int
		memory                   float64
		gpus                     int
		retired                  bool
	}{
		"the portal's default":                   {"Standard_DS3_v2", "STANDARD_DS3_V2", "standardDSv2Family", 4, 14, 0, false},
		"the page's size, in upper case":         {"STANDARD_D2_V2", "STANDARD_D2_V2", "standardDv2Family", 2, 7, 0, false},
		"a retired size, in lower case":          {"standard_nc6", "STANDARD_NC6", "standardNCFamily", 6, 56, 1, true},
		"a retired size that only ours lists":    {"Standard_NC6s_v2", "STANDARD_NC6S_V2", "standardNCSv2Family", 6, 112, 1, true},
		"half a GiB, and spaces around the name": {" Standard_DS1_v2 ", "STANDARD_DS1_V2", "standardDSv2Family", 1, 3.5, 0, false},
		"eight accelerators":                     {"Standard_ND96isr_H100_v5", "STANDARD_ND96ISR_H100_V5", "standardNDSH100v5Family", 96, 1900, 8, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, ok := quota.Lookup(c.typed)
			if !ok {
				t.Fatalf("Lookup(%q) finds nothing", c.typed)
			}
			s := m.Size()
			if s.Name != c.canonical || s.Family != c.family || s.VCPUs != c.vcpus || s.MemoryGiB != c.memory || s.GPUs != c.gpus {
				t.Errorf("Lookup(%q).Size() = %+v, want %+v", c.typed, s, c)
			}
			if (m.Retired != "") != c.retired || (m.Warning() != "") != c.retired {
				t.Errorf("Lookup(%q): retired %q, warning %q; want retired %v", c.typed, m.Retired, m.Warning(), c.retired)
			}
		})
	}
	if m, ok := quota.Lookup("Standard_Banana"); ok {
		t.Errorf("Lookup of no size = %+v", m)
	}
}

// TestTable reads every line of the table and holds it to what its users rely on.
func TestTable(t *testing.T) {
	t.Parallel()
	all := quota.Sizes()
	if len(all) < 1300 {
		t.Fatalf("%d sizes, want the whole table", len(all))
	}
	seen := map[string]bool{}
	for _, m := range all {
		if m.VCPUs < 1 || m.MemoryGiB <= 0 || m.Family == "" || m.GPUs < 0 || m.DiskMB < 0 || seen[m.Canonical()] {
			t.Errorf("bad or doubled line: %+v", m)
		}
		seen[m.Canonical()] = true
		if f, ok := quota.Family(m.Family); !ok || f != m.Family {
			t.Errorf("Family(%q) = %q, %v", m.Family, f, ok)
		}
	}
	list := strings.Split(quota.SupportedList(), ",")
	if len(list) != len(all) || slices.Contains(list, "STANDARD_NC6") || !slices.Contains(list, "STANDARD_D1") {
		t.Errorf("SupportedList has %d names, want %d, none of them retired", len(list), len(all))
	}
}

func TestNear(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"Standard_DS3_2": "STANDARD_DS3_V2", "Standar_D2_v2": "STANDARD_D2_V2", "D2_v3": "STANDARD_D2_V3", "Standard_DS3v2": "STANDARD_DS3_V2",
		"nothing like any size of a machine at all": "", strings.Repeat("x", 1<<16): "",
	} {
		got, names := quota.Near(typed, 5)
		if got != want || len(names) != 5 || want != "" && names[0] != want || !strings.HasPrefix(names[4], "STANDARD_") {
			t.Errorf("Near(%.40q) = %q, %q, want %q", typed, got, names, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for family, want := range map[string]string{
		"standardNCSv3Family": "Standard NCSv3 Family Cluster Dedicated vCPUs", "StandardNCADSA100v4Family": "Standard NCADSA100v4 Family Cluster Dedicated vCPUs",
		"Standard NCASv3_T4 Family": "Standard NCASv3_T4 Family Cluster Dedicated vCPUs",
	} {
		if got := quota.Text(family, false); got != want {
			t.Errorf("Text(%q) = %q, want %q", family, got, want)
		}
		for _, typed := range []string{family, strings.ToUpper(family), want, strings.ReplaceAll(want, " ", "_")} {
			if got, ok := quota.Family(typed); !ok || got != family {
				t.Errorf("Family(%q) = %q, %v, want %q", typed, got, ok, family)
			}
		}
	}
}

const (
	ws1 = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/One"
	ws2 = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/two"
)

func uses() []quota.Use {
	return []quota.Use{
		{Workspace: ws2, Cluster: ws2 + "/computes/b", Family: "standardDv2Family", VCPUs: 4, Least: 2},
		{Workspace: ws1, Cluster: ws1 + "/computes/a", Family: "standardDv2Family", VCPUs: 2},
		{Workspace: ws2, Cluster: ws2 + "/computes/low", Family: "standardNCFamily", LowPriority: true, VCPUs: 12},
	}
}

func TestUsages(t *testing.T) {
	t.Parallel()
	const key = "/usages/Standard_Dv2_Family_Cluster_Dedicated_vCPUs"
	want := map[string]struct {
		typ            string
		current, limit int64
	}{
		"/subscriptions/s" + key:  {"vmFamily/usages", 6, quota.FamilyLimit},
		ws1 + key:                 {"workspaces/usages", 2, 50},
		ws1 + "/computes/a" + key: {"workspaces/computes/usages", 2, 50},
		ws2 + key:                 {"workspaces/usages", 4, quota.FamilyLimit},
		ws2 + "/computes/b" + key: {"workspaces/computes/usages", 4, quota.FamilyLimit},
		"/subscriptions/s/usages/Standard_NC_Family_Cluster_LowPriority_vCPUs":    {"vmFamily/usages", 12, -1},
		"/subscriptions/s/usages/Standard_DSv2_Family_Cluster_Dedicated_vCPUs":    {"vmFamily/usages", 0, quota.FamilyLimit},
		ws2 + "/computes/low/usages/Standard_NC_Family_Cluster_LowPriority_vCPUs": {"workspaces/computes/usages", 12, -1},
	}
	limits := []quota.Limit{{Workspace: strings.ToLower(ws1), Family: "standardDv2Family", VCPUs: 50}}
	rows := quota.Usages("s", uses(), limits, true)
	found := 0
	totals := map[string]int64{}
	for _, r := range rows {
		if r.ID == "/subscriptions/s/usages" {
			totals[r.Name] = r.Current
			continue
		}
		if w, ok := want[r.ID]; ok {
			found++
			if r.Type != w.typ || r.Current != w.current || r.Limit != w.limit {
				t.Errorf("%s = %+v, want %+v", r.ID, r, w)
			}
		}
	}
	if found != len(want) {
		t.Errorf("%d of %d rows found", found, len(want))
	}
	if totals["Clusters"] != 3 || totals["TotalDedicatedCores"] != 6 || totals["TotalLowPriorityCores"] != 12 {
		t.Errorf("totals %v, want 3 clusters, 6 and 12 vCPUs", totals)
	}
	for _, r := range quota.Usages("s", uses(), limits, false) {
		if strings.Contains(r.ID, "/workspaces/") {
			t.Errorf("%s is listed though nothing was to be expanded", r.ID)
		}
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	rows := quota.Quotas("s", []quota.Limit{{Workspace: ws1, Family: "standardDv2Family", VCPUs: 50}})
	i := slices.IndexFunc(rows, func(r quota.Row) bool { return r.Type == "workspaces/quotas" })
	if len(rows) != len(quota.Families())+1 || i < 1 {
		t.Fatalf("%d rows, workspace's at %d; want one row more than families", len(rows), i)
	}
	if r := rows[i]; r.Limit != 50 || r.ID != ws1+"/quotas/Standard_Dv2_Family_Cluster_Dedicated_vCPUs" || rows[i-1].Name != r.Name {
		t.Errorf("workspace's row %+v after %+v", r, rows[i-1])
	}
}

func TestCheckLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit quota.Limit
		want  quota.Status
	}{
		"what fits is granted":                     {quota.Limit{Workspace: ws2, Family: "standardDv2Family", VCPUs: 2}, quota.Success},
		"below zero is refused":                    {quota.Limit{Workspace: ws2, Family: "standardDv2Family", VCPUs: -1}, quota.Failure},
		"above the subscription's is refused":      {quota.Limit{Workspace: ws2, Family: "standardDv2Family", VCPUs: quota.FamilyLimit + 1}, quota.ExceedsSubscription},
		"below the clusters' minimum is refused":   {quota.Limit{Workspace: strings.ToUpper(ws2), Family: "standardDv2Family", VCPUs: 1}, quota.BelowClusterMinimum},
		"another workspace's minimum is not asked": {quota.Limit{Workspace: ws1, Family: "standardDv2Family", VCPUs: 0}, quota.Success},
		"an unknown family is refused":             {quota.Limit{Workspace: ws1, Family: "standardBananaFamily", VCPUs: 1}, quota.InvalidFamily},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := quota.CheckLimit(c.limit, uses()); got != c.want {
				t.Errorf("CheckLimit(%+v) = %s, want %s", c.limit, got, c.want)
			}
		})
	}
}
