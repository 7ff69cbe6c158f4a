package cli

import (
	"strings"

	"github.com/ebb-compute/ebb/client"
)

// versionShape is a version of an asset as az ml prints it.
func versionShape(k *assetKind, got client.Asset, name string) object {
	if name == "" {
		name = nameIn(got.ID)
	}
	p := got.Properties
	id := "azureml:" + got.ID
	if k == &dataKind {
		id = got.ID // az is not of one mind here
	}
	o := object{{"name", name}, {"version", got.Name}, {"id", id}}
	o.add("description", p["description"])
	k.shape(got, &o)
	for _, key := range []string{"tags", "properties"} {
		if m, ok := p[key].(map[string]any); ok && len(m) > 0 {
			o.add(key, ordered(m, nil))
		}
	}
	if hidden, _ := p["isArchived"].(bool); hidden {
		o = append(o, field{"archived", true})
	}
	o.add("creation_context", contextShape(got.System))
	return o
}

// nameIn is the name in the id of a version.
func nameIn(id string) string {
	parts := strings.Split(id, "/")
	if n := len(parts); n >= 3 {
		return parts[n-3]
	}
	return ""
}

// containerShape is a name with its newest version.
func containerShape(got client.Asset) object {
	o := object{{"name", got.Name}, {"latest_version", got.Properties["latestVersion"]}}
	o.add("description", got.Properties["description"])
	o.add("creation_context", contextShape(got.System))
	return o
}

func contextShape(s *client.SystemData) object {
	if s == nil {
		return nil
	}
	o := object{{"created_at", s.CreatedAt}, {"created_by", s.CreatedBy}, {"created_by_type", s.CreatedByType}}
	o.add("last_modified_at", s.ModifiedAt)
	o.add("last_modified_by", s.ModifiedBy)
	o.add("last_modified_by_type", s.ModifiedByType)
	return o
}

var (
	madeColumns = []column{{"CREATED", func(o object) string {
		made, _ := o.get("creation_context").(object)
		return ago(plainCell(made.get("created_at")))
	}}}
	versionColumns   = []column{col("NAME", "name"), col("VERSION", "version")}
	containerColumns = append([]column{col("NAME", "name"), col("LATEST VERSION", "latest_version"), col("DESCRIPTION", "description")}, madeColumns...)
)

func lower(v any) any {
	if text, ok := v.(string); ok {
		return strings.ToLower(text)
	}
	return v
}
