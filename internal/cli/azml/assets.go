package azml

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// AnonymousEnvironment is the name of environments that a job defines itself.
const AnonymousEnvironment = "CliV2AnonymousEnvironment"

// Asset is what environments, data, models and components have alike.
type Asset struct {
	Name        string            `yaml:"name"`
	Version     string            `yaml:"version"`
	Description string            `yaml:"description"`
	Tags        map[string]string `yaml:"tags"`
	Properties  map[string]string `yaml:"properties"`

	Dir string // what relative paths are of
}

// base makes the part of the document that all assets have.
func (a *Asset) base() map[string]any {
	m := map[string]any{"isAnonymous": false, "isArchived": false}
	if a.Description != "" {
		m["description"] = a.Description
	}
	if len(a.Tags) > 0 {
		m["tags"] = a.Tags
	}
	if len(a.Properties) > 0 {
		m["properties"] = a.Properties
	}
	return m
}

// Environment is the schema of an environment: environment.schema.json.
type Environment struct {
	Asset
	Image string `yaml:"image"`
	Conda Conda  `yaml:"conda_file"`
	Build struct {
		Path       string `yaml:"path"`
		Dockerfile string `yaml:"dockerfile_path"`
	} `yaml:"build"`
	OS        string    `yaml:"os_type" oneof:"linux windows"`
	Datastore string    `yaml:"datastore"`
	Inference *struct{} `yaml:"inference_config" no:"environments that serve are not built"`
}

// Conda is a conda file: its path, or what it would hold.
type Conda struct {
	Path string
	Text string
}

// DecodeSpec takes both forms.
func (c *Conda) DecodeSpec(n yamlspec.Node) (err error) {
	if n.Scalar() {
		c.Path = n.Text()
		return nil
	}
	c.Text, err = n.YAML()
	return err
}

// read returns the conda file's text, in one form whatever its layout.
func (c Conda) read(dir string) (string, error) {
	text := c.Text
	if c.Path != "" {
		b, err := os.ReadFile(Abs(dir, c.Path))
		if err != nil {
			return "", fmt.Errorf("conda_file: %w", err)
		}
		text = string(b)
	}
	if text == "" {
		return "", nil
	}
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return "", fmt.Errorf("conda_file %s: %s", c.Path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	b, err := yaml.Marshal(doc)
	return string(b), err
}

// ARM makes the environment's document; context is where its build folder was
// uploaded to.
func (e *Environment) ARM(context string) (map[string]any, error) {
	ways := 0
	for _, is := range []bool{e.Image != "", e.Build.Path != ""} {
		if is {
			ways++
		}
	}
	conda := e.Conda.Path != "" || e.Conda.Text != ""
	switch {
	case ways == 2:
		return nil, fmt.Errorf("an environment has an image or a build folder, not both")
	case e.Build.Path != "" && conda:
		return nil, fmt.Errorf("a build folder says all itself: leave conda_file out")
	case ways == 0:
		return nil, fmt.Errorf("an environment needs an image (with a conda_file, if you like), or a build folder")
	}
	m := e.base()
	if e.Image != "" {
		m["image"] = e.Image
	}
	text, err := e.Conda.read(e.Dir)
	if err != nil {
		return nil, err
	}
	if text != "" {
		m["condaFile"] = text
	}
	if e.Build.Path != "" {
		file := e.Build.Dockerfile
		if file == "" {
			file = "Dockerfile"
		}
		m["build"] = map[string]any{"contextUri": context, "dockerfilePath": file}
	}
	if e.OS != "" {
		m["osType"] = map[string]string{"linux": "Linux", "windows": "Windows"}[e.OS]
	}
	return m, nil
}

// Anonymous makes of a document one that has no name but its content's.
func Anonymous(document map[string]any) (version string, err error) {
	document["isAnonymous"] = true
	b, err := json.Marshal(document) // maps come sorted
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

// EnvironmentRef names an environment, or is one.
type EnvironmentRef struct {
	Ref    string
	Inline *Environment
}

// DecodeSpec takes a name, file:PATH, and an environment written out.
func (e *EnvironmentRef) DecodeSpec(n yamlspec.Node) error {
	if !n.Scalar() {
		e.Inline = &Environment{}
		return n.Decode(e.Inline)
	}
	path, isFile := strings.CutPrefix(n.Text(), "file:")
	if !isFile {
		e.Ref = n.Text()
		return nil
	}
	doc, err := yamlspec.Read(Abs(n.Dir(), path))
	if err != nil {
		return n.Errorf("%s", err)
	}
	e.Inline = &Environment{}
	if err := doc.Decode(e.Inline); err != nil {
		return err
	}
	e.Inline.Dir = doc.Dir
	return nil
}

// Data is the schema of a data asset: data.schema.json.
type Data struct {
	Asset
	Type      string `yaml:"type" oneof:"uri_file uri_folder mltable"`
	Path      string `yaml:"path"`
	Datastore string `yaml:"datastore"`
}

// ARM makes the document; uri is where the data lies.
func (d *Data) ARM(uri string) map[string]any {
	m := d.base()
	m["dataUri"], m["dataType"] = uri, d.Type
	return m
}

// Model is the schema of a model: model.schema.json.
type Model struct {
	Asset
	Type      string            `yaml:"type" oneof:"custom_model mlflow_model triton_model"`
	Path      string            `yaml:"path"`
	Stage     string            `yaml:"stage"`
	Datastore string            `yaml:"datastore"`
	Flavors   map[string]Flavor `yaml:"flavors"`
}

// Flavor is one way to load an MLflow model.
type Flavor map[string]string

// ARM makes the document; uri is where the model lies.
func (d *Model) ARM(uri string) map[string]any {
	m := d.base()
	m["modelUri"], m["modelType"] = uri, d.Type
	if d.Stage != "" {
		m["stage"] = d.Stage
	}
	if len(d.Flavors) > 0 {
		flavors := map[string]any{}
		for name, data := range d.Flavors {
			flavors[name] = map[string]any{"data": data}
		}
		m["flavors"] = flavors
	}
	return m
}

// Component is the schema of a command component: commandComponent.schema.json.
// Kinds of components that only pipelines know are refused by name.
type Component struct {
	Asset
	Type          string                  `yaml:"type" oneof:"command"`
	Display       string                  `yaml:"display_name"`
	Command       string                  `yaml:"command"`
	Code          string                  `yaml:"code"`
	Environment   EnvironmentRef          `yaml:"environment"`
	Distribution  *Distribution           `yaml:"distribution"`
	Resources     Resources               `yaml:"resources"`
	Inputs        map[string]ComponentEnd `yaml:"inputs"`
	Outputs       map[string]ComponentEnd `yaml:"outputs"`
	Deterministic *bool                   `yaml:"is_deterministic"`
	Additional    *struct{}               `yaml:"additional_includes" no:"files beside the code folder are not built: put them into it"`
}

// ComponentEnd is what an input or output of a component may be.
type ComponentEnd struct {
	Type        string   `yaml:"type" json:"type"`
	Description string   `yaml:"description" json:"description,omitempty"`
	Mode        string   `yaml:"mode" json:"mode,omitempty"`
	Default     *string  `yaml:"default" json:"default,omitempty"`
	Optional    *bool    `yaml:"optional" json:"optional,omitempty"`
	Min         *string  `yaml:"min" json:"min,omitempty"`
	Max         *string  `yaml:"max" json:"max,omitempty"`
	Enum        []string `yaml:"enum" json:"enum,omitempty"`
}

// ARM makes the document: the schema again, with ids for what it names.
func (s *Component) ARM(r Resolved) map[string]any {
	spec := map[string]any{"name": s.Name, "version": s.Version, "type": "command", "command": s.Command, "is_deterministic": s.Deterministic == nil || *s.Deterministic}
	for key, value := range map[string]string{"display_name": s.Display, "description": s.Description} {
		if value != "" {
			spec[key] = value
		}
	}
	for key, id := range map[string]string{"code": r.Code, "environment": r.Environment} {
		if id != "" {
			spec[key] = "azureml:" + strings.TrimPrefix(id, "azureml:")
		}
	}
	if len(s.Inputs) > 0 {
		spec["inputs"] = s.Inputs
	}
	if len(s.Outputs) > 0 {
		spec["outputs"] = s.Outputs
	}
	if s.Resources.Instances > 0 {
		spec["resources"] = map[string]any{"instance_count": s.Resources.Instances}
	}
	if d := s.Distribution; d != nil {
		spec["distribution"] = d.spec()
	}
	m := s.base()
	m["componentSpec"] = spec
	return m
}
