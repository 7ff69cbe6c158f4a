package pyenv

import (
	"regexp"
	"strings"
)

// own are conda packages that every environment has anyway, or that conda itself
// needs: they are not installed, whatever version is named.
var own = map[string]bool{"python": true, "pip": true, "setuptools": true, "wheel": true, "conda": true, "ca-certificates": true}

var condaSpec = regexp.MustCompile(`^(?:[^:\s]+::)?([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*(.*)$`)

// FromConda turns a conda package into a requirement for pip, under the same name;
// false: it needs none. Conda's "=1.21" is any 1.21, its "==1.21" that one.
func FromConda(spec string) (string, bool) {
	m := condaSpec.FindStringSubmatch(strings.TrimSpace(spec))
	if m == nil {
		return strings.TrimSpace(spec), spec != "" // pip will name it
	}
	name, version := m[1], strings.TrimSpace(m[3])
	if own[strings.ToLower(name)] {
		return "", false
	}
	var parts []string
	for part := range strings.SplitSeq(version, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, operator(part))
		}
	}
	return name + strings.Join(parts, ","), true
}

func operator(v string) string {
	switch {
	case strings.HasPrefix(v, ">"), strings.HasPrefix(v, "<"), strings.HasPrefix(v, "!"), strings.HasPrefix(v, "~"):
		return strings.ReplaceAll(v, " ", "")
	case strings.HasPrefix(v, "=="):
		version, _, _ := strings.Cut(strings.TrimSpace(v[2:]), "=") // a build follows
		return "==" + version
	}
	v = strings.TrimSpace(strings.TrimPrefix(v, "="))
	version, build, _ := strings.Cut(v, "=")
	if f := strings.Fields(version); len(f) > 1 {
		version, build = f[0], f[1]
	}
	switch {
	case version == "*":
		return ""
	case build != "":
		return "==" + version
	case strings.HasSuffix(version, ".*"):
		return "==" + version
	}
	return "==" + strings.TrimSuffix(version, "*") + ".*"
}
