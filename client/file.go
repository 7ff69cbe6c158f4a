package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// File is what a client file (client.json) says: where the server is, whom to
// trust, who is asking, and which workspace is meant.
type File struct {
	URL            string `json:"url"` // https://host:port, without a slash at its end
	CA             string `json:"ca"`  // absolute path of a PEM bundle; empty: the system's roots
	TenantID       string `json:"tenant_id"`
	ClientID       string `json:"client_id"`
	ClientSecret   string `json:"client_secret"`
	SubscriptionID string `json:"subscription_id"`
	ResourceGroup  string `json:"resource_group"`
	WorkspaceName  string `json:"workspace_name"`

	Path string `json:"-"` // where it was read
}

// DefaultDataDir is the folder a server keeps its data in when it is told no
// other: $EBB_DATA; for root /var/lib/ebb; else $XDG_DATA_HOME/ebb, or
// ~/.local/share/ebb.
func DefaultDataDir() string { return dataDir(os.Getenv, os.Geteuid(), os.UserHomeDir) }

func dataDir(getenv func(string) string, euid int, home func() (string, error)) string {
	if dir := getenv("EBB_DATA"); dir != "" {
		return dir
	}
	if euid == 0 {
		return "/var/lib/ebb"
	}
	// The XDG rules say that a relative path there is to be ignored.
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ebb")
	}
	h, err := home()
	if err != nil {
		return "ebb-data" // no home at all: beside the caller, where it is seen
	}
	return filepath.Join(h, ".local", "share", "ebb")
}

// Find returns the path of the client file: flag, or $EBB_CLIENT, or the
// default data folder's.
func Find(flag string) string {
	if flag != "" {
		return flag
	}
	if p := os.Getenv("EBB_CLIENT"); p != "" {
		return p
	}
	return filepath.Join(DefaultDataDir(), "client.json")
}

// ErrNoFile is in the error of [Load] when there is no client file.
var ErrNoFile = errors.New("no client file")

// Load reads a client file and checks that nothing needed is missing.
func Load(path string) (File, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, fmt.Errorf("%w at %s", ErrNoFile, path)
	}
	if err != nil {
		return File{}, fmt.Errorf("read client file: %w", err)
	}
	f := File{Path: path}
	if err := json.Unmarshal(b, &f); err != nil {
		return File{}, fmt.Errorf("read client file %s: %w", path, err)
	}
	f.URL = strings.TrimRight(f.URL, "/")
	for _, need := range []struct{ key, value string }{
		{"url", f.URL}, {"tenant_id", f.TenantID}, {"client_id", f.ClientID}, {"client_secret", f.ClientSecret},
		{"subscription_id", f.SubscriptionID}, {"resource_group", f.ResourceGroup}, {"workspace_name", f.WorkspaceName},
	} {
		if need.value == "" {
			return File{}, fmt.Errorf("client file %s: %q is missing", path, need.key)
		}
	}
	if u, err := url.Parse(f.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		return File{}, fmt.Errorf("client file %s: url %q is not https://host:port", path, f.URL)
	}
	// A path beside the file makes a client file that may be moved with its CA.
	if f.CA != "" && !filepath.IsAbs(f.CA) {
		f.CA = filepath.Join(filepath.Dir(path), f.CA)
	}
	return f, nil
}

// Workspace is the ARM id of the workspace.
func (f File) Workspace() string {
	return "/subscriptions/" + url.PathEscape(f.SubscriptionID) + "/resourceGroups/" + url.PathEscape(f.ResourceGroup) +
		"/providers/Microsoft.MachineLearningServices/workspaces/" + url.PathEscape(f.WorkspaceName)
}

// location is the path of a region's own resources: sizes, usages, quotas.
func (f File) location(region string) string {
	return "/subscriptions/" + url.PathEscape(f.SubscriptionID) +
		"/providers/Microsoft.MachineLearningServices/locations/" + url.PathEscape(region)
}
