package assets_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/assets"
)

const conda = "name: e\nchannels: [conda-forge]\ndependencies:\n- python=3.11\n- pip:\n  - numpy==2.0\n"

func TestEnvironmentsByARMAreSDKv1sToo(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	ticking(s)
	put := func(name, version string, props dict) assets.Asset {
		t.Helper()
		a, _, err := s.PutVersion(t.Context(), me, place, assets.Environments, name, version, props)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	put("train", "1", dict{"image": "python:3.11", "condaFile": conda, "tags": dict{"a": "b"}})
	v1, err := s.Environment(t.Context(), place, "train", "")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(v1)
	for _, want := range []string{`"baseImage":"python:3.11"`, `"userManagedDependencies":false`, `{"pip":["numpy==2.0"]}`, `"name":"train"`, `"version":"1"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("SDK v1 does not see %s in %s", want, text)
		}
	}
	if strings.Contains(string(text), "arm") {
		t.Errorf("SDK v1 sees what is ARM's: %s", text)
	}
	// The other way round: what SDK v1 registers is the next version by ARM.
	env, err := s.Register(t.Context(), me, place, "train", "", dict{"python": dict{"condaDependencies": dict{"dependencies": []any{"pip"}}}, "docker": dict{"baseImage": "ubuntu"}})
	if err != nil || env["version"] != "2" {
		t.Fatalf("Register: %v, %v", env, err)
	}
	newest, err := s.Find(t.Context(), place, assets.Environments, "azureml:train@latest")
	if err != nil || newest.Version != "2" || newest.Properties["image"] != "ubuntu" || newest.Properties["condaFile"] != "dependencies:\n    - pip\n" {
		t.Errorf("the newest by ARM: %+v, %v", newest, err)
	}
	// Putting it away leaves SDK v1's definition as it is.
	props := dict{"isArchived": true}
	for k, v := range newest.Properties {
		if k != "isArchived" {
			props[k] = v
		}
	}
	put("train", "2", props)
	if after, err := s.Environment(t.Context(), place, "train", "2"); err != nil || !strings.Contains(mustJSON(after), `"baseImage":"ubuntu"`) {
		t.Errorf("after archiving: %v, %v", after, err)
	}
	if newest, err := s.Find(t.Context(), place, assets.Environments, "train@latest"); err != nil || newest.Version != "1" {
		t.Errorf("the newest that is not archived: %+v, %v", newest, err)
	}
	put("train", "9", dict{"build": dict{"contextUri": "https://x/y/", "dockerfilePath": "Dockerfile"}})
	if env, err := s.Register(t.Context(), me, place, "train", "", dict{"docker": dict{"baseImage": "another"}}); err != nil || env["version"] != "10" {
		t.Errorf("the number after 9: %v, %v", env, err)
	}
}

func mustJSON(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

func TestEnvironmentsOnTheWayAreNotListed(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	ticking(s)
	if _, _, err := s.PutVersion(t.Context(), me, place, assets.Environments, "CliV2AnonymousEnvironment", "abc", dict{"image": "x", "isAnonymous": true}); err != nil {
		t.Fatal(err)
	}
	inline := dict{"python": dict{"userManagedDependencies": true}}
	version, err := s.VersionOf(t.Context(), place, "inline", "", inline)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Autosave(t.Context(), me, place, "inline", version, inline); err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.Names(t.Context(), place, assets.Environments, assets.Filter{}); err != nil || len(list) != 0 {
		t.Errorf("by ARM: %+v, %v", list, err)
	}
	if list, _, err := s.VersionsOf(t.Context(), place, assets.Environments, "inline", assets.Filter{}); err != nil || len(list) != 0 {
		t.Errorf("versions by ARM: %+v, %v", list, err)
	}
	if a, err := s.Get(t.Context(), place, assets.Environments, "inline", version); err != nil || a.Properties["isAnonymous"] != true {
		t.Errorf("by its version: %+v, %v", a, err)
	}
	if list, _, err := s.Environments(t.Context(), place, ""); err != nil || len(list) != 1 || list[0]["name"] != "inline" {
		t.Errorf("by SDK v1: %v, %v", list, err)
	}
}

func TestPutEnvironmentRefuses(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	ticking(s)
	if _, _, err := s.PutVersion(t.Context(), me, place, assets.Environments, "e", "1", dict{"image": "a", "condaFile": conda}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		version string
		props   dict
		says    string
	}{
		"neither image nor build":          {"2", dict{"condaFile": conda}, "image"},
		"a build of nothing":               {"2", dict{"build": dict{}}, "contextUri"},
		"Windows":                          {"2", dict{"image": "a", "osType": "Windows"}, "Windows"},
		"a conda file that is no YAML":     {"2", dict{"image": "a", "condaFile": "a: [b"}, "YAML"},
		"a conda file that is a list":      {"2", dict{"image": "a", "condaFile": "- a"}, "YAML"},
		"dependencies that are text":       {"2", dict{"image": "a", "condaFile": "dependencies: numpy"}, "list"},
		"keys that are numbers":            {"2", dict{"image": "a", "condaFile": "a: {1: 2}"}, "JSON"},
		"another image, same version":      {"1", dict{"image": "b", "condaFile": conda}, "image"},
		"another conda file, same version": {"1", dict{"image": "a", "condaFile": conda + "- x"}, "condaFile"},
	} {
		if _, _, err := s.PutVersion(t.Context(), me, place, assets.Environments, "e", c.version, c.props); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
