package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/client"
)

func (a *app) execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec [--client FILE] -- COMMAND [ARG …]",
		Short: "Run any Azure client against the server, unmodified",
		Long: `Run any Azure client against the server, unmodified.

For the command, and nobody else, ebb is an HTTPS proxy on loopback. Azure's
names (management.azure.com, login.microsoftonline.com, graph.microsoft.com,
*.api.azureml.ms, ml.azure.com, and the storage accounts of this server, those
that somebody made there too) lead to the server;
every other host goes where it went before, through your own proxy if you have
one. The server's CA is added to those the command trusts, and a credential is
put into AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and
AZUREML_SERVICE_PRINCIPAL_*, unless you have set your own. az is logged in, in
a configuration folder of its own that goes when the command ends.

Terminal, signals and exit code are the command's: 128+n when signal n ended
it, 127 when it was not found, 126 when it may not be run.`,
		Example: `  ebb exec -- python train_on_azure.py
  ebb exec -- az resource list
  ebb exec --client ~/team/client.json -- jupyter lab`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("what is to be run? As in: ebb exec -- python train.py")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.exec(cmd.Context(), args) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	cmd.Flags().SetInterspersed(false) // the flags of the command are the command's
	return cmd
}

// look asks the server for a token before anything is run: what is wrong with
// the client file is told at once, in words, where clients speak of
// certificates. A server that is away is no error: requests wait for it.
func (a *app) look(ctx context.Context, f client.File, address string) error {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		fmt.Fprintf(a.Stderr, "WARNING: no answer from %s. Is the server running? Start it with \"ebb serve\"; requests wait %s for it.\n", f.URL, a.patience)
		return nil
	}
	conn.Close()
	c, err := client.New(f, client.Options{UserAgent: "ebb-cli/" + a.Version, Patience: -1})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = c.SignIn(ctx)
	_, foreign := errors.AsType[*tls.CertificateVerificationError](err)
	if foreign || refusedSignIn(err) && !a.own("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET") {
		return err
	}
	return nil // it may be on its way down or up, which the proxy waits for
}

// exec runs a command under the proxy; more is set in its environment besides.
func (a *app) exec(ctx context.Context, args []string, more ...field) error {
	f, err := a.file()
	if err != nil {
		return err
	}
	up, err := upstreamsOf(a.getenv)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ebb-exec-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := newProxy(f, up, "", "")
	if err != nil {
		return err
	}
	defer p.close()
	p.away.patience = a.patience
	p.gaveUp = func(err error) {
		fmt.Fprintln(a.Stderr, "ERROR: "+a.explain(&client.Unreachable{URL: f.URL, Err: err}))
	}
	if err := a.look(ctx, f, p.server); err != nil {
		return err
	}
	change, err := a.childEnv(f, p.url(), dir)
	if err != nil {
		return err
	}
	change.set = append(change.set, more...)
	code, err := a.runChild(args, change.apply(a.Environ))
	if err != nil {
		fmt.Fprintf(a.Stderr, "ebb exec: %v\n", err)
	}
	if code != 0 {
		return exitError{code}
	}
	return nil
}

// envChange is what is different in a child's environment.
type envChange struct {
	set   []field // in order; values are strings
	unset []string
}

func (e *envChange) put(key, value string) { e.set = append(e.set, field{key, value}) }

// apply makes the child's environment.
func (e *envChange) apply(environ []string) []string {
	gone := map[string]bool{}
	for _, key := range e.unset {
		gone[key] = true
	}
	for _, f := range e.set {
		gone[f.Key] = true
	}
	out := slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return gone[key]
	})
	for _, f := range e.set {
		out = append(out, f.Key+"="+f.Value.(string))
	}
	return out
}

// authorityVariables say where tokens come from, or which cloud is meant.
// Inherited, they would lead the child past the proxy, or to other endpoints.
var authorityVariables = []string{
	"AZURE_AUTHORITY_HOST", "ARM_CLOUD_METADATA_URL", "AZUREML_CURRENT_CLOUD", "AZUREML_DEV_URL_MFE",
	"MSI_ENDPOINT", "MSI_SECRET", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT",
	"AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_FEDERATED_TOKEN_FILE",
	"ARM_ENVIRONMENT", "ARM_METADATA_HOST", "ARM_METADATA_HOSTNAME",
}

// childEnv is what a child of "ebb exec" sees differently, and "ebb env"
// prints. Files go into dir.
func (a *app) childEnv(f client.File, proxyURL, dir string) (envChange, error) {
	e := envChange{unset: slices.Clone(authorityVariables)}
	// Both spellings: of two that differ, clients differ in which they take.
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} {
		e.put(name, proxyURL)
		e.put(strings.ToLower(name), proxyURL)
	}
	no := a.getenv("no_proxy")
	if no == "" {
		no = a.getenv("NO_PROXY")
	}
	if no = withoutAzure(no); no == "" {
		e.unset = append(e.unset, "NO_PROXY", "no_proxy")
	} else {
		e.put("NO_PROXY", no)
		e.put("no_proxy", no)
	}
	bundle := filepath.Join(dir, "ca.pem")
	if err := writeBundle(bundle, f, a.getenv); err != nil {
		return e, err
	}
	for _, name := range bundleVariables {
		e.put(name, bundle)
	}
	// A fresh one: what is logged in in the user's own is logged in to Azure, and
	// its token cache would be mixed with ours.
	config := filepath.Join(dir, "azure")
	if err := writeAzDir(config, f); err != nil {
		return e, err
	}
	e.put("AZURE_CONFIG_DIR", config)
	a.credentials(&e, f)
	if abs, err := filepath.Abs(f.Path); err == nil {
		e.put("EBB_CLIENT", abs)
	}
	return e, nil
}

// own reports whether the user has set one of these variables.
func (a *app) own(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return a.getenv(n) != "" })
}

// credentials puts the server's into the child's environment. The user's own
// stay: each set whole, so that a secret never meets another's id.
func (a *app) credentials(e *envChange, f client.File) {
	if !a.own("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET") {
		e.put("AZURE_TENANT_ID", f.TenantID)
		e.put("AZURE_CLIENT_ID", f.ClientID)
		e.put("AZURE_CLIENT_SECRET", f.ClientSecret)
	}
	if !a.own("AZUREML_SERVICE_PRINCIPAL_ID", "AZUREML_SERVICE_PRINCIPAL_PASSWORD") {
		e.put("AZUREML_SERVICE_PRINCIPAL_TENANT_ID", f.TenantID)
		e.put("AZUREML_SERVICE_PRINCIPAL_ID", f.ClientID)
		e.put("AZUREML_SERVICE_PRINCIPAL_PASSWORD", f.ClientSecret)
	}
}

// withoutAzure takes out of NO_PROXY what would keep a client from asking the
// proxy for one of the names that are led. What is left stays as it was; what
// is taken out still goes without the user's own proxy, by way of ours.
func withoutAzure(no string) string {
	kept := slices.DeleteFunc(noProxy(no), func(entry string) bool {
		if host, _, err := net.SplitHostPort(entry); err == nil {
			entry = host
		}
		if entry == "*" {
			return true
		}
		entry = strings.TrimPrefix(strings.TrimPrefix(entry, "*"), ".")
		for _, name := range append(slices.Clone(ledNames), ".blob.core.windows.net") {
			name = strings.TrimPrefix(name, ".")
			// Above a led name, it, or below it.
			if entry == name || strings.HasSuffix(name, "."+entry) || strings.HasSuffix(entry, "."+name) && entry != "" {
				return true
			}
		}
		return false
	})
	return strings.Join(kept, ",")
}

// forwarded are the signals that others send to a process to tell it something.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGALRM,
}

// runChild runs a command with our streams and returns its exit code.
//
// The child stays in our process group: on a terminal it is in the foreground
// with us, and Ctrl-C, Ctrl-Z and fg work as if we were not there.
func (a *app) runChild(args, environ []string) (int, error) {
	path, err := lookPath(args[0], environ)
	if err != nil {
		return 127, fmt.Errorf("%s: command not found", args[0])
	}
	cmd := &exec.Cmd{Path: path, Args: args, Env: environ, Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return 127, err
		}
		return 126, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if !fromTerminal(s) {
				_ = cmd.Process.Signal(s) // it may have ended in the meantime
			}
		case err := <-done:
			return exitCode(cmd.ProcessState, err)
		}
	}
}

func exitCode(state *os.ProcessState, err error) (int, error) {
	if state == nil {
		return 126, err
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}

// fromTerminal reports whether the terminal has sent s, to the child as much
// as to us: it sends these to its whole foreground group.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT && s != syscall.SIGWINCH {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // no terminal: somebody has sent it to us alone
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// lookPath finds a command by the child's PATH.
func lookPath(name string, environ []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); k == "PATH" {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			if !strings.Contains(file, "/") {
				file = "./" + file
			}
			return file, nil
		}
	}
	return "", exec.ErrNotFound
}
