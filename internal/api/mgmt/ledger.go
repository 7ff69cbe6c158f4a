package mgmt

import (
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/quota"
)

// diskImageMB is the size of the operating system's disk, the same for every size.
const diskImageMB = 1047552

// ledgerRoutes serves sizes, usages and quotas.
type ledgerRoutes struct{ l Ledger }

func registerLedger(reg arm.Registrar, h ledgerRoutes) {
	reg.Handle("GET "+locationPath+"/vmSizes", h.sizes)
	reg.Handle("GET "+locationPath+"/usages", h.usages)
	reg.Handle("GET "+locationPath+"/quotas", h.quotas)
	reg.Handle("POST "+locationPath+"/updateQuotas", h.update)
	reg.Handle("GET "+subPath+"/providers/Microsoft.Compute/locations/{location}/usages", h.cores)
}

func (h ledgerRoutes) sizes(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	machines, err := h.l.Sizes(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("location"))
	if err != nil {
		return 0, nil, err
	}
	list := make([]map[string]any, 0, len(machines))
	for _, m := range machines {
		list = append(list, sizeBody(m))
	}
	if old(r) { // the key of 2018 to early 2020, which SDK v1 insists on
		return http.StatusOK, map[string]any{"amlCompute": list}, nil
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

func sizeBody(m quota.Machine) map[string]any {
	b := map[string]any{
		"name": m.Name, "family": m.Family, "vCPUs": m.VCPUs, "gpus": m.GPUs, "osVhdSizeMB": diskImageMB, "maxResourceVolumeMB": m.DiskMB,
		"memoryGB": m.MemoryGiB, "lowPriorityCapable": m.LowPriority, "premiumIO": m.PremiumIO, "supportedComputeTypes": []string{"AmlCompute", "ComputeInstance"},
		"estimatedVMPrices": nil,
	}
	if m.USDPerHour > 0 {
		b["estimatedVMPrices"] = map[string]any{
			"billingCurrency": "USD", "unitOfMeasure": "OneHour",
			"values": []map[string]any{{"retailPrice": m.USDPerHour, "osType": "Linux", "vmTier": "Standard"}},
		}
	}
	return b
}

func (h ledgerRoutes) usages(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	region := r.PathValue("location")
	rows, err := h.l.Usages(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), region, query(r, "expandChildren") != "false")
	if err != nil {
		return 0, nil, err
	}
	list := make([]map[string]any, 0, len(rows))
	for _, row := range rows {
		b := rowBody(row, region)
		b["currentValue"] = row.Current
		list = append(list, b)
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

func (h ledgerRoutes) quotas(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	region := r.PathValue("location")
	rows, err := h.l.Quotas(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), region)
	if err != nil {
		return 0, nil, err
	}
	list := make([]map[string]any, 0, len(rows))
	for _, row := range rows {
		list = append(list, rowBody(row, region))
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

// cores shows the same in the words of Microsoft.Compute ("az vm list-usage"):
// the vCPUs of a subscription's nodes, by family.
func (h ledgerRoutes) cores(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	rows, err := h.l.Usages(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("location"), false)
	if err != nil {
		return 0, nil, err
	}
	names := map[string]string{"TotalDedicatedCores": "cores", "TotalLowPriorityCores": "lowPriorityCores"}
	var list []map[string]any
	for _, row := range rows {
		name := names[row.Name]
		if name == "" && row.Type == "vmFamily/usages" && !strings.Contains(row.Text, "LowPriority") {
			name = row.Name
		}
		if name != "" {
			text := strings.NewReplacer(" Cluster Dedicated", "", " Cluster", "").Replace(row.Text)
			list = append(list, map[string]any{"unit": "Count", "currentValue": row.Current, "limit": row.Limit, "name": map[string]string{"value": name, "localizedValue": text}})
		}
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}

func rowBody(row quota.Row, region string) map[string]any {
	return map[string]any{
		"id": row.ID, "type": armid.Provider + "/" + row.Type, "amlWorkspaceLocation": armid.Region(region), "unit": "Count", "limit": row.Limit,
		"name": map[string]string{"value": row.Name, "localizedValue": row.Text},
	}
}

// update answers every wish with a status. SDK v1 compares its with "success", in small letters.
func (h ledgerRoutes) update(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var body struct {
		Value []struct {
			ID    string `json:"id"`
			Limit *int64 `json:"limit"`
		} `json:"value"`
	}
	if err := arm.ReadJSON(r, &body); err != nil {
		return 0, nil, err
	}
	var wishes []computes.QuotaWish
	for _, v := range body.Value {
		wishes = append(wishes, computes.QuotaWish{ID: v.ID, Limit: v.Limit})
	}
	results, err := h.l.UpdateQuotas(r.Context(), arm.Caller(r.Context()), r.PathValue("sub"), r.PathValue("location"), wishes)
	if err != nil {
		return 0, nil, err
	}
	list := make([]map[string]any, 0, len(results))
	for _, res := range results {
		status := string(res.Status)
		if old(r) && res.Status == quota.Success {
			status = strings.ToLower(status)
		}
		list = append(list, map[string]any{"id": res.ID, "type": armid.WorkspaceType + "/quotas", "limit": res.Limit, "unit": "Count", "status": status})
	}
	return http.StatusOK, arm.Page(r, list, ""), nil
}
