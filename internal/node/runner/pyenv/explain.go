package pyenv

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/queue"
)

// What pip says when a requirement is at fault; the first group is the requirement.
var complaints = []struct {
	line *regexp.Regexp
	why  string // for fmt, with the requirement
	// version: another Python may have it.
	version bool
}{
	{regexp.MustCompile(`(?m)^ERROR: No matching distribution found for (.+)$`), "pip found no package for %s that this Python can use.", true},
	{regexp.MustCompile(`(?m)^ERROR: Could not find a version that satisfies the requirement (.+?)(?: \(from .*)?$`), "pip found no package for %s that this Python can use.", true},
	{regexp.MustCompile(`(?m)^ERROR: Invalid requirement: '?(.+?)'?(?:: .*)?$`), "%s is not a requirement that pip understands.", false},
	{regexp.MustCompile(`(?m)^ERROR: (Cannot install .+) because these package versions have conflicting dependencies`), "The requirements contradict each other: %s.", false},
	{regexp.MustCompile(`(?m)^ERROR: Failed building wheel for (\S+)`), "%s could not be built.", true},
	{regexp.MustCompile(`(?m)^ERROR: Could not build wheels for (.+?),`), "%s could not be built.", true},
	{regexp.MustCompile(`(?m)^ERROR: Failed to build .*?'?([A-Za-z0-9._-]+)'? when`), "%s could not be built.", true},
	{regexp.MustCompile(`(?m)^ERROR: Could not open requirements file: .*'(.+)'`), "The requirements file %s is not there: only what is in the environment itself can be named.", false},
}

// Explain finds in a build's log which requirement was at fault, and says so in
// a sentence that ends in a space; empty if pip does not name one. py is the Python
// that was used: where another was asked for, that is the likely reason for a
// package that is not to be had.
func Explain(log string, e queue.Environment, py Python) string {
	for _, c := range complaints {
		m := c.line.FindStringSubmatch(log)
		if m == nil {
			continue
		}
		named := strings.TrimSpace(m[1])
		why := fmt.Sprintf(c.why, named)
		if e.Python != "" && !Matches(py.Version, e.Python) && c.version {
			return fmt.Sprintf("%s Python %s was asked for, and the nearest that this machine has is %s (%s): "+
				"many versions of packages are made for some versions of Python alone. Install Python %s for all users, as below /opt or /usr/local, or raise the versions. ",
				why, clean(e.Python), py.Version, py.Path, clean(e.Python))
		}
		for _, spec := range e.Conda {
			if r, ok := FromConda(spec); ok && strings.EqualFold(packageName(r), packageName(named)) {
				return fmt.Sprintf("The conda package %s is installed with pip under the same name, and that failed: %s "+
					"If it has another name on PyPI, list it under pip by that. ", spec, why)
			}
		}
		return why + " "
	}
	return ""
}

var nameOnly = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*`)

// packageName is the name in a requirement, with pip's equal characters made one.
func packageName(requirement string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(nameOnly.FindString(requirement))
}
