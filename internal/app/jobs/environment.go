package jobs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/fault"
)

// definition is an environment in SDK v1's words. Keys match in any case: the
// client registers "Docker" and "EnvironmentVariables" but submits "docker".
type definition struct {
	Name                 string
	Version              any // a string, or null
	EnvironmentVariables map[string]any
	Python               *struct {
		UserManagedDependencies bool
		InterpreterPath         string
		CondaDependencies       json.RawMessage
		CondaDependenciesFile   string
		BaseCondaEnvironment    string
	}
	Docker *docker
}

// docker is what of an environment says its image.
type docker struct {
	dockerSection
	BaseImage         string
	BaseDockerfile    string
	BuildContext      *struct{ LocationType, Location, DockerfilePath string }
	BaseImageRegistry *struct{ Address, Username, Password string }
}

// sealedPassword begins the password of a registry as package assets keeps it.
const sealedPassword = "ebb-sealed:"

// image fills in what an environment is made of. Of several ways the first counts, as
// the client has it: it lets but one be set.
func (d *docker) image(env *queue.Environment) error {
	switch {
	case d.BuildContext != nil && d.BuildContext.Location != "":
		env.Build = &queue.Build{URI: d.BuildContext.Location, Path: d.BuildContext.DockerfilePath}
	case strings.TrimSpace(d.BaseDockerfile) != "":
		env.Build = &queue.Build{Dockerfile: d.BaseDockerfile}
	default:
		env.Image = strings.TrimSpace(d.BaseImage)
	}
	r := d.BaseImageRegistry
	if r == nil || r.Address == "" {
		return nil
	}
	address := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(r.Address, "https://"), "http://"), "/")
	if env.Image != "" && !strings.HasPrefix(strings.ToLower(env.Image), strings.ToLower(address)+"/") {
		env.Image = address + "/" + env.Image
	}
	if r.Username == "" && r.Password == "" {
		return nil
	}
	env.Registry = &queue.Registry{Address: r.Address, Username: r.Username}
	if r.Password == "" {
		return nil
	}
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Password, sealedPassword))
	if err != nil || !strings.HasPrefix(r.Password, sealedPassword) {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "environment.docker.baseImageRegistry.password", "The registry's password is not one that this server has kept; give it again.")
	}
	env.Registry.Sealed = sealed
	return nil
}

// IsReference reports whether an environment only names a registered one.
func IsReference(raw json.RawMessage) (name, version string, yes bool) {
	var d definition
	if json.Unmarshal(raw, &d) != nil || d.Name == "" || d.Python != nil || d.Docker != nil {
		return "", "", false
	}
	version, _ = d.Version.(string)
	return d.Name, version, true
}

// ParseEnvironment reads an environment as SDK v1 defines it, and its variables.
func ParseEnvironment(raw json.RawMessage) (queue.Environment, map[string]string, error) {
	var d definition
	if err := json.Unmarshal(raw, &d); err != nil {
		return queue.Environment{}, nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", "environment", "The environment is not valid: %s.", err)
	}
	vars, err := variables(d.EnvironmentVariables)
	if err != nil {
		return queue.Environment{}, nil, err
	}
	env := queue.Environment{Name: d.Name}
	if d.Docker != nil {
		if err := d.Docker.image(&env); err != nil {
			return queue.Environment{}, nil, err
		}
	}
	if d.Python == nil {
		env.UserManaged = true
		return env, vars, nil
	}
	env.UserManaged, env.Interpreter = d.Python.UserManagedDependencies, d.Python.InterpreterPath
	if env.UserManaged {
		return env, vars, nil // what the user manages is not installed: the list is kept in the definition only
	}
	env.Interpreter = ""
	if d.Python.CondaDependenciesFile != "" && len(d.Python.CondaDependencies) == 0 {
		return queue.Environment{}, nil, fault.New(fault.Unsupported, "environment.python.condaDependenciesFile", "The feature \"condaDependenciesFile\" is not built; give the dependencies themselves (condaDependencies).")
	}
	if len(d.Python.CondaDependencies) > 0 && string(d.Python.CondaDependencies) != "null" {
		if err := packages(d.Python.CondaDependencies, &env); err != nil {
			return queue.Environment{}, nil, err
		}
		var file bytes.Buffer
		if err := json.Compact(&file, d.Python.CondaDependencies); err != nil {
			return queue.Environment{}, nil, fmt.Errorf("write the conda dependencies: %w", err)
		}
		env.CondaFile = file.String()
	}
	return env, vars, nil
}

// packages reads a conda environment file's dependencies: strings for conda,
// and one object whose "pip" is a list of requirement lines.
func packages(raw json.RawMessage, env *queue.Environment) error {
	const target = "environment.python.condaDependencies"
	var spec struct{ Dependencies []json.RawMessage }
	if err := json.Unmarshal(raw, &spec); err != nil {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", target, "The conda dependencies are not valid: %s.", err)
	}
	for _, dep := range spec.Dependencies {
		var line string
		if json.Unmarshal(dep, &line) == nil {
			conda(line, env)
			continue
		}
		var nested map[string][]string
		if err := json.Unmarshal(dep, &nested); err != nil {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", target, "A dependency is neither text nor a list of pip requirements: %.100s", dep)
		}
		for tool, lines := range nested {
			if tool != "pip" {
				return fault.Coded(fault.Invalid, "InvalidPropertyValue", target, "Dependencies of %q are not known; only \"pip\" is.", tool)
			}
			env.Pip = append(env.Pip, lines...)
		}
	}
	return nil
}

// conda takes one conda dependency, as "python=3.8.13" or "conda-forge::numpy>=1.21".
func conda(line string, env *queue.Environment) {
	if _, after, ok := strings.Cut(line, "::"); ok {
		line = after
	}
	line = strings.TrimSpace(line)
	end := strings.IndexAny(line, "=<>!~ [")
	name, rest := line, ""
	if end >= 0 {
		name, rest = line[:end], line[end:]
	}
	switch strings.ToLower(name) {
	case "", "pip":
	case "python":
		env.Python = version(rest)
	default:
		env.Conda = append(env.Conda, line)
	}
}

// version returns the first version that a constraint names, as "3.8" of
// "=3.8.*" or ">=3.8,<3.11"; one that only says what it must not be names none.
func version(constraint string) string {
	c := strings.TrimLeft(constraint, " ")
	if strings.HasPrefix(c, "<") || strings.HasPrefix(c, "!") {
		return ""
	}
	c = strings.TrimLeft(c, "=>~ ")
	if i := strings.IndexFunc(c, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		c = c[:i]
	}
	return strings.Trim(c, ".")
}

// variables turns JSON values into environment variables.
func variables(in map[string]any) (map[string]string, error) {
	out := make(map[string]string, len(in))
	for k, v := range in {
		text, err := text(v)
		if err != nil {
			return nil, fault.Coded(fault.Invalid, "InvalidPropertyValue", "environmentVariables", "The environment variable %.60q is neither text nor a number.", k)
		}
		out[k] = text
	}
	return out, nil
}

// text writes a JSON scalar as Python's str does, which is what the client's
// own code would have made of it.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case float64:
		n, err := json.Marshal(v)
		return string(n), err
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case nil:
		return "", nil
	}
	return "", fmt.Errorf("a value is an object or a list")
}
