package assets

import (
	"encoding/json"
	"maps"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// An environment has one row, whoever registers it: in SDK v1's words, with what
// only ARM knows of it beside them.

// armKey is where a version's row has what only ARM knows.
const armKey = "arm"

// inARM is what ARM knows of an environment and SDK v1 does not.
type inARM struct {
	Properties map[string]any `json:"properties"`
	Anonymous  bool           `json:"anonymous,omitempty"`
	Creator    Creator        `json:"creator"`
	Modifier   Creator        `json:"modifier"`
}

// decodeEnvironment reads a row of an environment, a name's or a version's, as an asset.
func decodeEnvironment(rec row.Record, v any) error {
	a := v.(*Asset)
	doc := rec.Row.(row.Document)
	var about struct {
		Name, Version string
		Number        int
		ARM           *inARM
	}
	if err := decode(rec, &about); err != nil {
		return err
	}
	a.Name = about.Name
	if about.ARM != nil {
		a.Properties, a.Creator, a.Modifier, a.Anonymous = about.ARM.Properties, about.ARM.Creator, about.ARM.Modifier, about.ARM.Anonymous
	} else {
		a.Creator = Creator{ID: doc.By, Kind: "Application"}
		a.Modifier = a.Creator
	}
	saved := strings.HasPrefix(about.Version, autosaved)
	if strings.HasSuffix(doc.Parent, "/"+string(Environments)) { // a name
		a.Latest, a.Number = about.Version, about.Number
		a.Anonymous = a.Anonymous || saved
		if a.Properties == nil {
			a.Properties = map[string]any{"isArchived": false}
		}
		return nil
	}
	a.Version = about.Version
	if err := decode(rec, &a.definition); err != nil {
		return err
	}
	delete(a.definition, armKey)
	if a.Properties == nil {
		a.Properties = fromV1(a.definition)
		a.Properties["isAnonymous"] = saved
	}
	return nil
}

// environmentBody is what the row of an environment has.
func environmentBody(a *Asset) (any, error) {
	in := &inARM{a.Properties, a.Anonymous, a.Creator, a.Modifier}
	if a.Version == "" {
		return head{Name: a.Name, Version: a.Latest, Number: a.Number, ARM: in}, nil
	}
	definition := a.definition
	if definition == nil {
		var err error
		if definition, err = toV1(a.Properties); err != nil {
			return nil, err
		}
	}
	body := maps.Clone(definition)
	body["name"], body["version"], body[armKey] = a.Name, a.Version, in
	return body, nil
}

// acceptEnvironment checks a new version.
func acceptEnvironment(a *Asset) error {
	if a.Properties["image"] == nil && a.Properties["build"] == nil {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.image", "An environment needs an image or a build context; condaFile goes with an image.")
	}
	if build := a.Properties["build"]; build != nil {
		dict, _ := build.(map[string]any)
		if uri, _ := dict["contextUri"].(string); uri == "" {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.build.contextUri", "The property build.contextUri is missing.")
		}
	}
	if v, _ := a.Properties["osType"].(string); v != "" && !strings.EqualFold(v, "Linux") {
		return fault.New(fault.Unsupported, "properties.osType", "Environments of the osType %.40s are not part of Ebb; Linux is.", v)
	}
	a.Properties["osType"] = "Linux"
	_, err := toV1(a.Properties)
	return err
}

// toV1 writes an environment in SDK v1's words. Without a conda file the image
// is all there is, and nothing is to be installed into it.
func toV1(props map[string]any) (map[string]any, error) {
	python := map[string]any{"interpreterPath": "python", "userManagedDependencies": true, "condaDependencies": nil, "baseCondaEnvironment": nil}
	if text, _ := props["condaFile"].(string); strings.TrimSpace(text) != "" {
		conda, err := parseConda(text)
		if err != nil {
			return nil, err
		}
		python["userManagedDependencies"], python["condaDependencies"] = false, conda
	}
	docker := map[string]any{"baseImage": props["image"], "baseDockerfile": nil, "platform": map[string]any{"os": "Linux", "architecture": "amd64"}}
	if build, ok := props["build"].(map[string]any); ok {
		uri, _ := build["contextUri"].(string)
		where := "storageAccount" // SDK v1 knows these two, in this case alone
		if strings.Contains(uri, ".git") {
			where = "git"
		}
		docker["buildContext"] = map[string]any{"locationType": where, "location": uri, "dockerfilePath": build["dockerfilePath"]}
	}
	return map[string]any{"python": python, "docker": docker, "environmentVariables": map[string]any{}, "inferencingStackVersion": nil}, nil
}

func parseConda(text string) (map[string]any, error) {
	bad := func(format string, args ...any) error {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.condaFile", format, args...)
	}
	var conda map[string]any
	if err := yaml.Unmarshal([]byte(text), &conda); err != nil {
		return nil, bad("The conda file is not valid YAML: %.300s.", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if _, ok := conda["dependencies"].([]any); !ok && conda["dependencies"] != nil {
		return nil, bad("The dependencies of the conda file must be a list.")
	}
	plain, err := json.Marshal(conda)
	if err != nil {
		return nil, bad("The conda file has keys or values that JSON does not have.")
	}
	conda = nil
	err = json.Unmarshal(plain, &conda)
	return conda, err
}

// fromV1 is the ARM form of an environment that SDK v1 registered.
func fromV1(definition map[string]any) map[string]any {
	props := map[string]any{"osType": "Linux", "isArchived": false, "tags": map[string]any{}, "properties": map[string]any{}}
	var v1 struct {
		Python struct {
			UserManagedDependencies bool
			CondaDependencies       map[string]any
		}
		Docker struct {
			BaseImage    string
			BuildContext struct{ Location, DockerfilePath string }
		}
	}
	text, err := json.Marshal(definition)
	if err != nil || json.Unmarshal(text, &v1) != nil {
		return props // a definition that is none of SDK v1's own is shown without its parts
	}
	if v1.Docker.BaseImage != "" {
		props["image"] = v1.Docker.BaseImage
	}
	if b := v1.Docker.BuildContext; b.Location != "" {
		props["build"] = map[string]any{"contextUri": b.Location, "dockerfilePath": b.DockerfilePath}
	}
	if len(v1.Python.CondaDependencies) > 0 && !v1.Python.UserManagedDependencies {
		if conda, err := yaml.Marshal(v1.Python.CondaDependencies); err == nil {
			props["condaFile"] = string(conda)
		}
	}
	return props
}
