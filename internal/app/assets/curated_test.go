package assets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

func curated(t *testing.T, file string) *assets.Service {
	t.Helper()
	s, _, _ := service()
	ticking(s)
	var err error
	if s.Curated, err = assets.ReadCurated(file); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCuratedEnvironmentsAreInEveryWorkspace(t *testing.T) {
	t.Parallel()
	s := curated(t, "")
	const name = "AzureML-sklearn-1.0-ubuntu20.04-py38-cpu"
	for _, version := range []string{"", "1", "17"} {
		env, err := s.Environment(t.Context(), place, strings.ToLower(name), version)
		if err != nil || env["name"] != name || env["version"] != "1" || !strings.Contains(env["docker"].(dict)["baseImage"].(string), "azureml/openmpi") {
			t.Errorf("version %q: %v, %v", version, env, err)
		}
	}
	if a, err := s.Find(t.Context(), place, assets.Environments, "azureml:"+name+"@latest"); err != nil || a.Version != "1" || !strings.Contains(a.Properties["condaFile"].(string), "scikit-learn==1.0") {
		t.Errorf("by its label: %+v, %v", a, err)
	}
	if a, err := s.Get(t.Context(), place, assets.Environments, name, "3"); err != nil || a.Version != "1" {
		t.Errorf("by a version: %+v, %v", a, err)
	}
	for _, id := range []string{"azureml://registries/azureml/environments/sklearn-1.5/labels/latest", "azureml://registries/azureml/environments/AzureML-sklearn-1.5/versions/9", "azureml://registries/azureml/environments/sklearn-1.5@latest"} {
		if env, err := s.InRegistry(id); err != nil || env["name"] != "AzureML-sklearn-1.5" {
			t.Errorf("%s: %v, %v", id, env, err)
		}
	}
	_, err := s.Environment(t.Context(), place, "AzureML-sklearn-1.6", "")
	if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "the nearest first: AzureML-sklearn-1.5, ") {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := s.InRegistry("azureml://registries/azureml/environments/nothing/versions/1"); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "images: curated:") {
		t.Errorf("one that Azure's registry has and this table not: %v", err)
	}
	mine, err := s.Register(t.Context(), me, place, name, "", dict{"docker": dict{"baseImage": "mine"}})
	if err != nil || mine["version"] != "1" {
		t.Fatalf("Register: %v, %v", mine, err)
	}
	if env, err := s.Environment(t.Context(), place, name, ""); err != nil || env["docker"].(dict)["baseImage"] != "mine" {
		t.Errorf("a workspace's own of the name: %v, %v; want it before the table's", env, err)
	}
}

func TestTheTableOfCuratedEnvironmentsIsEditable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "curated.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("AzureML-sklearn-1.5:\n  image: r.example.com/sk:2\nAzureML-ours:\n  dockerfile: |\n    FROM x\n    RUN y\n")
	s := curated(t, file)
	if env, err := s.Environment(t.Context(), place, "AzureML-sklearn-1.5", ""); err != nil || env["docker"].(dict)["baseImage"] != "r.example.com/sk:2" || env["python"].(dict)["userManagedDependencies"] != true {
		t.Errorf("the file's entry: %v, %v", env, err)
	}
	if env, err := s.Environment(t.Context(), place, "azureml-OURS", ""); err != nil || env["docker"].(dict)["baseDockerfile"] != "FROM x\nRUN y\n" {
		t.Errorf("a Dockerfile of the file's: %v, %v", env, err)
	}
	for text, words := range map[string]string{
		"AzureML-x:\n  imagine: y\n":                   "imagine",
		"AzureML-x:\n  description: nothing\n":         "give an image or a dockerfile",
		"AzureML/x:\n  image: y\n":                     "not valid",
		"AzureML-x:\n  image: y\n  dockerfile: FROM\n": "give an image or a dockerfile",
	} {
		write(text)
		if _, err := assets.ReadCurated(file); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", text, err, words)
		}
	}
	if _, err := assets.ReadCurated(file + ".gone"); err == nil || !strings.Contains(err.Error(), "images: curated") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A password of a registry is nowhere in clear, and who sends back what was read
// changes nothing.
func TestPasswordsOfRegistriesAreSealed(t *testing.T) {
	t.Parallel()
	s, store, _ := service()
	ticking(s)
	define := func(password any) dict {
		return dict{"Docker": dict{"baseImage": "x", "BaseImageRegistry": dict{"address": "r.example.com", "username": "u", "password": password}}}
	}
	first, err := s.Register(t.Context(), me, place, "env", "", define("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	shown := first["docker"].(dict)["BaseImageRegistry"].(dict)["password"].(string)
	if !strings.HasPrefix(shown, assets.SealedPassword) {
		t.Errorf("the password is shown as %q", shown)
	}
	for _, step := range []struct {
		password any
		version  string
	}{{"hunter2", "1"}, {shown, "1"}, {"hunter3", "2"}, {"hunter2", "3"}} {
		if env, err := s.Register(t.Context(), me, place, "env", "", define(step.password)); err != nil || env["version"] != step.version {
			t.Errorf("registered with %v: version %v, %v; want %s", step.password, env["version"], err, step.version)
		}
	}
	run := define("hunter2")
	version, err := s.VersionOf(t.Context(), place, "other", "", run)
	if err != nil || version == "" {
		t.Fatal(version, err)
	}
	if again, err := s.VersionOf(t.Context(), place, "other", "", define("hunter2")); err != nil || again != version {
		t.Errorf("the same definition is version %s and %s, %v", version, again, err)
	}
	if err := s.Autosave(t.Context(), me, place, "other", version, run); err != nil {
		t.Fatal(err)
	}
	rows := store.Rows(row.Environment)
	for _, r := range rows {
		if text := string(r.(row.Document).Body); strings.Contains(text, "hunter") {
			t.Errorf("a row has the password: %s", text)
		}
	}
	if len(rows) < 6 { // three versions, one that was saved by the way, and two names
		t.Errorf("there are %d rows of environments", len(rows))
	}
}
