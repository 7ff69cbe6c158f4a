// Package azml is what "az ml" v2 takes: its YAML schemas as structs, and the
// ARM documents that it makes of them. Reading is yamlspec's; nothing here
// speaks to a server, so what has to be looked up or uploaded first comes in as
// [Resolved].
package azml

import (
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/client"
)

// AssetID turns azureml:NAME:VERSION into an ARM id below the workspace. An ARM
// id is returned as it is; without a version the answer is azureml:NAME, with
// which the server takes the newest.
func AssetID(f client.File, kind, ref string) (string, error) {
	if ref == "" || strings.HasPrefix(ref, "/") {
		return ref, nil
	}
	if strings.HasPrefix(ref, "azureml://registries/") {
		return "", fmt.Errorf("%q is in a registry, and registries are not built; register it in the workspace", ref)
	}
	if strings.HasPrefix(ref, "azureml:/") {
		return strings.TrimPrefix(ref, "azureml:"), nil
	}
	name, version, versioned := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(ref, "azureml:"), "@latest"), ":")
	if name == "" || versioned && version == "" || strings.ContainsAny(name+version, ":/@") {
		return "", fmt.Errorf("%q is not azureml:NAME:VERSION or azureml:NAME@latest", ref)
	}
	if !versioned {
		return "azureml:" + name, nil
	}
	return f.Workspace() + "/" + kind + "/" + name + "/versions/" + version, nil
}

// ComputeName is a cluster's name, whichever way it was written.
func ComputeName(ref string) string {
	if strings.HasPrefix(strings.TrimPrefix(ref, "azureml:"), "/") {
		return ref[strings.LastIndexByte(ref, '/')+1:]
	}
	return strings.TrimPrefix(ref, "azureml:")
}

// ComputeID is the ARM id of a cluster.
func ComputeID(f client.File, ref string) string {
	if id := strings.TrimPrefix(ref, "azureml:"); strings.HasPrefix(id, "/") {
		return id
	}
	return f.Workspace() + "/computes/" + ComputeName(ref)
}

// IsLocal reports whether a path is of this machine, and not a URI of data that
// is somewhere already.
func IsLocal(path string) bool {
	if path == "" {
		return false
	}
	scheme, _, ok := strings.Cut(path, ":")
	// A letter before a colon would be a drive; no scheme has only one.
	return !ok || len(scheme) < 2 || scheme == "file" || strings.ContainsAny(scheme, "/.\\")
}

// LocalPath takes "file:" off a path of this machine.
func LocalPath(path string) string {
	path = strings.TrimPrefix(path, "file:")
	if strings.HasPrefix(path, "//") {
		path = strings.TrimPrefix(path, "//")
	}
	return path
}
