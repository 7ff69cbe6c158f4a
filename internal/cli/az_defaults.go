package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/client"
)

// configureHere does "az configure --defaults", and --list-defaults: the file is
// az's own, so that the real az and ebb agree. All else is az's.
func (a *app) configureHere(args []string) (done bool, err error) {
	var set []string
	list := false
	for i := 0; i < len(args); i++ {
		switch word := args[i]; {
		case word == "-d" || word == "--defaults":
			for i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
				set = append(set, args[i])
			}
		case strings.HasPrefix(word, "--defaults="):
			set = append(set, strings.TrimPrefix(word, "--defaults="))
		case word == "-l" || word == "--list-defaults":
			list = true
		}
	}
	if len(set) == 0 && !list {
		return false, nil
	}
	f, err := a.clientFileAlone()
	if err != nil {
		return true, err
	}
	path := filepath.Join(a.azConfigDir(f), "config")
	if list {
		shapes := []object{}
		now := readDefaults(path)
		for _, name := range sortedKeys(now) {
			shapes = append(shapes, object{{"name", name}, {"source", path}, {"value", now[name]}})
		}
		return true, a.azPrint(args, shapes)
	}
	values, err := pairs("--defaults", set)
	if err != nil {
		return true, err
	}
	return true, writeDefaults(path, values)
}

// clientFileAlone is the client file without defaults over it.
func (a *app) clientFileAlone() (client.File, error) {
	path := a.clientFile
	if path == "" {
		path = a.getenv("EBB_CLIENT")
	}
	return client.Load(client.Find(path))
}

// readDefaults reads the section [defaults] of az's configuration; a file that
// is not there has none.
func readDefaults(path string) map[string]string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	found := map[string]string{}
	in := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = strings.EqualFold(line, "[defaults]")
			continue
		}
		if key, value, ok := strings.Cut(line, "="); in && ok && !strings.HasPrefix(line, "#") {
			found[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return found
}

// writeDefaults puts values into the section [defaults], and leaves the rest of
// the file as it is. An empty value takes a default away.
func writeDefaults(path string, values map[string]string) error {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now := readDefaults(path)
	if now == nil {
		now = map[string]string{}
	}
	for k, v := range values {
		if now[strings.ToLower(k)] = v; v == "" {
			delete(now, strings.ToLower(k))
		}
	}
	var kept []string
	in := false
	for line := range strings.Lines(string(b)) {
		if trimmed := strings.TrimSpace(line); strings.HasPrefix(trimmed, "[") {
			in = strings.EqualFold(trimmed, "[defaults]")
		}
		if !in {
			kept = append(kept, strings.TrimRight(line, "\n"))
		}
	}
	kept = append(kept, "[defaults]")
	for _, k := range sortedKeys(now) {
		kept = append(kept, k+" = "+now[k])
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Join(kept, "\n")+"\n"), 0o600)
}

// azDefaults is what az would take where -g and -w are not given: variables,
// then its configuration, then the config.json that is nearest.
func (a *app) azDefaults(f *client.File) {
	near, path, ok := nearestConfig()
	if ok {
		a.from = path
		f.SubscriptionID, f.ResourceGroup, f.WorkspaceName = near.Subscription, near.Group, near.Workspace
	}
	file := filepath.Join(a.azConfigDir(*f), "config")
	configured := readDefaults(file)
	for _, d := range []struct {
		into          *string
		variable, key string
	}{
		{&f.ResourceGroup, "AZURE_DEFAULTS_GROUP", "group"},
		{&f.WorkspaceName, "AZURE_DEFAULTS_WORKSPACE", "workspace"},
	} {
		if v := configured[d.key]; v != "" {
			*d.into, a.from = v, file
		}
		if v := a.getenv(d.variable); v != "" {
			*d.into, a.from = v, d.variable
		}
	}
}

// nearestConfig is the config.json that the SDKs would find from here: in this
// folder or one above it, there also in .azureml or aml_config.
func nearestConfig() (c workspaceConfig, path string, found bool) {
	dir, err := os.Getwd()
	if err != nil {
		return c, "", false // a folder that was removed has none
	}
	for {
		for _, below := range []string{".azureml", "aml_config", "."} {
			path = filepath.Join(dir, below, "config.json")
			b, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			c = workspaceConfig{}
			if json.Unmarshal(b, &c) != nil || slices.Contains([]string{c.Subscription, c.Group, c.Workspace}, "") {
				continue // some other program's
			}
			return c, path, true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return c, "", false
		}
		dir = up
	}
}
