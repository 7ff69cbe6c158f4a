package quota

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/armid"
)

// Limits of the local profile. Azure's own begin at 0 to 300 vCPUs a family; a
// machine of one's own needs none, so these only keep the shape.
const (
	FamilyLimit   = 10_000  // vCPUs of one family in a region
	TotalLimit    = 100_000 // dedicated vCPUs of all families in a region
	PriorityLimit = 100_000 // low-priority vCPUs of all families in a region
	ClusterLimit  = 500     // clusters in a region
	unlimited     = -1      // Azure's word for no limit of its own
)

// Use is one cluster as the ledger sees it.
type Use struct {
	Workspace   string // ARM id, as typed
	Cluster     string // ARM id, as typed
	Family      string
	LowPriority bool
	VCPUs       int // of the nodes that exist now
	Least       int // vCPUs of its minimum of nodes
}

// Limit is what one workspace may use of one family.
type Limit struct {
	Workspace string // ARM id, as typed
	Family    string
	VCPUs     int64
}

// Row is one line of usages or quotas.
type Row struct {
	ID      string
	Type    string // below Microsoft.MachineLearningServices/, as "vmFamily/usages"
	Name    string // key: the family, or the name of a total
	Text    string // for people
	Current int64  // in use; of a quota 0
	Limit   int64  // -1: none
}

// Usages returns what a subscription uses in a region, in the order of the
// 2024-04-01 example: clusters, dedicated total, families, low priority. Where expand is set, workspaces
// and clusters follow their family.
func Usages(subscription string, uses []Use, limits []Limit, expand bool) []Row {
	sub := armid.Subscription(subscription)
	var dedicated, low int64
	for _, u := range uses {
		if u.LowPriority {
			low += int64(u.VCPUs)
		} else {
			dedicated += int64(u.VCPUs)
		}
	}
	rows := []Row{
		{sub + "/usages", "totalCores/usages", "Clusters", "Clusters", int64(len(uses)), ClusterLimit},
		{sub + "/usages", "dedicatedCores/usages", "TotalDedicatedCores", "Total Cluster Dedicated Regional vCPUs", dedicated, TotalLimit},
	}
	rows = append(rows, families(sub, uses, limits, false, expand)...)
	rows = append(rows, Row{sub + "/usages", "lowPriorityCores/usages", "TotalLowPriorityCores", "Total Cluster LowPriority Regional vCPUs", low, PriorityLimit})
	return append(rows, families(sub, uses, limits, true, expand)...)
}

// families returns the rows of every family at one priority.
func families(sub string, uses []Use, limits []Limit, low, expand bool) []Row {
	ledger := map[string][]Use{}
	for _, u := range uses {
		if u.LowPriority == low {
			ledger[u.Family] = append(ledger[u.Family], u)
		}
	}
	var rows []Row
	for _, f := range Families() {
		text := Text(f, low)
		limit := int64(FamilyLimit)
		if low {
			limit = unlimited
		}
		of := ledger[f]
		rows = append(rows, Row{sub + "/usages/" + idPart(text), "vmFamily/usages", f, text, sum(of), limit})
		if expand {
			rows = append(rows, children(f, text, of, limits, limit)...)
		}
	}
	return rows
}

// children returns a family's rows by workspace, each followed by its clusters.
func children(family, text string, of []Use, limits []Limit, limit int64) []Row {
	slices.SortFunc(of, func(a, b Use) int {
		return cmp.Or(strings.Compare(armid.Key(a.Workspace), armid.Key(b.Workspace)), strings.Compare(armid.Key(a.Cluster), armid.Key(b.Cluster)))
	})
	var rows []Row
	for len(of) > 0 {
		ws := of[0].Workspace
		n := slices.IndexFunc(of, func(u Use) bool { return !armid.Equal(u.Workspace, ws) })
		if n < 0 {
			n = len(of)
		}
		most := limit
		if set, ok := find(limits, ws, family); ok && limit != unlimited {
			most = set
		}
		rows = append(rows, Row{ws + "/usages/" + idPart(text), "workspaces/usages", family, text, sum(of[:n]), most})
		for _, u := range of[:n] {
			rows = append(rows, Row{u.Cluster + "/usages/" + idPart(text), "workspaces/computes/usages", family, text, int64(u.VCPUs), most})
		}
		of = of[n:]
	}
	return rows
}

func sum(of []Use) (total int64) {
	for _, u := range of {
		total += int64(u.VCPUs)
	}
	return total
}

func find(limits []Limit, workspace, family string) (int64, bool) {
	for _, l := range limits {
		if l.Family == family && armid.Equal(l.Workspace, workspace) {
			return l.VCPUs, true
		}
	}
	return 0, false
}

// Quotas returns the limits of a subscription in a region: every family's, each followed by those
// of the workspaces that have their own.
func Quotas(subscription string, limits []Limit) []Row {
	sub := armid.Subscription(subscription)
	var rows []Row
	for _, f := range Families() {
		text := Text(f, false)
		rows = append(rows, Row{ID: sub + "/quotas/" + idPart(text), Type: "vmFamily/quotas", Name: f, Text: text, Limit: FamilyLimit})
		for _, l := range limits {
			if l.Family == f {
				rows = append(rows, Row{ID: l.Workspace + "/quotas/" + idPart(text), Type: "workspaces/quotas", Name: f, Text: text, Limit: l.VCPUs})
			}
		}
	}
	return rows
}

// Status is what became of one wish in updateQuotas, in Azure's words.
type Status string

// The answers that Ebb gives (QuotaUpdateStatus of the 2024-04-01 swagger).
const (
	Success             Status = "Success"
	Failure             Status = "Failure"
	BelowClusterMinimum Status = "InvalidQuotaBelowClusterMinimum"
	ExceedsSubscription Status = "InvalidQuotaExceedsSubscriptionLimit"
	InvalidFamily       Status = "InvalidVMFamilyName"
)

// CheckLimit says whether a workspace may have a limit: not below zero, not
// above the subscription's, not below what its clusters always keep.
func CheckLimit(l Limit, uses []Use) Status {
	if _, ok := Family(l.Family); !ok {
		return InvalidFamily
	}
	var least int64
	for _, u := range uses {
		if !u.LowPriority && u.Family == l.Family && armid.Equal(u.Workspace, l.Workspace) {
			least += int64(u.Least)
		}
	}
	switch {
	case l.VCPUs < 0:
		return Failure
	case l.VCPUs > FamilyLimit:
		return ExceedsSubscription
	case l.VCPUs < least:
		return BelowClusterMinimum
	}
	return Success
}
