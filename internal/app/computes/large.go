package computes

import (
	"encoding/json"
	"strings"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/fleet"
)

// canonical is the function of that name, and holds a cluster to the number of
// nodes that this server lets it have.
func (s *Service) canonical(body map[string]any, info workspaces.Info, name string, have *stored) (wanted, error) {
	w, err := canonical(body, info, name, have)
	if err != nil || w.max <= fleet.MostInTouch || have != nil && w.max <= have.max() || s.large(armid.Compute(info.ID, name)) {
		return w, err
	}
	return w, invalid("properties.properties.scaleSettings.maxNodeCount",
		"The cluster may not have %d nodes: %d is the most. More are for subscriptions, workspaces and clusters that the server's configuration lists under large_clusters; "+
			"above %d nodes there is no communication between them, so that a job has one.", w.max, fleet.MostInTouch, fleet.MostInTouch)
}

// max is the maximum number of nodes that a stored cluster has.
func (c stored) max() int {
	props, _ := c.Resource["properties"].(map[string]any)
	inner, _ := props["properties"].(map[string]any)
	scale, _ := inner["scaleSettings"].(map[string]any)
	switch n := scale["maxNodeCount"].(type) {
	case json.Number:
		i, _ := n.Int64()
		return int(i)
	case float64:
		return int(n)
	}
	return 0
}

// large reports whether a cluster is among Large: it, its workspace, its group, or
// its subscription, which may be named by its guid alone.
func (s *Service) large(id string) bool {
	id = strings.ToLower(id) + "/"
	for _, l := range s.Large {
		l = strings.ToLower(strings.Trim(l, "/"))
		if !strings.Contains(l, "/") {
			l = "subscriptions/" + l
		}
		if strings.HasPrefix(id, "/"+l+"/") {
			return true
		}
	}
	return false
}
