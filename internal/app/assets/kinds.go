package assets

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// kind is what tells one collection from another.
type kind struct {
	noun   string   // for people
	fixed  []string // properties that never change once a version is made
	shared []string // properties that all versions of a name have alike
	needs  []string // properties that a version must have
	texts  []string // properties that are text where they are given
	filled []string // fixed ones that get a value by themselves
}

// rows is the kind of the rows that a collection is kept in.
func (c Collection) rows() row.Kind {
	if c == Environments {
		return row.Environment
	}
	return row.Asset
}

var kinds = map[Collection]kind{
	Codes: {noun: "code asset", fixed: []string{"codeUri", "isAnonymous"}, needs: []string{"codeUri"}, texts: []string{"codeUri"}, filled: []string{"isAnonymous"}},
	Data: {noun: "data asset", fixed: []string{"dataUri", "dataType", "isAnonymous", "referencedUris"}, shared: []string{"dataType"},
		needs: []string{"dataUri", "dataType"}, texts: []string{"dataUri"}, filled: []string{"isAnonymous"}},
	Models: {noun: "model", fixed: []string{"modelUri", "modelType", "isAnonymous", "jobName", "flavors"},
		needs: []string{"modelUri"}, texts: []string{"modelUri", "modelType", "stage", "jobName"}, filled: []string{"isAnonymous", "modelType", "jobName", "flavors"}},
	Environments: {noun: "environment", fixed: []string{"image", "condaFile", "build", "osType", "inferenceConfig", "isAnonymous"},
		texts: []string{"image", "condaFile", "stage"}, filled: []string{"osType", "isAnonymous"}},
	Components: {noun: "component", fixed: []string{"componentSpec", "isAnonymous"}, needs: []string{"componentSpec"}, filled: []string{"isAnonymous"}},
}

// Words that a property may have.
var dataTypes = []string{"uri_file", "uri_folder", "mltable"}

// check refuses properties that an asset cannot have. It fills in what ARM
// always has. name: they are of a name, not of a version.
func (k kind) check(props map[string]any, name bool) error {
	bad := func(at, format string, args ...any) error {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties."+at, format, args...)
	}
	for _, at := range append([]string{"description"}, k.texts...) {
		if v, ok := props[at]; ok && v != nil {
			if _, ok := v.(string); !ok {
				return bad(at, "The property %s must be text.", at)
			}
		}
	}
	for _, at := range []string{"isArchived", "isAnonymous"} {
		v, ok := props[at]
		if _, is := v.(bool); ok && v != nil && !is {
			return bad(at, "The property %s must be true or false.", at)
		}
	}
	for _, at := range []string{"tags", "properties"} {
		if err := checkStrings(props, at); err != nil {
			return err
		}
	}
	if spec, ok := props["componentSpec"]; ok && spec != nil {
		if _, is := spec.(map[string]any); !is {
			return bad("componentSpec", "The property componentSpec must be an object.")
		}
	}
	if !name {
		for _, at := range k.needs {
			if v := props[at]; v == nil || v == "" {
				return bad(at, "The property %s of a %s is missing.", at, k.noun)
			}
		}
	}
	if v, ok := props["dataType"]; ok && slices.Contains(k.shared, "dataType") {
		word, _ := v.(string)
		at := slices.IndexFunc(dataTypes, func(t string) bool { return strings.EqualFold(t, word) })
		if at < 0 {
			return bad("dataType", "The data type %.40v is not one of: %s.", v, strings.Join(dataTypes, ", "))
		}
		props["dataType"] = dataTypes[at]
	}
	if _, ok := props["isArchived"].(bool); !ok {
		props["isArchived"] = false
	}
	return nil
}

// checkStrings refuses a dictionary whose values are not text, and writes
// scalars as text: SDK v2 sends the number 202208 as a code's hash_version.
func checkStrings(props map[string]any, at string) error {
	v, ok := props[at]
	if !ok || v == nil {
		props[at] = map[string]any{}
		return nil
	}
	dict, ok := v.(map[string]any)
	if !ok {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties."+at, "The property %s must be an object with text for values.", at)
	}
	out := make(map[string]any, len(dict))
	for k, v := range dict {
		switch v := v.(type) {
		case string, nil:
			out[k] = v
		case json.Number:
			out[k] = v.String()
		case bool:
			out[k] = map[bool]string{true: "True", false: "False"}[v]
		default:
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties."+at+"."+k, "The value of %s.%.60s must be text.", at, k)
		}
	}
	props[at] = out
	return nil
}

// jsonOf is a value as JSON has it, whatever decoder it came from.
func jsonOf(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return v
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var out any
	if d.Decode(&out) != nil {
		return v
	}
	return out
}

// empty reports whether a value says no more than one that is not there.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

func sameJSON(a, b any) bool { return reflect.DeepEqual(jsonOf(a), jsonOf(b)) }
