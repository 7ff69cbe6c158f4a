package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// overlay puts what a person typed over a document: flags by the field that
// each is, tags, and at last --set.
func overlay(doc *yamlspec.Doc, flags *pflag.FlagSet, fields map[string]string, tags, set []string) error {
	var err error
	flags.Visit(func(f *pflag.Flag) {
		if field := fields[f.Name]; field != "" {
			err = errors.Join(err, doc.Put("--"+f.Name, f.Value.String(), strings.Split(field, ".")...))
		}
	})
	if err != nil {
		return err
	}
	if err := putPairs(doc, "--tags", tags, "tags"); err != nil {
		return err
	}
	return doc.Set(set...)
}

// putPairs puts KEY=VALUE flags into a field.
func putPairs(doc *yamlspec.Doc, flag string, given []string, field string) error {
	m, err := pairs(flag, given)
	if err != nil {
		return err
	}
	for _, k := range sortedKeys(m) {
		if err := doc.Put(flag, m[k], field, k); err != nil {
			return err
		}
	}
	return nil
}

// pairs reads KEY=VALUE flags.
func pairs(flag string, given []string) (map[string]string, error) {
	m := map[string]string{}
	for _, kv := range given {
		k, v, ok := strings.Cut(kv, "=")
		switch {
		case kv == "": // az's way to say none
		case !ok || k == "":
			return nil, usageError{fmt.Errorf("%s %q is not KEY=VALUE", flag, kv)}
		default:
			m[k] = v
		}
	}
	return m, nil
}

// needs names those of a command's flags that have to be given and are not, as
// az does.
func needs(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f.Changed && f.Value.String() != "" {
			continue
		}
		word := "--" + name
		if f.Shorthand != "" {
			word += "/-" + f.Shorthand
		}
		missing = append(missing, word)
	}
	if len(missing) == 0 {
		return nil
	}
	return usagef("the following arguments are required: %s", strings.Join(missing, ", "))
}

// spreadable are az's flags that take several values with spaces between them,
// and how one tells that a word is one more of them.
var spreadable = map[string]func(string) bool{
	"--tags": hasEquals, "--tag": hasEquals, "--set": hasEquals, "--env": hasEquals, "--properties": hasEquals,
	"--user-assigned-identities": isIdentity, "--assign-identity": isIdentity, "--identities": isIdentity,
}

func hasEquals(word string) bool { return strings.Contains(word, "=") }

func isIdentity(word string) bool { return strings.HasPrefix(word, "/") || word == "[system]" }

// spread gives each of several values the flag that az lets them share:
// "--tags a=b c=d" is "--tags a=b --tags c=d". And az lets a switch be followed
// by what it is set to: "--enable-sso false" is "--enable-sso=false".
func spread(args []string) []string {
	var out []string
	var more func(string) bool // reports whether a word goes with flag
	flag := ""
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			return append(out, args[i:]...)
		}
		if more != nil && !strings.HasPrefix(word, "-") && more(word) {
			out = append(out, flag, word)
			continue
		}
		more = nil
		if strings.HasPrefix(word, "--") && !strings.Contains(word, "=") && i+1 < len(args) && (args[i+1] == "true" || args[i+1] == "false") {
			out = append(out, word+"="+args[i+1])
			i++
			continue
		}
		out = append(out, word)
		if test, ok := spreadable[word]; ok && i+1 < len(args) {
			flag, more = word, test
			out = append(out, args[i+1])
			i++
		}
	}
	return out
}

// grammars are the commands whose flags are az's, and may be spread.
var grammars = []string{"ml", "compute", "job", "environment", "data", "model", "component", "datastore", "code", "workspace"}

// spreads reports whether the command, behind flags that hold for all, is one
// of those.
func spreads(args []string) bool {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		alone := strings.Contains(args[0], "=") || slices.Contains([]string{"--debug", "--verbose", "--only-show-errors"}, args[0])
		if !alone && len(args) > 1 {
			args = args[1:]
		}
		args = args[1:]
	}
	return len(args) > 0 && slices.Contains(grammars, args[0])
}
