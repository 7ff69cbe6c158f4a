package cli

import (
	"context"
	"strings"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/azml"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

var environmentKind = assetKind{
	word: "environment", plural: "environments", about: "environments: what jobs run in",
	fields: map[string]string{"image": "image", "conda-file": "conda_file", "build-context": "build.path", "dockerfile-path": "build.dockerfile_path", "os-type": "os_type", "datastore": "datastore"},
	flags: func(f *pflag.FlagSet) {
		f.StringP("image", "i", "", "container image")
		f.StringP("conda-file", "c", "", "conda `file`, for an image")
		f.StringP("build-context", "b", "", "`folder` with a Dockerfile")
		f.StringP("dockerfile-path", "d", "", "the Dockerfile, below the folder (default Dockerfile)")
		f.String("os-type", "", "linux or windows")
		f.String("datastore", "", "datastore that the folder goes to")
	},
	example: "ebb environment create --name sklearn --image python:3.11 --conda-file conda.yml",
	columns: []column{col("IMAGE", "image")},
	make: func(a *app, ctx context.Context, c *client.Client, doc *yamlspec.Doc) (assetMade, error) {
		e := azml.Environment{Asset: azml.Asset{Dir: doc.Dir}}
		if err := readAsset(doc, &e, &e.Asset); err != nil {
			return assetMade{}, err
		}
		properties, err := a.environmentDocument(ctx, c, &e)
		return assetMade{name: e.Name, version: e.Version, properties: properties}, err
	},
	shape: func(got client.Asset, o *object) {
		p := got.Properties
		o.add("image", p["image"])
		if text, ok := p["condaFile"].(string); ok {
			var doc any
			if yaml.Unmarshal([]byte(text), &doc) != nil {
				doc = text
			}
			o.add("conda_file", ordered(doc, nil))
		}
		if build, ok := p["build"].(map[string]any); ok {
			o.add("build", object{{"path", build["contextUri"]}, {"dockerfile_path", build["dockerfilePath"]}})
		}
		o.add("os_type", lower(p["osType"]))
	},
}

var dataKind = assetKind{
	word: "data", plural: "data", about: "data assets",
	fields: map[string]string{"type": "type", "path": "path", "datastore": "datastore"},
	flags: func(f *pflag.FlagSet) {
		f.StringP("type", "t", "", "uri_folder (the default), uri_file or mltable")
		f.StringP("path", "p", "", "file or folder of this machine, or a URI as azureml://datastores/…")
		f.String("datastore", "", "datastore that local files go to (default workspaceblobstore)")
		f.Bool("skip-validation", false, "as az has it; nothing is looked into")
	},
	example: "ebb data create --name digits --path ./digits --type uri_folder",
	columns: []column{col("TYPE", "type"), col("PATH", "path")},
	files:   "dataUri",
	make: func(a *app, ctx context.Context, c *client.Client, doc *yamlspec.Doc) (assetMade, error) {
		d := azml.Data{Asset: azml.Asset{Dir: doc.Dir}, Type: "uri_folder"}
		err := readAsset(doc, &d, &d.Asset)
		if err == nil && d.Path == "" {
			err = usagef("data needs a path: --path")
		}
		if err != nil {
			return assetMade{}, err
		}
		if azml.IsLocal(d.Path) {
			if d.Path, err = a.sendData(ctx, c, azml.Abs(d.Dir, d.Path), d.Datastore, d.Type, "path"); err != nil {
				return assetMade{}, err
			}
		}
		return assetMade{name: d.Name, version: d.Version, properties: d.ARM(d.Path)}, nil
	},
	shape: func(got client.Asset, o *object) {
		o.add("type", got.Properties["dataType"])
		o.add("path", got.Properties["dataUri"])
	},
}

var modelKind = assetKind{
	word: "model", plural: "models", about: "models",
	fields: map[string]string{"type": "type", "path": "path", "datastore": "datastore", "stage": "stage"},
	flags: func(f *pflag.FlagSet) {
		f.StringP("type", "t", "", "custom_model (the default), mlflow_model or triton_model")
		f.StringP("path", "p", "", "file or folder of this machine, or a URI as azureml://jobs/JOB/outputs/NAME")
		f.StringP("stage", "s", "", "stage of the model, as Production")
		f.String("datastore", "", "datastore that local files go to (default workspaceblobstore)")
	},
	example: "ebb model create --name digits --path ./model.pkl --type custom_model",
	columns: []column{col("TYPE", "type"), col("STAGE", "stage"), col("PATH", "path")},
	files:   "modelUri",
	make: func(a *app, ctx context.Context, c *client.Client, doc *yamlspec.Doc) (assetMade, error) {
		d := azml.Model{Asset: azml.Asset{Dir: doc.Dir}, Type: "custom_model"}
		err := readAsset(doc, &d, &d.Asset)
		if err == nil && d.Path == "" {
			err = usagef("a model needs a path: --path")
		}
		if err != nil {
			return assetMade{}, err
		}
		if azml.IsLocal(d.Path) {
			if d.Path, err = a.sendData(ctx, c, azml.Abs(d.Dir, d.Path), d.Datastore, "", "path"); err != nil {
				return assetMade{}, err
			}
		}
		return assetMade{name: d.Name, version: d.Version, properties: d.ARM(d.Path)}, nil
	},
	shape: func(got client.Asset, o *object) {
		p := got.Properties
		o.add("type", p["modelType"])
		o.add("path", p["modelUri"])
		o.add("stage", p["stage"])
		o.add("job_name", p["jobName"])
		if flavors, ok := p["flavors"].(map[string]any); ok && len(flavors) > 0 {
			out := object{}
			for _, name := range sortedKeys(flavors) {
				flavor, _ := flavors[name].(map[string]any)
				out = append(out, field{name, ordered(flavor["data"], nil)})
			}
			o.add("flavors", out)
		}
	},
}

var componentKind = assetKind{
	word: "component", plural: "components", about: "command components",
	fields:  map[string]string{"display-name": "display_name"},
	flags:   func(f *pflag.FlagSet) { f.String("display-name", "", "name to show") },
	example: "ebb component create --file train.yml",
	columns: []column{col("TYPE", "type"), col("DISPLAY NAME", "display_name")},
	make: func(a *app, ctx context.Context, c *client.Client, doc *yamlspec.Doc) (assetMade, error) {
		if kind := doc.Top("type"); kind != "" && kind != "command" {
			return assetMade{}, usageError{doc.Errorf("type", "components of the type %s are not built; command components are", kind)}
		}
		s := azml.Component{Asset: azml.Asset{Dir: doc.Dir}, Type: "command"}
		err := readAsset(doc, &s, &s.Asset)
		if err == nil && s.Command == "" {
			err = usagef("a component needs a command")
		}
		if err != nil {
			return assetMade{}, err
		}
		var r azml.Resolved
		if r.Environment, err = a.environmentOf(ctx, c, s.Environment, s.Dir); err != nil {
			return assetMade{}, err
		}
		if r.Code, err = a.codeOf(ctx, c, s.Code, s.Dir); err != nil {
			return assetMade{}, err
		}
		return assetMade{name: s.Name, version: s.Version, properties: s.ARM(r)}, nil
	},
	shape: func(got client.Asset, o *object) {
		spec, _ := got.Properties["componentSpec"].(map[string]any)
		for _, key := range []string{"display_name", "type", "command", "code", "environment", "is_deterministic"} {
			o.add(key, spec[key])
		}
		for _, key := range []string{"inputs", "outputs", "resources", "distribution"} {
			if value, ok := ordered(spec[key], nil).(object); ok {
				o.add(key, value)
			}
		}
	},
}

var codeKind = assetKind{
	word: "code", plural: "codes", about: "code that jobs run", fileless: true,
	fields:  map[string]string{"path": "path"},
	flags:   func(f *pflag.FlagSet) { f.StringP("path", "p", "", "`folder` of this machine") },
	example: "ebb code create --name train --path ./src",
	columns: []column{col("PATH", "path")},
	make: func(a *app, ctx context.Context, c *client.Client, doc *yamlspec.Doc) (assetMade, error) {
		var s struct {
			azml.Asset
			Path string `yaml:"path"`
		}
		err := readAsset(doc, &s, &s.Asset)
		if err == nil && s.Path == "" {
			err = usagef("code needs a folder: --path")
		}
		if err != nil {
			return assetMade{}, err
		}
		folder, err := readFolder("path", azml.Abs(doc.Dir, s.Path))
		if err != nil {
			return assetMade{}, err
		}
		if s.Version == "" {
			if s.Version, err = nextVersion(ctx, c, "codes", s.Name); err != nil {
				return assetMade{}, err
			}
		}
		got, err := a.sendCode(ctx, c, folder, s.Name, s.Version, false)
		return assetMade{name: s.Name, version: s.Version, done: &got}, err
	},
	shape: func(got client.Asset, o *object) { o.add("path", got.Properties["codeUri"]) },
}

// readAsset reads a document that has to have a name.
func readAsset(doc *yamlspec.Doc, into any, base *azml.Asset) error {
	if err := doc.Decode(into); err != nil {
		return usageError{err}
	}
	if base.Name == "" {
		return usagef("it needs a name: --name NAME, or name: in the file")
	}
	return nil
}

func assetName(got client.Asset) string { return got.Name }

// assetNames completes names of a kind.
func assetNames(plural string) namer {
	return func(ctx context.Context, c *client.Client) ([]string, error) {
		return namesOf(c.Assets(plural).All(ctx, client.Active), 100, assetName)
	}
}

// assetRefs completes names as YAML refers to them.
func assetRefs(plural string) namer {
	return func(ctx context.Context, c *client.Client) ([]string, error) {
		names, err := assetNames(plural)(ctx, c)
		for i, name := range names {
			names[i] = "azureml:" + name + "@latest"
		}
		return names, err
	}
}

func article(word string) string {
	switch {
	case word == "data":
		return "a data asset"
	case word == "code":
		return word
	case strings.ContainsRune("aeiou", rune(word[0])):
		return "an " + word
	}
	return "a " + word
}
