package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/config"
)

// The sample shows every key at its default, so loading it changes nothing.
func TestTheSampleIsTheDefaults(t *testing.T) {
	t.Parallel()
	got, err := config.Load("../../docs/ebb.sample.yaml", "/data")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Data = "/data"
	want.Names, want.Local.Readable, want.Local.InputNetworks, want.LargeClusters = []string{}, []string{}, []string{}, []string{}
	want.Images.Mirrors, want.Images.Registries = map[string]string{}, map[string]config.Registry{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sample loads as\n%+v\nwant the defaults\n%+v", got, want)
	}
	bad := want
	bad.Local.InputNetworks = []string{"10.0.0.0"}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "local.input_networks") {
		t.Errorf("an address for a network: %v", err)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestLoadRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"an unknown key":       {"lisen: 1.2.3.4:5\n", "lisen"},
		"a bad duration":       {"retention:\n  logs: soon\n", "line 2"},
		"not YAML":             {"\t{", "yaml"},
		"an unknown inner key": {"local:\n  gpus: 4\n", "gpus"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "ebb.yaml")
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(file, ""); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Load: %v, want an error that names %q", err, tc.want)
			}
		})
	}
}

func TestValidateSaysWhatWouldWork(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(*config.Config)
		want  string
	}{
		"listen without a port":   {func(c *config.Config) { c.Listen = "localhost" }, "127.0.0.1:8443"},
		"unknown log level":       {func(c *config.Config) { c.LogLevel = "loud" }, "debug, info, warn or error"},
		"unknown gpu policy":      {func(c *config.Config) { c.Local.GPU = "maybe" }, "auto or required"},
		"relative readable":       {func(c *config.Config) { c.Local.Readable = []string{"data"} }, "absolute"},
		"a cluster by its name":   {func(c *config.Config) { c.LargeClusters = []string{"cpu-cluster"} }, "ARM id"},
		"negative bound":          {func(c *config.Config) { c.Retention.EnvironmentsMaxGiB = -1 }, "0 (no bound) or more"},
		"a mirror with a scheme":  {func(c *config.Config) { c.Images.Mirrors = map[string]string{"mcr.microsoft.com": "https://x"} }, "without https://"},
		"a registry by a path":    {func(c *config.Config) { c.Images.Registries = map[string]config.Registry{"x/y": {Token: "t"}} }, "a host"},
		"a registry with nothing": {func(c *config.Config) { c.Images.Registries = map[string]config.Registry{"x": {Username: "u"}} }, "password_file"},
		"relative archives":       {func(c *config.Config) { c.Images.Archives = "images" }, "absolute"},
		"unknown build network":   {func(c *config.Config) { c.Images.BuildNetwork = "bridge" }, "host, none"},
		"no data folder":          {func(c *config.Config) { c.Data = "" }, "folder"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config.Default()
			c.Data = "/data"
			tc.spoil(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Validate() = %v, want %q in it", err, tc.want)
			}
		})
	}
}
