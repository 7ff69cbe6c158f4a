package deployments

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/template"
)

// stamp is how Azure writes times in deployments.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// duration writes how long something took, in ISO 8601.
func duration(d time.Duration) string {
	return fmt.Sprintf("PT%.3fS", max(0, d).Seconds())
}

// show is a deployment as ARM shows it.
func (s *Service) show(d stored) map[string]any {
	until := d.Ended
	if until.IsZero() {
		until = s.Now()
	}
	state := d.State
	if d.Canceling && !final(state) {
		state = running
	}
	made := []any{}
	for _, id := range d.Made {
		made = append(made, map[string]any{"id": id})
	}
	props := map[string]any{
		"provisioningState": state, "correlationId": d.Correlation, "mode": d.Mode, "timestamp": stamp(until), "duration": duration(until.Sub(d.Started)),
		"templateHash": d.Hash, "parameters": d.Parameters, "providers": d.Providers, "dependencies": d.DependsOn, "outputResources": made,
	}
	if d.Outputs != nil {
		props["outputs"] = d.Outputs
	}
	if d.Error != nil {
		props["error"] = d.Error
	}
	body := map[string]any{"id": d.ID, "name": d.Name, "type": template.DeploymentType, "properties": props}
	if d.Location != "" {
		body["location"] = d.Location
	}
	if d.Tags != nil {
		body["tags"] = d.Tags
	}
	return body
}

// providers lists the types of a plan by namespace.
func providers(p *template.Plan, location string) []any {
	types := map[string][]string{}
	var spaces []string
	for _, r := range p.Resources {
		space, typ, _ := strings.Cut(r.Type, "/")
		if !r.Deployed() || slices.Contains(types[space], typ) {
			continue
		}
		if types[space] == nil {
			spaces = append(spaces, space)
		}
		types[space] = append(types[space], typ)
	}
	var where any
	if location != "" {
		where = location
	}
	list := []any{}
	for _, space := range spaces {
		var kinds []any
		for _, t := range types[space] {
			kinds = append(kinds, map[string]any{"resourceType": t, "locations": []any{where}})
		}
		list = append(list, map[string]any{"namespace": space, "resourceTypes": kinds})
	}
	return list
}

func target(r *template.Resource) map[string]any {
	return map[string]any{"id": r.ID, "resourceType": r.Type, "resourceName": r.Name}
}

func dependencies(p *template.Plan) []any {
	list := []any{}
	for _, r := range p.Resources {
		if !r.Deployed() || len(r.DependsOn) == 0 {
			continue
		}
		var on []any
		for _, j := range r.DependsOn {
			on = append(on, target(p.Resources[j]))
		}
		t := target(r)
		t["dependsOn"] = on
		list = append(list, t)
	}
	return list
}
