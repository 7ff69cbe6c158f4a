package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) envCommand() *cobra.Command {
	var shell string
	var custom, identity bool
	var pid int
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print what \"ebb exec\" sets, for eval in a shell",
		Long: `Print what "ebb exec" sets, for eval in a shell.

A proxy is left running in the background for the shell, and ends with it: what
is printed is good in this shell and what it starts, and no longer than it
lives. "ebb exec" needs no such thing, and is the better way for one command.

--custom-cloud prints another recipe, without any proxy: Azure clients are told
of a cloud of its own at the server's URL. It is for servers reached by a DNS
name, and for clients that can be told (Python SDK v1 and v2). --identity is the
same without a secret of one's own: tokens come from the server's endpoint for
managed identities, for clients that ask there (DefaultAzureCredential, and
"az login --identity").`,
		Example: `  eval "$(ebb env)"
  ebb env --shell fish | source
  ebb env --shell powershell | Out-String | Invoke-Expression
  eval "$(ebb env --custom-cloud)"
  eval "$(ebb env --identity)"`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			write, ok := shells[shell]
			if !ok {
				return usagef("no shell %q; there are: sh, bash, zsh, fish, powershell", shell)
			}
			change, err := a.customCloud(identity)
			if !custom && !identity {
				change, err = a.keptProxy(pid)
			}
			if err != nil {
				return err
			}
			return write(a.Stdout, change)
		},
	}
	cmd.Flags().StringVar(&shell, "shell", "sh", "sh, bash, zsh, fish or powershell")
	cmd.Flags().BoolVar(&custom, "custom-cloud", false, "for a server reached by name: no proxy, a cloud of its own")
	cmd.Flags().BoolVar(&identity, "identity", false, "a cloud of its own, with tokens from the endpoint of managed identities")
	cmd.Flags().IntVar(&pid, "pid", 0, "`process` with which the proxy ends (default the shell that runs this)")
	_ = cmd.RegisterFlagCompletionFunc("shell", cobra.FixedCompletions([]string{"sh", "bash", "zsh", "fish", "powershell"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// customCloud is recipe A of SDK v1 (which R1 of SDK v2 agrees with): a cloud
// by its metadata. The tenant "adfs" keeps MSAL of SDK v2 from asking
// login.microsoftonline.com which authorities there are.
//
// With identity it is recipe R2: no credential of the client's own, which
// DefaultAzureCredential would take first.
func (a *app) customCloud(identity bool) (envChange, error) {
	f, err := a.file()
	if err != nil {
		return envChange{}, err
	}
	var e envChange
	e.put("ARM_CLOUD_METADATA_URL", f.URL+"/metadata/endpoints?api-version=2019-05-01")
	e.put("AZUREML_CURRENT_CLOUD", "Ebb") // SDK v2 looks for no AzureCloud but Microsoft's
	if identity {
		e.unset = []string{"AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "MSI_ENDPOINT", "MSI_SECRET", "IDENTITY_SERVER_THUMBPRINT"}
		e.put("IDENTITY_ENDPOINT", f.URL+"/msi/token")
		e.put("IDENTITY_HEADER", f.ClientID+":"+f.ClientSecret)
	} else {
		e.put("AZURE_AUTHORITY_HOST", f.URL)
		e.put("AZURE_TENANT_ID", "adfs")
		e.put("AZURE_CLIENT_ID", f.ClientID)
		e.put("AZURE_CLIENT_SECRET", f.ClientSecret)
		e.put("AZUREML_SERVICE_PRINCIPAL_TENANT_ID", f.TenantID)
		e.put("AZUREML_SERVICE_PRINCIPAL_ID", f.ClientID)
		e.put("AZUREML_SERVICE_PRINCIPAL_PASSWORD", f.ClientSecret)
	}
	if f.CA != "" {
		for _, name := range bundleVariables {
			e.put(name, f.CA)
		}
	}
	return e, nil
}

var shells = map[string]func(io.Writer, envChange) error{
	"sh": writeSh, "bash": writeSh, "zsh": writeSh, "fish": writeFish, "powershell": writePowerShell, "pwsh": writePowerShell,
}

func writeSh(w io.Writer, e envChange) error {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	return writeShell(w, e, "unset %s\n", func(k, v string) string { return "export " + k + "=" + quote(v) })
}

func writeFish(w io.Writer, e envChange) error {
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'" }
	return writeShell(w, e, "set -e %s;\n", func(k, v string) string { return "set -gx " + k + " " + quote(v) + ";" })
}

func writePowerShell(w io.Writer, e envChange) error {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	return writeShell(w, e, "Remove-Item Env:%s -ErrorAction SilentlyContinue\n", func(k, v string) string { return "$env:" + k + " = " + quote(v) })
}

func writeShell(w io.Writer, e envChange, unset string, set func(k, v string) string) error {
	var b strings.Builder
	for _, k := range e.unset {
		fmt.Fprintf(&b, unset, k)
	}
	for _, f := range e.set {
		b.WriteString(set(f.Key, f.Value.(string)) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// keeperOrder is what "ebb env" tells the process it leaves behind, over a
// pipe: the secret is in nobody's arguments.
type keeperOrder struct {
	Client string `json:"client"`
	Secret string `json:"secret"`
	PID    int    `json:"pid"` // ends with it
	Dir    string `json:"dir"` // to be removed at the end
}

// keptProxy starts a process that serves the proxy for as long as a shell
// lives, and says what the shell is to set.
func (a *app) keptProxy(pid int) (envChange, error) {
	f, err := a.file()
	if err != nil {
		return envChange{}, err
	}
	if pid == 0 {
		pid = shellOf(os.Getppid())
	}
	path, err := filepath.Abs(f.Path) // the keeper works elsewhere
	if err != nil {
		return envChange{}, err
	}
	dir, err := os.MkdirTemp(a.getenv("XDG_RUNTIME_DIR"), "ebb-env-")
	if err != nil {
		return envChange{}, err
	}
	order := keeperOrder{Client: path, Secret: newSecret(), PID: pid, Dir: dir}
	address, err := a.startKeeper(order)
	if err != nil {
		os.RemoveAll(dir)
		return envChange{}, err
	}
	// A dead keeper leaves nothing: the folder is its to remove from here on.
	return a.childEnv(f, "http://"+proxyUser+":"+order.Secret+"@"+address, dir)
}

func (a *app) startKeeper(order keeperOrder) (address string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	in, err := json.Marshal(order)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(self, keeperName)
	cmd.Env = a.Environ // it needs the user's own proxy variables
	cmd.Dir = "/"       // it shall keep no file system busy
	cmd.Stdin = strings.NewReader(string(in))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C in the shell is not for it
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start the proxy: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	out.Close()
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // reaps it; why it failed is in its line
		return "", fmt.Errorf("start the proxy: %s", strings.TrimSpace(strings.TrimPrefix(line, "error ")))
	}
	return address, cmd.Process.Release()
}

// keeperName is the hidden command that serves a kept proxy.
const keeperName = "__env-proxy"

func (a *app) keeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:     keeperName,
		Short:   "Serve the proxy of \"ebb env\"",
		Example: "  ebb " + keeperName + " < order.json",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.keep(cmd.Context()); err != nil {
				fmt.Fprintf(a.Stdout, "error %v\n", err)
				return exitError{exitFailure}
			}
			return nil
		},
	}
}

func (a *app) keep(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	var order keeperOrder
	if err := json.NewDecoder(a.Stdin).Decode(&order); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	if !strings.HasPrefix(filepath.Base(order.Dir), "ebb-env-") {
		return errors.New("the order names no folder of ebb env")
	}
	defer os.RemoveAll(order.Dir)
	a.clientFile = order.Client
	f, err := a.file()
	if err != nil {
		return err
	}
	up, err := upstreamsOf(a.getenv)
	if err != nil {
		return err
	}
	shell, err := watchProcess(order.PID)
	if err != nil {
		return err
	}
	defer shell.close()
	p, err := newProxy(f, up, "", order.Secret)
	if err != nil {
		return err
	}
	defer p.close()
	fmt.Fprintf(a.Stdout, "ready %s\n", p.listener.Addr())
	if out, ok := a.Stdout.(*os.File); ok {
		out.Close() // "$(…)" waits until nobody has the pipe
	}
	return shell.wait(ctx)
}

// watched is a process whose end is waited for. A pidfd is of that process,
// whoever has its number later.
type watched struct{ fd int }

func watchProcess(pid int) (*watched, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return &watched{fd}, nil
}

// wait returns when the process has ended, or ctx has.
func (w *watched) wait(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int((2 * time.Second).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("watch the shell: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
	return nil
}

func (w *watched) close() { _ = unix.Close(w.fd) }

// shellOf finds the shell behind "$(ebb env)". Most run a lone command there
// without another process in between; some fork a copy of themselves, which
// ends at once. A copy has the program and the arguments of its parent.
func shellOf(pid int) int {
	for {
		parent := parentOf(pid)
		if parent <= 1 || identity(pid) == "" || identity(pid) != identity(parent) {
			return pid
		}
		pid = parent
	}
}

func parentOf(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold anything; what follows is numbers.
	_, rest, ok := strings.Cut(string(b[max(0, strings.LastIndexByte(string(b), ')')):]), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1]) // 0 is nobody, as for an error
	return parent
}

func identity(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(dir + "/exe")
	args, err2 := os.ReadFile(dir + "/cmdline")
	if err != nil || err2 != nil {
		return ""
	}
	return exe + "\x00" + string(args)
}
