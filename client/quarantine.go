package client

import (
	"context"
	"net/http"
	"net/url"
)

// Quarantined is a node that the server found after it was restored to an older
// state, and that is not as that state knows it. It goes on with what it runs.
type Quarantined struct {
	Node      string   `json:"node"`
	Cluster   string   `json:"cluster"` // name, as it was launched for
	Alive     bool     `json:"alive"`
	VMSize    string   `json:"vmSize"`
	VCPUs     int      `json:"vCPUs"`
	MemoryGiB float64  `json:"memoryGiB"`
	GPUs      int      `json:"gpus"`
	Attempts  []string `json:"attempts"` // that it holds, over or not
	Why       string   `json:"why"`
}

// Quarantine lists the quarantined nodes.
func (c *Client) Quarantine(ctx context.Context) ([]Quarantined, error) {
	var got struct {
		Value []Quarantined `json:"value"`
	}
	_, err := c.Do(ctx, http.MethodGet, "/ebb/v1/admin/quarantine", nil, &got)
	return got.Value, err
}

// EndQuarantined ends a quarantined node and all that it runs. What it wrote and
// had not sent is lost.
func (c *Client) EndQuarantined(ctx context.Context, node string) error {
	_, err := c.Do(ctx, http.MethodPost, "/ebb/v1/admin/quarantine/"+url.PathEscape(node)+"/end", struct{}{}, nil)
	return err
}
