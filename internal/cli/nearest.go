package cli

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/core/near"
)

// shortened is an error that lists more names than anybody reads, as that of an
// unknown size or region does: the nearest ones, and where all of them are.
func shortened(e *client.Error) (string, bool) {
	what, all := "size", `; "ebb size list" shows all %d.`
	_, after, ok := strings.Cut(e.Message, "specified value ")
	wrong, _, _ := strings.Cut(after, " ")
	list := ""
	if ok && len(e.Details) == 1 {
		list = e.Details[0].Message
	} else if e.Code == "LocationNotAvailableForResourceType" {
		what, all = "region", "; there are %d."
		if words := strings.Split(e.Message, "'"); len(words) > 5 {
			wrong, list = words[1], words[5]
		}
	}
	names := strings.Split(list, ",")
	if len(names) < 20 {
		return "", false
	}
	return fmt.Sprintf("there is no %s %s (%s). Near to it are %s"+all, what, wrong, e.Code, strings.Join(near.Names(wrong, names, 5), ", "), len(names)), true
}

// flagError says of a flag that there is not which was probably meant, and of a
// value in our words what it should be.
func flagError(cmd *cobra.Command, err error) error {
	if none, ok := errors.AsType[*pflag.NotExistError](err); ok && none.GetSpecifiedShortnames() == "" {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if meant, ok := near.Meant(none.GetSpecifiedName(), names); ok {
			return fmt.Errorf("unknown flag: --%s; did you mean --%s?", none.GetSpecifiedName(), meant)
		}
	}
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		f := bad.GetFlag()
		want, ok := map[string]string{"int": "a whole number", "int64": "a whole number", "bool": "true or false", "duration": "a time, as 30s"}[f.Value.Type()]
		if ok {
			return fmt.Errorf("--%s: %q is not %s", f.Name, bad.GetValue(), want)
		}
		return fmt.Errorf("--%s: %w", f.Name, bad.Unwrap())
	}
	return err
}

// noArgument words that a command was given a word that it takes not; cobra
// speaks of a command that there is not.
func noArgument(takes cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := takes(cmd, args)
		if err != nil && strings.HasPrefix(err.Error(), "unknown command") {
			return fmt.Errorf("%q takes no argument: what is %q?", cmd.CommandPath(), args[0])
		}
		return err
	}
}

// namesOf gathers the names of what there is; most, unless 0, is where it stops:
// nobody chooses from thousands.
func namesOf[T any](seq iter.Seq2[T, error], most int, name func(T) string) ([]string, error) {
	var names []string
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		if names = append(names, name(v)); len(names) == most {
			break
		}
	}
	return names, nil
}

// noneNamed is the error for a name that nothing has, with those that there are,
// the nearest first; otherwise is what to do where there are none.
func noneNamed(what, name string, names []string, otherwise string) error {
	const few = 10
	if len(names) == 0 {
		return notFound{fmt.Errorf("no %s named %s; there is none yet%s", what, name, otherwise)}
	}
	list := strings.Join(near.Names(name, names, few), ", ")
	if len(names) > few {
		list += fmt.Sprintf(" and %d more", len(names)-few)
	}
	return notFound{fmt.Errorf("no %s named %s; there are: %s", what, name, list)}
}
