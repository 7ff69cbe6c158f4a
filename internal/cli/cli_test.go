package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/internal/cli"
	"github.com/ebb-compute/ebb/internal/cli/azml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var here, _ = os.Getwd() // the package's folder

func TestMain(m *testing.M) {
	if child := os.Getenv("EBB_TEST_CHILD"); child != "" {
		os.Exit(children[child]())
	}
	// A config.json in the clone, as the README leaves one, is not the tests'.
	dir, err := os.MkdirTemp("", "ebb-cli-")
	if err == nil {
		err = os.Chdir(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// Every command's help is a page of documentation: it is read here before it
// is shipped.
func TestHelp(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	root := cli.New(cli.Options{
		Serve:   func(context.Context, cli.ServeFlags) error { return nil },
		Backup:  func(context.Context, cli.BackupFlags) (cli.Backup, error) { return cli.Backup{}, nil },
		Restore: func(context.Context, cli.RestoreFlags) (cli.Restored, error) { return cli.Restored{}, nil },
		Environ: []string{},
	})
	root.SetOut(&b)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if strings.HasPrefix(c.CommandPath(), "ebb ml ") && c.Parent().Name() == "ml" && c.Name() != "computetarget" {
			return // the same as without "ml"
		}
		if c.Name() == "help" || c.HasParent() && c.Parent().Name() == "completion" {
			return // cobra's own
		}
		if c.Short == "" || c.Example == "" && c.Name() != "completion" {
			t.Errorf("%s has no short description, or no example", c.CommandPath())
		}
		if !c.Hidden {
			fmt.Fprintf(&b, "===== %s --help\n", c.CommandPath())
			if err := c.Help(); err != nil {
				t.Error(err)
			}
			b.WriteByte('\n')
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	golden(t, "help.txt", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join(here, "testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look at the change, then go test -update.\ngot:\n%s", path, got)
	}
}

// Exit code, and a part of what is said, for what people do.
func TestCommands(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args     []string
		code     int
		out, err string // each has to be in the stream; "" asks for nothing
	}{
		"a list is a table for people":           {[]string{"compute", "list"}, 0, "NAME         SIZE             TIER       NODES  MIN..MAX  STATE", ""},
		"a cluster is shown line by line":        {[]string{"compute", "show", "cpu-cluster"}, 0, "max_instances", ""},
		"a query picks one value":                {[]string{"compute", "show", "-n", "cpu-cluster", "--query", "size", "-o", "tsv"}, 0, "STANDARD_DS3_V2\n", ""},
		"a query keeps its columns' order":       {[]string{"compute", "list", "--query", "[].{size: size, name: name}", "-o", "tsv"}, 0, "STANDARD_DS3_V2\tcpu-cluster\n", ""},
		"nodes name their job":                   {[]string{"compute", "nodes", "cpu-cluster"}, 0, "tvm-1  running  127.77.0.1  50000  happy_river", ""},
		"a cluster that is not there: which are": {[]string{"compute", "show", "nope"}, 3, "", "no cluster named nope; there are: small, cpu-cluster"},
		"delete tells a slip too":                {[]string{"compute", "delete", "nope", "-y"}, 3, "", "there are: small, cpu-cluster"},
		"delete asks, and nobody is there":       {[]string{"compute", "delete", "small"}, 2, "", "give --yes"},
		"delete waits until it is gone":          {[]string{"compute", "delete", "small", "-y"}, 0, "", "Deleting cluster small"},
		"update needs something to change":       {[]string{"compute", "update", "small"}, 2, "", "nothing to change"},
		"two names are one too many":             {[]string{"compute", "show", "a", "-n", "b"}, 2, "", "two names"},
		"no name at all":                         {[]string{"job", "show"}, 2, "", "which one?"},
		"a wrong flag is of usage":               {[]string{"compute", "list", "--nope"}, 2, "", "unknown flag"},
		"flags before the command":               {[]string{"-o", "tsv", "compute", "update", "small", "--tags", "a=b", "c=d", "--query", "name"}, 0, "small\n", ""},
		"a slip in a flag is told":               {[]string{"job", "list", "--max-result", "3"}, 2, "", "unknown flag: --max-result; did you mean --max-results?"},
		"a number that is none":                  {[]string{"compute", "create", "-n", "x", "--max-instances", "two"}, 2, "", `--max-instances: "two" is not a whole number`},
		"an argument too many":                   {[]string{"compute", "list", "cpu"}, 2, "", `"ebb compute list" takes no argument: what is "cpu"?`},
		"a wrong command is of usage":            {[]string{"clusters"}, 2, "", "has no command"},
		"a wrong output format is of usage":      {[]string{"compute", "list", "-o", "xml"}, 2, "", "table, json, jsonc, yaml"},
		"a wrong query is of usage":              {[]string{"compute", "list", "--query", "[?"}, 2, "", "--query"},
		"jobs are listed":                        {[]string{"job", "list"}, 0, "night-1  Failed   cpu-cluster  Default", ""},
		"a waiting job says why":                 {[]string{"job", "list"}, 0, "python train.py  waits for a node\n", ""},
		"jobs are picked by status":              {[]string{"job", "list", "--status", "running", "--query", "[].name", "-o", "tsv"}, 0, "night-2\n", ""},
		"a failed job shows its error":           {[]string{"job", "show", "night-1", "--query", "error.message", "-o", "tsv"}, 0, "exit code 7", ""},
		"a job that is not there: the latest":    {[]string{"job", "show", "nope"}, 3, "", "the latest are: night-1, night-2"},
		"a job on no such cluster: which are":    {[]string{"job", "create", "--compute", "nope", "--command", "true"}, 3, "", "there are: small, cpu-cluster"},
		"a job without a command":                {[]string{"job", "create", "--compute", "small"}, 2, "", "--command"},
		"a job without a cluster":                {[]string{"job", "create", "--command", "true"}, 2, "", "--compute NAME"},
		"cancel says what is over already":       {[]string{"job", "cancel", "night-1"}, 0, "", "night-1 is over (Failed): there was nothing to cancel."},
		"cancel waits for the end":               {[]string{"job", "cancel", "night-2"}, 0, "", "Cancelling night-2"},
		"sizes":                                  {[]string{"size", "list"}, 0, "STANDARD_NC6     6      56.5       1", ""},
		"usage hides what is not used":           {[]string{"usage"}, 0, "DSv2 vCPUs  16    100    subscription\n", ""},
		"usage says which part is whose":         {[]string{"usage"}, 0, "DSv2 vCPUs  12    none   workspace main\nDSv2 vCPUs  4     none   cluster cpu of main\n", ""},
		"usage shows all when asked":             {[]string{"usage", "--all"}, 0, "NC vCPUs    0     none   subscription\n", ""},
		"prune needs an age or a size":           {[]string{"prune"}, 2, "", "--older-than"},
		"prune takes no unknown kind":            {[]string{"prune", "jobs", "--older-than", "1d"}, 2, "", "no kind"},
		"prune says what would go":               {[]string{"prune", "--older-than", "30d", "--dry-run"}, 0, "logs  3         2.0 KiB  0 B", ""},
		"status shows what is not over":          {[]string{"status"}, 0, "1 jobs waiting or running, 0 completed, 1 failed", ""},
		"version":                                {[]string{"version"}, 0, "ebb 1.2.3", ""},
		"another workspace is asked for":         {[]string{"compute", "list", "-w", "other"}, 3, "", "ERROR: "},
		"the endpoint of identities":             {[]string{"env", "--identity"}, 0, "/msi/token'\n", ""},
		"no secret beside the endpoint's":        {[]string{"env", "--identity"}, 0, "unset AZURE_CLIENT_SECRET\n", ""},
		"a device without its code":              {[]string{"device", "approve"}, 2, "", "which code?"},
		"exec without a command":                 {[]string{"exec"}, 2, "", "what is to be run?"},
		"exec of what is not there":              {[]string{"exec", "--", "no-such-command"}, 127, "", "command not found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t).withCluster("cpu-cluster").withCluster("small").withJob("night-1", "Failed").withJob("night-2", "Running")
			s.jobs["night-2"]["properties"].(map[string]any)["statusReason"] = "waits for a node"
			s.log = "epoch 1\r\nepoch 2\n"
			s.details = map[string]any{"status": "Failed", "error": map[string]any{"error": map[string]any{"code": "UserError", "message": "exit code 7"}}}
			r := s.run(t, c.args...)
			if r.code != c.code || !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.err) {
				t.Errorf("ebb %s: exit %d, want %d\nstdout, with %q in it:\n%s\nstderr, with %q in it:\n%s",
					strings.Join(c.args, " "), r.code, c.code, c.out, r.out, c.err, r.err)
			}
			if c.code == 0 && strings.Contains(r.err, "ERROR") || c.code != 0 && r.out != "" {
				t.Errorf("the wrong stream: stdout %q, stderr %q", r.out, r.err)
			}
		})
	}
}

// What a job's author wrote is not made fit for HTML, at any depth.
func TestValuesArePrintedAsTheyAre(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster").withJob("night-1", "Completed")
	s.jobs["night-1"]["properties"].(map[string]any)["command"] = "a <in >out && b"
	s.jobs["night-1"]["properties"].(map[string]any)["tags"] = map[string]any{"<": "a>b&c"}
	for _, format := range []string{"json", "yaml", "tsv"} {
		r := s.run(t, "job", "show", "night-1", "--query", "{a: command, b: {c: tags.\"<\"}}", "-o", format)
		whole := s.run(t, "job", "show", "night-1", "-o", format)
		if r.code != 0 || !strings.Contains(r.out, "a <in >out && b") || !strings.Contains(whole.out, "a <in >out && b") || strings.Contains(r.out+whole.out, `\u00`) {
			t.Errorf("%s: exit %d\n%s%s%s", format, r.code, r.out, whole.out, r.err)
		}
	}
}

func TestComputeCreate(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(key, []byte("ssh-ed25519 AAAA me\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	yml := filepath.Join(t.TempDir(), "cluster.yml")
	if err := os.WriteFile(yml, []byte(`$schema: https://azuremlschemas.azureedge.net/latest/amlCompute.schema.json
name: from-file
type: amlcompute
size: STANDARD_NC6
idle_time_before_scale_down: 300
tags: {team: vision}
identity:
  type: user_assigned
  user_assigned_identities:
    - resource_id: /subscriptions/x/id1
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string // JSON of the body
	}{
		"a name is enough": {[]string{"-n", "c1"},
			`{"location":"westeurope","properties":{"computeType":"AmlCompute","computeLocation":"westeurope","properties":{"vmSize":"Standard_DS3_v2","vmPriority":"Dedicated","remoteLoginPortPublicAccess":"Disabled","scaleSettings":{"minNodeCount":0,"maxNodeCount":4,"nodeIdleTimeBeforeScaleDown":"PT120S"}}}}`},
		"every flag has its place": {[]string{"-n", "c1", "--size", "STANDARD_D2_V2", "--min-instances", "1", "--max-instances", "2", "--idle-time-before-scale-down", "5m", "--tier", "low_priority",
			"--location", "westus2", "--description", "d", "--tags", "a=b", "--identity-type", "system_assigned", "--vnet-name", "vn", "--subnet", "default",
			"--admin-username", "me", "--ssh-key-value", key, "--ssh-public-access-enabled"},
			`{"location":"westus2","tags":{"a":"b"},"identity":{"type":"SystemAssigned"},"properties":{"computeType":"AmlCompute","computeLocation":"westus2","description":"d","properties":{"vmSize":"STANDARD_D2_V2","vmPriority":"LowPriority",
			"remoteLoginPortPublicAccess":"Enabled","scaleSettings":{"minNodeCount":1,"maxNodeCount":2,"nodeIdleTimeBeforeScaleDown":"PT300S"},
			"subnet":{"id":"/subscriptions/sub/resourceGroups/ebb/providers/Microsoft.Network/virtualNetworks/vn/subnets/default"},
			"userAccountCredentials":{"adminUserName":"me","adminUserSshPublicKey":"ssh-ed25519 AAAA me"}}}}`},
		"a file, and flags over it": {[]string{"-f", yml, "-n", "c1", "--max-instances", "7"},
			`{"location":"westeurope","tags":{"team":"vision"},"identity":{"type":"UserAssigned","userAssignedIdentities":{"/subscriptions/x/id1":{}}},
			"properties":{"computeType":"AmlCompute","computeLocation":"westeurope","properties":{"vmSize":"STANDARD_NC6","vmPriority":"Dedicated","remoteLoginPortPublicAccess":"Disabled","scaleSettings":{"minNodeCount":0,"maxNodeCount":7,"nodeIdleTimeBeforeScaleDown":"PT300S"}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.polls = 2
			r := s.run(t, append([]string{"compute", "create", "-o", "json"}, c.args...)...)
			if r.code != 0 {
				t.Fatalf("exit %d: %s", r.code, r.err)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if got := s.body(t, "PUT "+ws+"/computes/c1"); !reflect.DeepEqual(got, want) {
				t.Errorf("sent %v\nwant %v", got, want)
			}
			var shown map[string]any
			if err := json.Unmarshal([]byte(r.out), &shown); err != nil || shown["type"] != "amlcompute" || shown["provisioning_state"] != "Succeeded" {
				t.Errorf("shown: %v, %s", err, r.out)
			}
			if s.polls >= 0 {
				t.Errorf("did not wait for the operation")
			}
			if note := strings.Contains(r.err, "--min-instances 0"); note != (shown["min_instances"] != 0.0) {
				t.Errorf("the note on cost: %v for min_instances %v", note, shown["min_instances"])
			}
		})
	}
}

func TestComputeCreateRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no name":                        {nil, "needs a name"},
		"a kind that there is not":       {[]string{"-n", "c", "--type", "amlcomputer"}, "--type: \"amlcomputer\" is not allowed; did you mean amlcompute?"},
		"a tier nobody has":              {[]string{"-n", "c", "--tier", "spot"}, "dedicated, low_priority"},
		"both kinds of identity":         {[]string{"-n", "c", "-i", "system_assigned", "--user-assigned-identities", "/subscriptions/x"}, "not both"},
		"half a network":                 {[]string{"-n", "c", "--vnet-name", "vn"}, "both --vnet-name and --subnet"},
		"half an SSH user":               {[]string{"-n", "c", "--admin-username", "me"}, "--ssh-key-value"},
		"a tag without a value":          {[]string{"-n", "c", "--tags", "x"}, "KEY=VALUE"},
		"a misspelt key, with its line":  {[]string{"-f", file("a.yml", "name: c\nmax_instance: 3\n")}, "a.yml:2: max_instance: there is no such field; did you mean max_instances?"},
		"a time that is none":            {[]string{"-n", "c", "--idle-time-before-scale-down", "soon"}, "is no time"},
		"a file that is not there":       {[]string{"-f", dir + "/none.yml"}, "no such file"},
		"a subnet id and a network name": {[]string{"-n", "c", "--vnet-name", "vn", "--subnet", "/subscriptions/x"}, "leave --vnet-name out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			r := s.run(t, append([]string{"compute", "create"}, c.args...)...)
			if r.code != 2 || !strings.Contains(r.err, c.want) || len(s.computes) != 0 {
				t.Errorf("exit %d, %q; want 2 with %q", r.code, r.err, c.want)
			}
		})
	}
}

// As az does, and so that nobody is surprised.
func TestComputeCreateSaysWhatItSetsBack(t *testing.T) {
	t.Parallel()
	yml := filepath.Join(t.TempDir(), "cluster.yml")
	if err := os.WriteFile(yml, []byte("name: cpu-cluster\ntype: amlcompute\nmax_instances: 2\ntags: {team: vision}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	idle := "idle time 300 s → 120 s (default); name --idle-time-before-scale-down to keep it.\n"
	for name, c := range map[string]struct {
		line string
		want []string // notes, in their order
	}{
		"a name alone": {"compute create -n cpu-cluster", []string{"max instances 7 → 4 (default); name --max-instances to keep it.\n", idle, "tags team=vision → none (default); name --tags to keep it.\n"}},
		"all is named": {"compute create -n cpu-cluster --max-instances 4 --idle-time-before-scale-down 2m --tags a=b", nil},
		"what is set":  {"compute create -n cpu-cluster --set max_instances=4 idle_time_before_scale_down=9 tags.a=b", nil},
		"a file's own": {"compute create -f " + yml, []string{idle}},
		"v1's grammar": {"ml computetarget create amlcompute -n cpu-cluster -s STANDARD_DS3_V2 --max-nodes 3 --tags team=vision",
			[]string{"idle time 300 s → 1800 s (default); name --idle-seconds-before-scaledown to keep it.\n"}},
		"a new one": {"compute create -n new", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t).withCluster("cpu-cluster")
			aml := s.computes["cpu-cluster"]["properties"].(map[string]any)["properties"].(map[string]any)
			aml["scaleSettings"] = map[string]any{"minNodeCount": 0, "maxNodeCount": 7, "nodeIdleTimeBeforeScaleDown": "PT300S"}
			r := s.run(t, strings.Fields(c.line)...)
			want := ""
			for _, note := range c.want {
				want += "NOTE: " + note
			}
			if r.code != 0 || !strings.Contains(r.err, want) || strings.Count(r.err, " → ") != len(c.want) {
				t.Errorf("exit %d\n%s\nwant\n%s", r.code, r.err, want)
			}
		})
	}
}

func TestComputeUpdateSendsWhatStaysToo(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster")
	if r := s.run(t, "compute", "update", "cpu-cluster", "--max-instances", "9", "--tags", "owner=me"); r.code != 0 {
		t.Fatal(r.err)
	}
	got := s.body(t, "PATCH "+ws+"/computes/cpu-cluster")
	scale := got["properties"].(map[string]any)["properties"].(map[string]any)["scaleSettings"]
	if want := map[string]any{"minNodeCount": 0.0, "maxNodeCount": 9.0, "nodeIdleTimeBeforeScaleDown": "PT120S"}; !reflect.DeepEqual(scale, want) {
		t.Errorf("scale settings %v, want %v", scale, want)
	}
	if want := map[string]any{"team": nil, "owner": "me"}; !reflect.DeepEqual(got["tags"], want) {
		t.Errorf("tags %v, want %v", got["tags"], want)
	}
}

func TestJobCreate(t *testing.T) {
	t.Parallel()
	yml := filepath.Join(t.TempDir(), "job.yml")
	if err := os.WriteFile(yml, []byte(`$schema: x
type: command
command: echo $SEED
compute: azureml:cpu-cluster
environment: azureml:sklearn:3
environment_variables: {SEED: "7", A: "1"}
experiment_name: digits
limits: {timeout: 3600}
resources: {instance_count: 2}
inputs: {lr: 0.10, deep: yes}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t).withCluster("cpu-cluster")
	r := s.run(t, "job", "create", "-n", "night-1", "-f", yml, "--env", "A=2", "--tags", "t=u", "-o", "json")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	want := map[string]any{"properties": map[string]any{
		"jobType": "Command", "command": "echo $SEED", "computeId": ws + "/computes/cpu-cluster", "environmentId": ws + "/environments/sklearn/versions/3",
		"inputs":         map[string]any{"lr": map[string]any{"jobInputType": "literal", "value": "0.10"}, "deep": map[string]any{"jobInputType": "literal", "value": "yes"}},
		"experimentName": "digits", "environmentVariables": map[string]any{"SEED": "7", "A": "2"}, "tags": map[string]any{"t": "u"},
		"limits": map[string]any{"jobLimitsType": "Command", "timeout": "PT3600S"}, "resources": map[string]any{"instanceCount": 2.0},
	}}
	if got := s.body(t, "PUT "+ws+"/jobs/night-1"); !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v\nwant %v", got, want)
	}
	var shown map[string]any
	if err := json.Unmarshal([]byte(r.out), &shown); err != nil {
		t.Fatal(err)
	}
	if shown["compute"] != "azureml:cpu-cluster" || shown["environment"] != "azureml:sklearn:3" || !reflect.DeepEqual(shown["limits"], map[string]any{"timeout": 3600.0}) {
		t.Errorf("shown: %s", r.out)
	}

	r = s.run(t, "job", "create", "--compute", "cpu-cluster", "--command", "true", "--query", "name", "-o", "tsv")
	if name := strings.TrimSpace(r.out); r.code != 0 || !regexp.MustCompile(`^[a-z]+_[a-z]+_[a-z0-9]{10}$`).MatchString(name) || s.jobs[name] == nil {
		t.Errorf("a made-up name: %+v", r)
	}
}

func TestJobFilesAreTakenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	const whole = "command: x\ncompute: c\n"
	for name, c := range map[string]struct{ yml, want string }{
		"code that is not there":           {whole + "code: ./src\n", "code: there is no "},
		"code from elsewhere":              {whole + "code: git+https://host/x\n", "is not built: clone it first"},
		"data that is not there":           {whole + "inputs: {a: {type: uri_file, path: x}}\n", "inputs.a.path: there is no "},
		"data without a path":              {whole + "inputs: {a: {type: uri_file}}\n", "job.yml:3: inputs.a: data needs a path"},
		"what the schema lacks is named":   {"comand: x\n", "job.yml:1: comand: there is no such field; did you mean command?"},
		"a mode nobody knows":              {whole + "inputs:\n  a: {path: x, mode: romount}\n", `job.yml:4: inputs.a.mode: "romount" is not allowed; did you mean ro_mount?`},
		"other kinds of job":               {"type: sweep\n", "job.yml:1: type: sweeps are not built"},
		"a pipeline that does not say so":  {"jobs: {}\n", "pipelines are not built"},
		"an environment with two sources":  {whole + "environment: {image: x, build: {path: .}}\n", "an image or a build folder, not both"},
		"an environment with none":         {whole + "environment: {name: x}\n", "needs an image"},
		"resources that are no number":     {whole + "resources: {instance_count: two}\n", `resources.instance_count: "two" is not a whole number`},
		"resources that are not built":     {whole + "resources: {max_instance_count: 2}\n", "jobs that grow while they run are not built"},
		"an environment of no such form":   {whole + "environment: https://image/x\n", "azureml:NAME:VERSION"},
		"an environment of a registry":     {whole + "environment: azureml://registries/azureml/environments/x/versions/1\n", "registries are not built"},
		"limits that make no sense":        {"limits: {timeout: soon}\n", "is no time"},
		"a list where a text is expected":  {"command: [a, b]\n", "job.yml:1: command: here is a list; one value is wanted"},
		"a job on this machine":            {"command: x\ncompute: local\n", "without a cluster is not built"},
		"every mistake is told":            {"comand: x\ncompute: [c]\n", "job.yml:2: compute: here is a list"},
		"a service of a kind there is not": {whole + "services: {a: {type: rstudio}}\n", "jupyter_lab"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "job.yml")
			if err := os.WriteFile(path, []byte(c.yml), 0o600); err != nil {
				t.Fatal(err)
			}
			s := newServer(t).withCluster("c")
			if r := s.run(t, "job", "create", "-f", path); r.code != 2 || !strings.Contains(r.err, c.want) || len(s.jobs) != 0 {
				t.Errorf("exit %d, %q; want %q", r.code, r.err, c.want)
			}
		})
	}
}

func TestAFailedJobFailsItsStream(t *testing.T) {
	t.Parallel()
	s := newServer(t).withJob("night-1", "Failed").withJob("night-2", "Canceled")
	s.log = "Traceback\n"
	s.details = map[string]any{"error": map[string]any{"error": map[string]any{"code": "UserError", "message": "exit code 7"}}}
	r := s.run(t, "job", "stream", "night-1")
	if r.code != 1 || r.out != "Traceback\n" || !strings.Contains(r.err, "ERROR: night-1: Failed (UserError): exit code 7") {
		t.Errorf("failed: %+v", r)
	}
	s.details = map[string]any{}
	s.jobs["night-2"]["properties"].(map[string]any)["cancelReason"] = "its cluster was deleted"
	if r = s.run(t, "job", "stream", "night-2"); r.code != 1 || !strings.Contains(r.err, "night-2: Canceled: its cluster was deleted") {
		t.Errorf("cancelled: %+v", r)
	}
}

func TestStreamPrintsTheLogRaw(t *testing.T) {
	t.Parallel()
	s := newServer(t).withJob("night-1", "Completed")
	s.log = "epoch 1\r\x1b[31mepoch 2\n\x00"
	if r := s.run(t, "job", "stream", "night-1"); r.code != 0 || r.out != s.log || r.err != "" {
		t.Errorf("%+v", r)
	}
}

func TestOutputFormats(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster")
	var fromJSON, fromYAML []map[string]any
	r := s.run(t, "compute", "list", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &fromJSON); err != nil {
		t.Fatal(err)
	}
	golden(t, "compute_list.json", r.out)
	r = s.run(t, "compute", "list", "-o", "yaml")
	if err := yaml.Unmarshal([]byte(r.out), &fromYAML); err != nil {
		t.Fatal(err)
	}
	golden(t, "compute_list.yaml", r.out)
	if fromYAML[0]["idle_time_before_scale_down"] != 120 || fromJSON[0]["idle_time_before_scale_down"] != 120.0 {
		t.Errorf("idle time: %v, %v", fromYAML[0], fromJSON[0])
	}
	if r = s.run(t, "compute", "list", "-o", "tsv"); !strings.HasPrefix(r.out, "cpu-cluster\t"+ws+"/computes/cpu-cluster\tamlcompute\twesteurope\tSucceeded\tSTANDARD_DS3_V2\tdedicated\t0\t4\t120\t") {
		t.Errorf("tsv: %q", r.out)
	}
	if r = s.run(t, "compute", "list", "--query", "[?name=='none']", "-o", "json"); r.out != "[]\n" {
		t.Errorf("nothing, as JSON: %q", r.out)
	}
	if r = s.run(t, "compute", "show", "cpu-cluster", "--query", "nope", "-o", "json"); r.out != "" || r.code != 0 {
		t.Errorf("null, as az shows it: %+v", r)
	}
}

func TestNoServerAndNoFileSayTheWayOut(t *testing.T) {
	t.Parallel()
	r := run(t, []string{"EBB_CLIENT=/nowhere/client.json"}, "compute", "list")
	if r.code != 1 || !strings.Contains(r.err, "no client file at /nowhere/client.json") || !strings.Contains(r.err, "EBB_DATA") || !strings.Contains(r.err, "EBB_CLIENT") || !strings.Contains(r.err, "--client") || !strings.Contains(r.err, "ebb serve") {
		t.Errorf("no file: %+v", r)
	}
	s := newServer(t)
	s.Close()
	r = s.run(t, "compute", "list", "--patience", "0s")
	if r.code != 1 || !strings.Contains(r.err, "no answer from "+s.URL) || !strings.Contains(r.err, "Is the server running?") {
		t.Errorf("no server: %+v", r)
	}
}

func TestAnotherServersCertificateIsExplained(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	_, other := certificate(t)
	if err := os.WriteFile(s.caFile, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.run(t, "compute", "list"); r.code != 1 || !strings.Contains(r.err, "not of the CA") || !strings.Contains(r.err, "--client") {
		t.Errorf("%+v", r)
	}
}

func TestWarningsGoToStandardError(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mux.HandleFunc("GET /subscriptions/sub/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/warned/computes", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("x-ebb-warning", "Standard_NC6 is retired")
		reply(w, map[string]any{"value": []any{}})
	})
	r := s.run(t, "compute", "list", "-w", "warned", "-o", "json")
	if r.out != "[]\n" || strings.Count(r.err, "WARNING: Standard_NC6 is retired") != 1 {
		t.Errorf("%+v", r)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster").withCluster("gpu-cluster").withJob("night-1", "Running")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"clusters as argument":     {[]string{"compute", "show", ""}, "cpu-cluster\ngpu-cluster\n:4\n"},
		"clusters by their prefix": {[]string{"compute", "delete", "--name", "g"}, "gpu-cluster\n:4\n"},
		"clusters for a job":       {[]string{"job", "create", "--compute", "c"}, "cpu-cluster\n:4\n"},
		"jobs":                     {[]string{"job", "stream", ""}, "night-1\n:4\n"},
		"sizes":                    {[]string{"compute", "create", "--size", "STANDARD_N"}, "STANDARD_NC6\n:4\n"},
		"one name is enough":       {[]string{"compute", "show", "cpu-cluster", ""}, ":4\n"},
		"formats":                  {[]string{"compute", "list", "-o", ""}, "table\njson\njsonc\nyaml\nyamlc\ntsv\nnone\n:4\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := s.run(t, append([]string{"__complete"}, c.args...)...); r.code != 0 || r.out != c.want {
				t.Errorf("got %q, want %q", r.out, c.want)
			}
		})
	}
	t.Run("without a server there is nothing, and no noise", func(t *testing.T) {
		t.Parallel()
		if r := run(t, []string{"EBB_CLIENT=/nowhere"}, "__complete", "compute", "show", ""); r.out != ":4\n" || strings.Contains(r.err, "ERROR") {
			t.Errorf("%+v", r)
		}
	})
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := s.run(t, "completion", shell); r.code != 0 || !strings.Contains(r.out, "ebb") {
			t.Errorf("completion %s: %d %s", shell, r.code, r.err)
		}
	}
}

func TestConfigWrite(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	dir := t.TempDir()
	path := filepath.Join(dir, ".azureml", "config.json")
	if r := s.run(t, "config", "write", "--path", filepath.Dir(path)); r.code != 0 {
		t.Fatal(r.err)
	}
	b, err := os.ReadFile(path)
	var got map[string]string
	if err != nil || json.Unmarshal(b, &got) != nil || !reflect.DeepEqual(got, map[string]string{"subscription_id": "sub", "resource_group": "ebb", "workspace_name": "main"}) {
		t.Errorf("wrote %s, %v", b, err)
	}
	if r := s.run(t, "config", "write", "--path", path); r.code != 0 {
		t.Errorf("the same again: %s", r.err)
	}
	if r := s.run(t, "config", "write", "--path", path, "-w", "other"); r.code != 1 || !strings.Contains(r.err, "--force") {
		t.Errorf("another workspace: %+v", r)
	}
	if r := s.run(t, "config", "write", "--path", path, "-w", "other", "--force"); r.code != 0 {
		t.Errorf("by force: %+v", r)
	}
}

func TestServeGetsItsFlags(t *testing.T) {
	t.Parallel()
	var got cli.ServeFlags
	var out bytes.Buffer
	code := cli.Run(t.Context(), cli.Options{Stdout: &out, Stderr: &out, Environ: []string{}, Serve: func(_ context.Context, f cli.ServeFlags) error {
		got = f
		return nil
	}}, []string{"serve", "--listen", "127.0.0.1:0", "--data", "/d"})
	if want := (cli.ServeFlags{Listen: "127.0.0.1:0", Data: "/d"}); code != 0 || got != want {
		t.Errorf("exit %d, %+v: %s", code, got, out.String())
	}
}

func TestSecondsAndSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"PT120S": 120, "PT30M": 1800, "P1DT1H": 90000, "PT0S": 0, "PT1H30M": 5400, "pt2m": 120, "PT1.5S": 1} {
		if got, ok := azml.FromISO(text); !ok || got != want {
			t.Errorf("FromISO(%q) = %d, %v; want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "P", "PT", "120", "1H", "PT-1S", "P1Y"} {
		if got, ok := azml.FromISO(text); ok && got != 0 || ok && len(text) > 2 {
			t.Errorf("FromISO(%q) = %d; want refusal", text, got)
		}
	}
	for text, want := range map[string]int64{"500": 500, "10K": 10240, "2GiB": 2 << 30, "1.5M": 3 << 19, "7b": 7} {
		if got, err := cli.BytesOf(text); err != nil || got != want {
			t.Errorf("BytesOf(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1Q", "9999999P"} {
		if got, err := cli.BytesOf(text); err == nil {
			t.Errorf("BytesOf(%q) = %d; want refusal", text, got)
		}
	}
}

// Notes go to standard error, each once; standard output stays as it is.
func TestNotesAreSaidOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("cpu-cluster").withJob("night-1", "Completed")
	s.jobs["night-1"]["properties"].(map[string]any)["properties"] = map[string]any{"ebb.notes": "No GPU here.\nJobs share\x1b a user."}
	s.log = "epoch 1\n"
	const want = "NOTE: No GPU here.\nNOTE: Jobs share  a user.\n"
	if r := s.run(t, "job", "stream", "night-1"); r.code != 0 || r.out != s.log || r.err != want {
		t.Errorf("stream: %+v", r)
	}
	if r := s.run(t, "job", "show", "night-1", "--query", "name", "-o", "tsv"); r.code != 0 || r.out != "night-1\n" || r.err != want {
		t.Errorf("show: %+v", r)
	}
	if r := s.run(t, "compute", "nodes", "cpu-cluster"); r.code != 0 || strings.Contains(r.out, "No GPU") || r.err != "NOTE: tvm-1, tvm-2: No GPU here.\nNOTE: tvm-2: Landlock alone.\n" {
		t.Errorf("nodes: %+v", r)
	}
	if r := s.run(t, "compute", "nodes", "cpu-cluster", "--query", "[1].warnings[1]", "-o", "tsv"); r.code != 0 || r.out != "Landlock alone.\n" || r.err != "" {
		t.Errorf("nodes as JSON: %+v", r)
	}
}
