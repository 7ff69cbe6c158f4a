package armid

import (
	"fmt"
	"strings"
)

// reserved names of computes: SDK v1 gives them a meaning of its own.
var reserved = []string{"amlcompute", "local", "containerinstance"}

// CheckCompute says what is wrong with the name of an AmlCompute cluster; nil:
// nothing. The rule is the service's own, as Terraform keeps it:
// ^[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]$. The tighter rule of the
// documentation (24 characters, a letter after every dash) belongs to compute instances.
func CheckCompute(name string) error {
	for _, r := range reserved {
		if strings.EqualFold(name, r) {
			return fmt.Errorf("the compute name %q is reserved; choose another, for example %q", name, "cpu-cluster")
		}
	}
	ok := len(name) >= 3 && len(name) <= 32 && isLetter(name[0]) && name[len(name)-1] != '-' && only(name, "-")
	if !ok {
		return fmt.Errorf("the compute name %q is not valid: it must have 3 to 32 characters, begin with a letter, hold only letters, digits and dashes, and not end with a dash", name)
	}
	return nil
}

// CheckWorkspace says what is wrong with the name of a workspace:
// ^[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}$ .
func CheckWorkspace(name string) error {
	if len(name) < 3 || len(name) > 33 || !isAlnum(name[0]) || !only(name, "_-") {
		return fmt.Errorf("the workspace name %q is not valid: it must have 3 to 33 characters, begin with a letter or digit, and hold only letters, digits, underscores and dashes", name)
	}
	return nil
}

// CheckGroup says what is wrong with the name of a resource group:
// ^[-\w\._\(\)]+$, 1 to 90 characters, no dot at the end.
func CheckGroup(name string) error {
	if name == "" {
		return errEmpty
	}
	if len(name) > 90 || name[len(name)-1] == '.' || !only(name, "-._()") {
		return fmt.Errorf("the resource group name %q is not valid: it must have 1 to 90 characters, hold only letters, digits and -._(), and not end with a dot", name)
	}
	return nil
}

// CheckJob says what is wrong with the id of a job:
// ^[a-zA-Z0-9][a-zA-Z0-9\-_]{0,254}$ .
func CheckJob(name string) error {
	if name == "" {
		return errEmpty
	}
	if len(name) > 255 || !isAlnum(name[0]) || !only(name, "-_") {
		return fmt.Errorf("the job id %q is not valid: it must have 1 to 255 characters, begin with a letter or digit, and hold only letters, digits, dashes and underscores", name)
	}
	return nil
}

// Region returns the short form of a region's name: "West US 2" is westus2. It
// does not ask whether there is such a region.
func Region(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(name), " ", ""))
}

func only(s, more string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(more, s[i]) < 0 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool  { return isLetter(c) || isDigit(c) }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
