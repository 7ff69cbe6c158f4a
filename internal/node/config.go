package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/node/runner/image"
)

// Config is node.json: what an engine tells the agent that it starts. The file
// is the contract between the two; engines write the same keys.
type Config struct {
	Node         string         `json:"node"`
	Cluster      string         `json:"cluster"` // name, for people
	Installation string         `json:"installation"`
	Token        string         `json:"token"`              // bearer
	Server       string         `json:"server"`             // path of the file that says where the server is (Server)
	Cache        string         `json:"cache"`              // folder shared by the machine's nodes: envs/, snapshots/
	Readable     []string       `json:"readable,omitempty"` // further paths that jobs may read, as data sets
	Networks     []string       `json:"networks,omitempty"` // private ones that inputs by https:// may come from, as "10.0.0.0/8"
	Images       image.Settings `json:"images,omitzero"`    // where images come from
	Size         fleet.Size     `json:"size"`
	Container    Container      `json:"container,omitzero"`
	LowPriority  bool           `json:"lowPriority,omitempty"`
	Address      string         `json:"address,omitempty"`  // IPv4, this node's alone, where others reach its jobs
	GPUs         []string       `json:"gpus,omitempty"`     // UUIDs of those that are this node's alone
	Warnings     []string       `json:"warnings,omitempty"` // said once to the server
}

// Container is how jobs run in containers here, as the configuration has it.
type Container struct {
	Use    string `json:"use,omitempty"`    // auto, required; never, or empty: they do not
	Engine string `json:"engine,omitempty"` // socket; empty: whichever answers
	User   string `json:"user,omitempty"`   // image; job, or empty: users of their own
}

// Server is DATA/server.json, written by the server at each start and read at
// every dial.
type Server struct {
	URL string `json:"url"`
	CA  string `json:"ca"` // path of a PEM bundle, or PEM; empty: the system's roots
}

// PEM returns the bundle itself; nil for the system's roots.
func (s Server) PEM() ([]byte, error) {
	if s.CA == "" {
		return nil, nil
	}
	if strings.HasPrefix(strings.TrimSpace(s.CA), "-----BEGIN") {
		return []byte(s.CA), nil
	}
	return os.ReadFile(s.CA)
}

func readConfig(dir string) (Config, error) {
	var c Config
	if err := readJSON(filepath.Join(dir, "node.json"), &c); err != nil {
		return c, err
	}
	if c.Node == "" || c.Token == "" || c.Server == "" {
		return c, fmt.Errorf("read %s: node, token and server must be set", filepath.Join(dir, "node.json"))
	}
	return c, nil
}
