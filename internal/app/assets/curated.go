package assets

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/internal/core/near"
	"github.com/ebb-compute/ebb/internal/fault"
)

//go:embed curated.yaml
var curatedTable []byte

// recipe is a curated environment as it is written down.
type recipe struct {
	Description string         `yaml:"description"`
	Image       string         `yaml:"image"`
	CondaFile   map[string]any `yaml:"conda_file"`
	Dockerfile  string         `yaml:"dockerfile"`
}

// Curated are the environments that every workspace has: Azure's names, with
// recipes of ours.
type Curated struct {
	byName map[string]curated // by name in lower case
}

type curated struct {
	name, description string
	definition        map[string]any // in SDK v1's words
}

// curatedVersion is the one version that a curated environment has. Azure's are
// numbers that rise; any number is this one.
const curatedVersion = "1"

// ReadCurated reads the table that comes with the server, and then a file; empty: none.
func ReadCurated(file string) (*Curated, error) {
	c := &Curated{byName: map[string]curated{}}
	if err := c.add(curatedTable); err != nil {
		return nil, fmt.Errorf("read the table of curated environments: %w", err)
	}
	if file == "" {
		return c, nil
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = c.add(text)
	}
	if err != nil {
		return nil, fmt.Errorf("read the curated environments (images: curated): %s: %w", file, err)
	}
	return c, nil
}

func (c *Curated) add(text []byte) error {
	var table map[string]recipe
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&table); err != nil {
		return err
	}
	for name, r := range table {
		if err := checkAssetName("name", name); err != nil {
			return err
		}
		if (r.Image == "") == (r.Dockerfile == "") {
			return fmt.Errorf("%s: give an image or a dockerfile", name)
		}
		props := map[string]any{"image": r.Image}
		if r.CondaFile != nil {
			conda, err := yaml.Marshal(r.CondaFile)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			props["condaFile"] = string(conda)
		}
		definition, err := toV1(props)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if r.Dockerfile != "" {
			definition["docker"].(map[string]any)["baseImage"] = nil
			definition["docker"].(map[string]any)["baseDockerfile"] = r.Dockerfile
		}
		c.byName[strings.ToLower(name)] = curated{name, r.Description, definition}
	}
	return nil
}

// curatedPrefix begins the names of curated environments in a workspace; in Azure's
// registry they go without.
const curatedPrefix = "azureml-"

// find returns a curated environment by its name, with Azure's prefix or, where it
// was named as one of the registry's, without.
func (c *Curated) find(name string, inRegistry bool) (curated, bool) {
	if c == nil {
		return curated{}, false
	}
	lower := strings.ToLower(name)
	e, ok := c.byName[lower]
	if !ok && inRegistry {
		e, ok = c.byName[curatedPrefix+lower]
	}
	return e, ok
}

// names are those of all curated environments.
func (c *Curated) names() []string {
	var out []string
	if c != nil {
		for _, e := range c.byName {
			out = append(out, e.name)
		}
	}
	slices.Sort(out)
	return out
}

// environment is the definition of a curated environment, the caller's own.
func (e curated) environment() map[string]any {
	env := maps.Clone(e.definition)
	env["name"], env["version"] = e.name, curatedVersion
	return env
}

// asset is a curated environment in ARM's words.
func (e curated) asset(version string) Asset {
	a := Asset{Name: e.name, Version: version, Latest: curatedVersion, Creator: Creator{Name: "Ebb", Kind: "Application"}, Properties: map[string]any{"isArchived": false}}
	if version != "" {
		a.Properties = fromV1(e.definition)
		a.Properties["isAnonymous"], a.Properties["environmentType"] = false, "Curated"
	}
	a.Properties["description"] = e.description
	a.Modifier = a.Creator
	return a
}

// noCurated says that a curated environment is not in the table, and what is.
func (s *Service) noCurated(code, name string) error {
	return fault.Coded(fault.NotFound, code, name, "The curated environment %.80q is not in this server's table. It has, the nearest first: %s. "+
		"Whoever runs the server can add recipes (images: curated: in ebb.yaml); an environment of your own works too (image=…, conda_file=…).", name, near.List(name, s.Curated.names()))
}

// InRegistry returns the curated environment that an id of a registry's names.
func (s *Service) InRegistry(id string) (map[string]any, error) {
	words := strings.Split(trimScheme(id), "/")
	i, r := segment(words, string(Environments)), segment(words, "registries")
	if i < 0 || i+1 >= len(words) || r < 0 || r+1 >= len(words) || !strings.HasPrefix(strings.ToLower(words[r+1]), "azureml") {
		return nil, Registry(id)
	}
	name, _, _ := strings.Cut(words[i+1], "@")
	if e, ok := s.Curated.find(name, true); ok {
		return e.environment(), nil
	}
	return nil, s.noCurated("EnvironmentNotFound", name)
}
