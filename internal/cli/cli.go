package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-compute/ebb/client"
)

// Exit codes, which are those of az.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3
)

// Options of the command tree. The zero value works, but has no serve.
type Options struct {
	// Version is what "ebb version" prints; default "dev".
	Version string
	// Serve runs the server until ctx ends; nil: there is no "ebb serve".
	Serve func(ctx context.Context, flags ServeFlags) error
	// Backup copies a server's data folder, and Restore puts a copy back; they say on
	// Stderr how far they are. Nil: there are no such commands.
	Backup  func(ctx context.Context, flags BackupFlags) (Backup, error)
	Restore func(ctx context.Context, flags RestoreFlags) (Restored, error)
	// Stdin, Stdout and Stderr default to the process's own.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Environ is the environment, as KEY=value; default: the process's own.
	Environ []string
}

// ServeFlags are what "ebb serve" was given.
type ServeFlags struct {
	Listen string // host:port
	Data   string // folder of the server's data
	Config string // YAML file; empty: none
}

// app is one invocation: its streams, its global flags.
type app struct {
	Options
	clientFile, workspace, group, subscription string
	output, query                              string
	patience                                   time.Duration
	debug, quiet                               bool

	ml       bool                        // "ebb ml", where az's defaults hold
	shape    func(client.Compute) object // in which computes are shown; nil: v2's
	from     string                      // where az's defaults were found, if any were
	metadata string                      // file that what is shown goes to, besides

	entered bool     // a command's own code was reached: errors before are of usage
	warned  []string // by the server
	noted   []string // said of a job's nodes
	waits   bool     // "waiting for the server" was said
	path    string   // of the command that ran, as "ebb compute create"
}

// Run runs the command line args (without the program's name) and returns the
// exit code.
func Run(ctx context.Context, o Options, args []string) int {
	a := newApp(o)
	root := a.root()
	if spreads(args) {
		args = spread(args)
	}
	root.SetArgs(args)
	ran, err := root.ExecuteContextC(ctx)
	a.path = ran.CommandPath()
	return a.finish(err)
}

// New returns the command tree, for completion scripts and documentation.
func New(o Options) *cobra.Command { return newApp(o).root() }

func newApp(o Options) *app {
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	return &app{Options: o}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ebb",
		Short: "Azure Machine Learning's compute cluster, on your own machines",
		Long: `Ebb is Azure Machine Learning's compute cluster, on your own machines.

A cluster has min..max nodes. It rises when jobs are submitted and ebbs to
zero when they are done. Any Azure ML client works against it, unchanged:
put "ebb exec --" before the command that you would run against Azure.`,
		Example: `  ebb serve                                  # the server; leave it running
  ebb compute create --name cpu-cluster --max-instances 4
  ebb job create --compute cpu-cluster --command 'echo hello' --stream
  ebb exec -- python train_on_azure.py       # any Azure client, unmodified`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = a.Version
	root.SetVersionTemplate("ebb {{.Version}}\n")
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetGlobalNormalizationFunc(azNames)
	root.SetFlagErrorFunc(flagError)
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "", "output `format`: table, json, jsonc, yaml, yamlc, tsv or none (default table; with \"ebb ml\" json)")
	f.StringVar(&a.query, "query", "", "JMESPath `expression` to pick from the output")
	f.StringVar(&a.clientFile, "client", "", "client `file` of the server (default $EBB_CLIENT, then the default data folder's client.json)")
	f.StringVarP(&a.workspace, "workspace-name", "w", "", "workspace, instead of the client file's")
	f.StringVarP(&a.group, "resource-group", "g", "", "resource group, instead of the client file's")
	f.StringVar(&a.subscription, "subscription", "", "subscription id, instead of the client file's")
	f.BoolVar(&a.debug, "debug", false, "say on standard error what is asked of the server")
	f.BoolVar(&a.debug, "verbose", false, "the same")
	f.BoolVar(&a.quiet, "only-show-errors", false, "leave out warnings, notes and progress")
	for _, name := range []string{"verbose", "only-show-errors"} {
		_ = f.MarkHidden(name) // az's: taken, and no more to read
	}
	f.DurationVar(&a.patience, "patience", client.Patience, "how long to wait for a server that is being restarted")
	_ = root.RegisterFlagCompletionFunc("workspace-name", a.complete(workspaceNames))
	_ = root.RegisterFlagCompletionFunc("resource-group", a.complete(groupNames))
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))

	root.AddCommand(a.computeCommand(), a.jobCommand(), a.statusCommand(), a.sizeCommand(), a.usageOf("usage", "ebb usage"),
		a.pruneCommand(), a.execCommand(), a.envCommand(), a.deviceCommand(), a.keeperCommand(), a.configCommand(), a.mlCommand(), a.versionCommand(), a.quarantineCommand())
	root.AddCommand(a.resourceCommands()...)
	root.AddCommand(a.azCommands()...)
	if a.Serve != nil {
		root.AddCommand(a.serveCommand())
	}
	if a.Backup != nil {
		root.AddCommand(a.backupCommand())
	}
	if a.Restore != nil {
		root.AddCommand(a.restoreCommand())
	}
	a.enter(root)
	return root
}

// enter makes every command note that its own code was reached, and refuse
// what makes no sense for any of them.
func (a *app) enter(cmd *cobra.Command) {
	if cmd.HasSubCommands() {
		cmd.SuggestionsMinimumDistance = 2
		// A slip in the command's name is what is to be told, not that the flags
		// behind it are not the group's.
		cmd.FParseErrWhitelist.UnknownFlags = cmd.HasParent()
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			words := fmt.Sprintf("%q has no command %q", cmd.CommandPath(), args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				words += "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return errors.New(words)
		}
	} else if cmd.Args != nil {
		cmd.Args = noArgument(cmd.Args)
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.ml = strings.HasPrefix(cmd.CommandPath()+" ", "ebb ml ")
			if err := a.checkOutput(); err != nil {
				return err
			}
			if a.quiet {
				a.Stderr = &errorsOnly{w: a.Stderr}
			}
			a.entered = true
			return a.placed(cmd.Context(), run(cmd, args))
		}
	}
	for _, c := range cmd.Commands() {
		a.enter(c)
	}
}

// azNames takes az's other spellings of flags.
func azNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "subscription-id":
		name = "subscription"
	case "workspace":
		name = "workspace-name"
	case "tag":
		name = "tags"
	}
	return pflag.NormalizedName(name)
}

// errorsOnly lets nothing through: errors are said at the end, past it.
type errorsOnly struct{ w io.Writer }

func (*errorsOnly) Write(b []byte) (int, error) { return len(b), nil }

// usageError is a mistake in the command line that only the command could see.
type usageError struct{ error }

// asUsage makes an error one of usage.
func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitError ends the process with a code. Its text, if any, was said already.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// notFound is an error about a thing that is not there, with the way out in it.
type notFound struct{ error }

// finish says what went wrong and chooses the exit code.
func (a *app) finish(err error) int {
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return exit.code
	}
	if quiet, ok := a.Stderr.(*errorsOnly); ok {
		a.Stderr = quiet.w
	}
	fmt.Fprintln(a.Stderr, "ERROR: "+strings.TrimSpace(a.explain(err)))
	_, usage := errors.AsType[usageError](err)
	_, missing := errors.AsType[notFound](err)
	switch {
	case usage || !a.entered:
		return exitUsage
	case missing || client.IsNotFound(err):
		return exitNotFound
	case errors.Is(err, context.Canceled):
		return 130
	}
	return exitFailure
}

// explain adds the way out to an error.
func (a *app) explain(err error) string {
	if !a.entered {
		return err.Error() + "\nSee: " + a.path + " --help"
	}
	if errors.Is(err, client.ErrNoFile) {
		return err.Error() + ".\n\"ebb serve\" starts a server and writes it, as client.json in its data folder ($EBB_DATA, or the default one). " +
			"--client or EBB_CLIENT name another server's."
	}
	if away, ok := errors.AsType[*client.Unreachable](err); ok {
		return away.Error() + ".\nIs the server running? Start it with \"ebb serve\", or name another one's client file with --client or EBB_CLIENT."
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the server's certificate is not of the CA that the client file names: " + bad.Err.Error() +
			".\nIs another server at this address, or was the server's data made anew? --client or EBB_CLIENT names another client file."
	}
	if refusedSignIn(err) {
		return err.Error() + "\nThe server does not know the credential of " + a.credentialFrom() +
			". Was it copied from another server, or was the server's data made anew? --client or EBB_CLIENT names another client file."
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		if words, ok := shortened(e); ok {
			return words
		}
	}
	if e, ok := errors.AsType[*client.Error](err); ok && e.RequestID != "" && e.Status >= 500 {
		return err.Error() + "\nThe server's log has more under request " + e.RequestID + "."
	}
	if errors.Is(err, context.Canceled) {
		return "stopped"
	}
	return err.Error()
}

// refusedSignIn reports whether the server did not take the client file's
// credential.
func refusedSignIn(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && strings.HasPrefix(e.Message, "AADSTS")
}

// credentialFrom names the client file that is used.
func (a *app) credentialFrom() string {
	f, err := a.clientFileAlone()
	if err != nil {
		return "the client file"
	}
	return f.Path
}

func (a *app) getenv(key string) string {
	value := ""
	for _, kv := range a.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			value = v // the last one counts, as for os/exec
		}
	}
	return value
}

// file reads the client file, with the flags over it.
func (a *app) file() (client.File, error) {
	f, err := a.clientFileAlone()
	if err != nil {
		return f, err
	}
	if a.ml {
		a.azDefaults(&f)
	}
	for _, over := range []struct{ flag, field *string }{
		{&a.workspace, &f.WorkspaceName}, {&a.group, &f.ResourceGroup}, {&a.subscription, &f.SubscriptionID},
	} {
		if *over.flag != "" {
			*over.field = *over.flag
		}
	}
	return f, nil
}

// connect returns a client of the server; it sends nothing yet.
func (a *app) connect() (*client.Client, error) {
	f, err := a.file()
	if err != nil {
		return nil, err
	}
	patience := a.patience
	if patience <= 0 {
		patience = -1
	}
	options := client.Options{UserAgent: "ebb-cli/" + a.Version, Patience: patience, Warn: a.warn, Waiting: a.waiting}
	if a.debug {
		options.Trace = func(method, path string, status int, took time.Duration) {
			path, _, _ = strings.Cut(path, "?") // a query may hold a signature
			fmt.Fprintf(a.Stderr, "DEBUG: %s %s: %d in %s\n", method, path, status, took.Round(time.Millisecond))
		}
	}
	return client.New(f, options)
}

func (a *app) warn(w string) {
	a.warned = append(a.warned, w)
	fmt.Fprintln(a.Stderr, "WARNING: "+w)
}

func (a *app) waiting(error) {
	if !a.waits {
		a.waits = true
		fmt.Fprintf(a.Stderr, "The server does not answer; trying for %s.\n", a.patience)
	}
}

// with runs do with a client.
func (a *app) with(cmd *cobra.Command, do func(ctx context.Context, c *client.Client) error) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return do(cmd.Context(), c)
}

// nameArg takes a resource's name from --name or the one argument.
func nameArg(cmd *cobra.Command, flag string, args []string) (string, error) {
	switch {
	case flag != "" && len(args) > 0 && args[0] != flag:
		return "", usagef("two names: %q and %q", flag, args[0])
	case flag != "":
		return flag, nil
	case len(args) > 0:
		return args[0], nil
	}
	return "", usagef("which one? Give its name, as in: %s NAME", cmd.CommandPath())
}

// named is what a command does with the one thing that it names.
type named func(ctx context.Context, c *client.Client, name string) error

// onNamed runs do with a client and the name given as flag or argument; gone
// puts into words that nothing has that name.
func (a *app) onNamed(cmd *cobra.Command, flag string, args []string, do named,
	gone func(ctx context.Context, c *client.Client, name string, was error) error) error {
	name, err := nameArg(cmd, flag, args)
	if err != nil {
		return err
	}
	return a.with(cmd, func(ctx context.Context, c *client.Client) error {
		err := do(ctx, c, name)
		if client.IsNotFound(err) {
			return gone(ctx, c, name, err)
		}
		return err
	})
}
