package jobs

import (
	"strings"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/fault"
)

// The service's documented limits ("Service limits in Azure Machine Learning");
// lengths are in characters.
const (
	maxTags        = 50
	maxProperties  = 50
	maxKey         = 100
	maxValue       = 1000
	maxDisplay     = 256
	maxDescription = 5000
)

// Ours: what the kernel takes as one argument is 128 KiB.
const (
	maxCommand   = 100_000   // bytes
	maxVariables = 1_000_000 // bytes, names and values together
	maxFilter    = 16 << 10  // bytes
)

func checkMap(what string, m map[string]string, most int) error {
	users := 0
	for k := range m {
		if !strings.HasPrefix(k, ours) {
			users++
		}
	}
	if users > most || len(m) > 4*most {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", what, "%d %s are too many: a run may have %d.", len(m), what, most)
	}
	for k, v := range m {
		if k == "" {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", what, "The name of one of the %s is empty.", what)
		}
		if n := utf8.RuneCountInString(k); n > maxKey {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", what, "The name %.40q... has %d characters; at most %d are allowed.", k, n, maxKey)
		}
		longest := maxValue
		if strings.HasPrefix(k, ours) {
			longest = maxOwnTag
		}
		if n := utf8.RuneCountInString(v); n > longest {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", what, "The value of %q has %d characters; at most %d are allowed.", k, n, longest)
		}
	}
	return nil
}

func checkText(displayName, description string) error {
	if n := utf8.RuneCountInString(displayName); n > maxDisplay {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "displayName", "The display name has %d characters; at most %d are allowed.", n, maxDisplay)
	}
	if n := utf8.RuneCountInString(description); n > maxDescription {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "description", "The description has %d characters; at most %d are allowed.", n, maxDescription)
	}
	return nil
}

// check refuses what could never be written.
func (b *Body) check() error {
	if err := checkText(b.DisplayName, b.Description); err != nil {
		return err
	}
	if err := checkMap("tags", b.Tags, maxTags); err != nil {
		return err
	}
	return checkMap("properties", b.Properties, maxProperties)
}

// check refuses what no shell or kernel would take.
func (in *Submission) check() error {
	if in.Command == "" && in.Script == "" {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "command", "There is nothing to run: give a command, or a script.")
	}
	size := len(in.Command) + len(in.Script)
	for _, a := range in.Arguments {
		size += len(a) + 1
		if strings.ContainsRune(a, 0) {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", "arguments", "An argument holds a NUL character.")
		}
	}
	if size > maxCommand {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "command", "The command has %d bytes; at most %d are allowed.", size, maxCommand)
	}
	if strings.ContainsRune(in.Command+in.Script, 0) {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "command", "The command holds a NUL character.")
	}
	size = 0
	for k, v := range in.Variables {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", "environmentVariables", "The environment variable %.60q is not valid: a name is not empty and holds no '=', and neither name nor value holds a NUL character.", k)
		}
		if len(k)+len(v) > maxCommand {
			return fault.Coded(fault.Invalid, "InvalidPropertyValue", "environmentVariables", "The environment variable %.60q has %d bytes; at most %d are allowed.", k, len(k)+len(v), maxCommand)
		}
		size += len(k) + len(v)
	}
	if size > maxVariables {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "environmentVariables", "The environment variables have %d bytes; at most %d are allowed.", size, maxVariables)
	}
	if in.TimeLimit < 0 {
		return fault.Coded(fault.Invalid, "InvalidPropertyValue", "limits.timeout", "The time limit is negative.")
	}
	return nil
}
