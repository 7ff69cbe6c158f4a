package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/cli"
	"github.com/ebb-compute/ebb/internal/testkit"
)

// children are what this test program is when it is started again: ebb itself,
// and the commands that ebb runs.
var children = map[string]func() int{
	// ebb, with the arguments of this process. Its child is no ebb, unless the
	// arguments say so by "env EBB_TEST_CHILD=…".
	"ebb": func() int {
		os.Unsetenv("EBB_TEST_CHILD")
		return cli.Run(context.Background(), cli.Options{}, os.Args[1:])
	},
	// keeper: "ebb env" starts this program again, as the process it leaves.
	"ebb-kept": func() int { return cli.Run(context.Background(), cli.Options{}, os.Args[1:]) },
	// get URLs with Go's own client, by the environment alone.
	"get": func() int {
		for _, u := range os.Args[1:] {
			resp, err := http.Get(u)
			if err != nil {
				fmt.Println("error:", err)
				continue
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			fmt.Println(resp.StatusCode, string(b))
		}
		return 0
	},
	"exit": func() int {
		n, _ := strconv.Atoi(os.Args[1])
		return n
	},
	// count counts interrupts until a line is typed.
	"count": func() int {
		c := make(chan os.Signal, 16)
		signal.Notify(c, syscall.SIGINT)
		group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
		fmt.Println("foreground", err == nil && group == unix.Getpgrp())
		<-c
		fmt.Println("interrupted")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		fmt.Println("once more:", len(c))
		return 9
	},
	// signal waits for one signal, says which, and dies of it if told to.
	"signal": func() int {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
		fmt.Println("ready")
		s := <-c
		fmt.Println("got", s)
		if len(os.Args) > 1 {
			signal.Reset()
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
			select {}
		}
		return 7
	},
}

// ebb is a command line of this program as ebb, in a process of its own.
func (s *server) ebb(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(plainEnv(), "EBB_TEST_CHILD=ebb", "EBB_CLIENT="+s.client, "TMPDIR="+t.TempDir())
	return cmd
}

// plainEnv is this process's environment without what would lead a child astray.
func plainEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		k := strings.ToUpper(kv[:strings.IndexByte(kv, '=')])
		return strings.HasSuffix(k, "_PROXY") || strings.HasPrefix(k, "AZURE") || strings.HasPrefix(k, "EBB") ||
			slices.Contains([]string{"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}, k)
	})
}

// as makes a command line that runs this program as one of children.
func as(t *testing.T, child string, args ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"env", "EBB_TEST_CHILD=" + child, self}, args...)
}

func code(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// The names of Azure lead to the server, whatever client asks.
func TestExecLeadsRealClients(t *testing.T) {
	t.Parallel()
	account := "ebb" + strings.Repeat("0a", 10)
	urls := []string{"https://management.azure.com/hello", "https://westus.api.azureml.ms/hello", "https://login.microsoftonline.com/hello",
		"https://" + account + ".blob.core.windows.net/hello"}
	const python = `
import sys, urllib.request
for u in sys.argv[1:]:
    r = urllib.request.urlopen(u)
    print(r.status, r.read().decode())
`
	const node = `
const http = require('http'), https = require('https'), proxy = new URL(process.env.HTTPS_PROXY);
const get = (u) => new Promise((ok, no) => {
  const auth = 'Basic ' + Buffer.from(proxy.username + ':' + proxy.password).toString('base64');
  http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: u.hostname + ':443', headers: {'Proxy-Authorization': auth}})
    .on('connect', (r, socket) => https.get({host: u.hostname, path: u.pathname, socket, agent: false}, (r) => {
      let b = ''; r.on('data', (d) => b += d); r.on('end', () => { console.log(r.statusCode, b); ok(); });
    }).on('error', no)).on('error', no).end();
});
(async () => { for (const u of process.argv.slice(1)) await get(new URL(u)); })();
`
	for name, command := range map[string][]string{
		"go":      as(t, "get"),
		"python3": {"python3", "-c", python},
		"curl":    {"curl", "-sS", "-w", "\n"},
		"node":    {"node", "-e", node, "--"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("%s is not on this machine", name)
			}
			s := newServer(t)
			s.mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", r.Host) })
			out, err := s.ebb(t, append(append([]string{"exec", "--"}, command...), urls...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, u := range urls {
				host := strings.Split(u, "/")[2]
				if !strings.Contains(string(out), "hello from "+host) {
					t.Errorf("no answer for %s:\n%s", host, out)
				}
			}
		})
	}
}

// What is not Azure's, and accounts that are not this server's, go elsewhere:
// through the user's own proxy, with its password, or not, as NO_PROXY says.
func TestExecPassesTheRestThroughTheUsersProxy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var connects, plain atomic.Int64
	wantAuth := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:pa ss"))
	corporate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != wantAuth {
			t.Errorf("%s %s came with %q", r.Method, r.Host, r.Header.Get("Proxy-Authorization"))
		}
		if r.Method != http.MethodConnect {
			plain.Add(1)
			fmt.Fprint(w, "plain ", r.URL)
			return
		}
		connects.Add(1)
		http.Error(w, "not from here", http.StatusForbidden)
	}))
	t.Cleanup(corporate.Close)
	direct := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "direct") }))
	t.Cleanup(direct.Close)
	proxy, err := url.Parse(corporate.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy.User = url.UserPassword("me", "pa ss")

	cmd := s.ebb(t, append([]string{"exec", "--"}, as(t, "get", "https://example.com/", "https://realaccount.blob.core.windows.net/c",
		"http://example.com/x?a=%zz;b", "http://management.azure.com/leak", direct.URL)...)...)
	cmd.Env = append(cmd.Env, "https_proxy="+proxy.String(), "http_proxy="+proxy.String(), "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=.azure.com,10.0.0.0/8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if connects.Load() != 2 || plain.Load() != 1 || !strings.Contains(string(out), "200 plain http://example.com/x?a=%zz;b") {
		t.Errorf("%d tunnels and %d plain requests reached the user's proxy, want 2 and 1:\n%s", connects.Load(), plain.Load(), out)
	}
	if !strings.Contains(string(out), "403 ebb exec: management.azure.com is led") || !strings.Contains(string(out), "200 direct") {
		t.Errorf("plain http to a led name, and to this machine:\n%s", out)
	}
	for _, req := range s.seen {
		// ebb's own look at the server, and its question whether the account is one of the server's.
		if !strings.Contains(req, "/oauth2/") && !strings.Contains(req, "/checkNameAvailability") {
			t.Errorf("the server saw %s", req)
		}
	}
}

func TestExecEnvironment(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	own := filepath.Join(t.TempDir(), "own.pem")
	_, ownCA := certificate(t)
	if err := os.WriteFile(own, ownCA, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := s.ebb(t, "exec", "--", "sh", "-c", `env; echo "---"; cat "$REQUESTS_CA_BUNDLE"; test -d "$AZURE_CONFIG_DIR" && echo fresh; tr '\0' ' ' < /proc/$PPID/cmdline`)
	cmd.Env = append(cmd.Env, "AZURE_AUTHORITY_HOST=https://x", "ARM_CLOUD_METADATA_URL=x", "AZUREML_CURRENT_CLOUD=x", "MSI_ENDPOINT=x", "IDENTITY_ENDPOINT=x",
		"NO_PROXY=localhost,.azure.com,127.0.0.1,intra.example,*.windows.net,management.azure.com:443", "AZURE_CLIENT_ID=mine", "AZURE_CLIENT_SECRET=mine too",
		"SSL_CERT_FILE="+own, "AZURE_CONFIG_DIR=/old")
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	text, rest, _ := strings.Cut(string(b), "---\n")
	env := map[string]string{}
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[k] = v
	}
	for _, gone := range []string{"AZURE_AUTHORITY_HOST", "ARM_CLOUD_METADATA_URL", "AZUREML_CURRENT_CLOUD", "MSI_ENDPOINT", "IDENTITY_ENDPOINT"} {
		if v, there := env[gone]; there {
			t.Errorf("%s=%s was inherited", gone, v)
		}
	}
	proxy, err := url.Parse(env["HTTPS_PROXY"])
	if err != nil || proxy.Hostname() != "127.0.0.1" || env["https_proxy"] != env["HTTPS_PROXY"] || env["HTTP_PROXY"] != env["HTTPS_PROXY"] || env["all_proxy"] != env["HTTPS_PROXY"] {
		t.Fatalf("proxy variables: %v", env)
	}
	for k, want := range map[string]string{
		"NO_PROXY": "localhost,127.0.0.1,intra.example", "no_proxy": "localhost,127.0.0.1,intra.example",
		"AZURE_CLIENT_ID": "mine", "AZURE_CLIENT_SECRET": "mine too", "AZURE_TENANT_ID": "",
		"AZUREML_SERVICE_PRINCIPAL_ID": "id", "AZUREML_SERVICE_PRINCIPAL_PASSWORD": "s3cret", "AZUREML_SERVICE_PRINCIPAL_TENANT_ID": "tenant",
		"EBB_CLIENT": s.client, "SSL_CERT_FILE": env["REQUESTS_CA_BUNDLE"], "CURL_CA_BUNDLE": env["REQUESTS_CA_BUNDLE"], "NODE_EXTRA_CA_CERTS": env["REQUESTS_CA_BUNDLE"],
	} {
		if env[k] != want {
			t.Errorf("%s=%q, want %q", k, env[k], want)
		}
	}
	ca, err := os.ReadFile(s.caFile)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(rest, string(ca)) || !strings.Contains(rest, string(ownCA)) || !strings.Contains(rest, "fresh") {
		t.Error("the bundle lacks the server's CA or the user's own, or the configuration folder is not there")
	}
	if secret, _ := proxy.User.Password(); len(secret) < 32 || strings.Contains(rest, secret) {
		t.Errorf("the secret %q is short, or in ebb's arguments", secret)
	}
	if _, err := os.Stat(env["REQUESTS_CA_BUNDLE"]); err == nil {
		t.Error("the folder was left behind")
	}
}

func TestExecExitCodes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	notRun := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notRun, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"its code is the child's":             {as(t, "exit", "42"), 42},
		"and so is success":                   {as(t, "exit", "0"), 0},
		"flags after the command are its own": {[]string{"sh", "-c", "exit 5"}, 5},
		"128 and the signal it died of":       {[]string{"sh", "-c", "kill -9 $$"}, 137},
		"127 for no such command":             {[]string{"no-such-command"}, 127},
		"127 for no such file":                {[]string{"./no-such-file"}, 127},
		"126 for what may not be run":         {[]string{notRun}, 126},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := s.ebb(t, append([]string{"exec", "--"}, c.args...)...).CombinedOutput()
			if got := code(err); got != c.want {
				t.Errorf("exit %d, want %d: %s", got, c.want, out)
			}
		})
	}
}

func TestExecForwardsSignals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for name, c := range map[string]struct {
		signal syscall.Signal
		args   []string
		want   int
	}{
		"a child may catch it":   {syscall.SIGTERM, nil, 7},
		"or die of it":           {syscall.SIGTERM, []string{"die"}, 128 + 15},
		"an interrupt is sent":   {syscall.SIGINT, []string{"die"}, 128 + 2},
		"and so is a user's own": {syscall.SIGUSR1, nil, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := s.ebb(t, append([]string{"exec", "--"}, as(t, "signal", c.args...)...)...)
			// A session of its own: no terminal, so that an interrupt is not
			// taken for one that the terminal has sent to both.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(out)
			if line, err := in.ReadString('\n'); line != "ready\n" {
				t.Fatalf("the child said %q, %v", line, err)
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			said, _ := io.ReadAll(in)
			if got := code(cmd.Wait()); got != c.want || !strings.Contains(string(said), "got "+c.signal.String()) {
				t.Errorf("exit %d, want %d; it said %q", got, c.want, said)
			}
		})
	}
}

// On a terminal the child is in the foreground, and Ctrl-C reaches it once:
// from the terminal, and not a second time from ebb.
func TestExecOnATerminal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	master, terminal := openTerminal(t)
	cmd := s.ebb(t, append([]string{"exec", "--"}, as(t, "count")...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	in := bufio.NewReader(master)
	for _, step := range []struct{ until, keys string }{{"foreground true", "\x03"}, {"interrupted", "\n"}, {"once more: 0", ""}} {
		for line := ""; !strings.Contains(line, step.until); {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatalf("waiting for %q: %v, after %q", step.until, err, line)
			}
		}
		if _, err := io.WriteString(master, step.keys); err != nil {
			t.Fatal(err)
		}
	}
	if got := code(cmd.Wait()); got != 9 {
		t.Errorf("exit %d, want 9", got)
	}
}

func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals on this machine: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals on this machine: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// Ctrl-C ends the printing of a log, leaves the job, and says how to go on.
func TestStreamIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newServer(t).withJob("night-1", "Running")
	s.mux.HandleFunc("GET /ebb/v1"+ws+"/jobs/night-1/log", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("offset") == "0" {
			fmt.Fprintln(w, "epoch 1")
			return
		}
		<-r.Context().Done()
	})
	cmd := s.ebb(t, "job", "stream", "night-1")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "epoch 1\n" {
		t.Fatalf("printed %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := code(cmd.Wait()); got != 130 || !strings.Contains(said.String(), "ebb job stream night-1 --offset 8\n") {
		t.Errorf("exit %d, said %q", got, said.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range s.seen {
		if strings.HasSuffix(request, "/cancel") {
			t.Error("the job was cancelled")
		}
	}
}

// A file by the name "-" is standard input.
func TestAJobFromStandardInput(t *testing.T) {
	t.Parallel()
	s := newServer(t).withCluster("small")
	for text, want := range map[string]string{"command: echo hello\ncompute: small\n": "", "command: echo hello\ncomputer: small\n": "stdin:2: computer: there is no such field; did you mean compute?"} {
		cmd := s.ebb(t, "job", "create", "-f", "-", "--name", "piped", "-o", "none")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), want) || (err == nil) != (want == "") {
			t.Errorf("%q: %v, %s", text, err, out)
		}
	}
	if s.body(t, "PUT "+ws+"/jobs/piped")["properties"].(map[string]any)["command"] != "echo hello" {
		t.Error("another command was sent")
	}
}

// Ctrl-C while something is waited for ends the waiting, and says so.
func TestAWaitIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newServer(t).withJob("night-1", "Running")
	s.mu.Lock()
	s.polls = 1 << 30
	s.mu.Unlock()
	cmd := s.ebb(t, "job", "cancel", "night-1")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(pipe)
	if line, err := said.ReadString('\n'); line != "Cancelling night-1\n" {
		t.Fatalf("said %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(said)
	if got := code(cmd.Wait()); err != nil || got != 130 || string(rest) != "Stopped waiting; the server goes on with it.\n" {
		t.Errorf("exit %d, said %q, %v", got, rest, err)
	}
}

// The proxy from outside: without its secret nobody gets anywhere; with it,
// one way may end while the other goes on.
func TestProxyManners(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p, err := cli.NewProxy(s.client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	for name, c := range map[string]struct {
		head string
		want string
	}{
		"no secret":         {"CONNECT management.azure.com:443 HTTP/1.1\r\nHost: management.azure.com:443\r\n\r\n", "407"},
		"a wrong secret":    {"CONNECT management.azure.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic ZWJiOm5v\r\n\r\n", "407"},
		"a plain request":   {"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", "407"},
		"no proxy request":  {"GET / HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + p.Auth() + "\r\n\r\n", "400"},
		"nobody listening":  {"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nProxy-Authorization: " + p.Auth() + "\r\n\r\n", "502"},
		"a host alone":      {"CONNECT management.azure.com HTTP/1.1\r\nHost: management.azure.com\r\nProxy-Authorization: " + p.Auth() + "\r\n\r\n", "400"},
		"a name that leads": {"CONNECT MANAGEMENT.azure.com.:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + p.Auth() + "\r\n\r\n", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", p.Address())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.head); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(conn).ReadString('\n')
			if !strings.Contains(line, " "+c.want+" ") {
				t.Errorf("answered %q, %v; want %s", line, err, c.want)
			}
		})
	}
}

// A client that asks while the server is being restarted is let wait.
func TestProxyRidesOutARestart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	port := testkit.ReservePort(t)
	p, err := cli.NewProxy(s.clientWith(t, "url", "https://"+port.Address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT management.azure.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: %s\r\n\r\n", p.Auth())
	port.Listen(t)
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(line, " 200 ") {
		t.Errorf("answered %q, %v", line, err)
	}
}

// Patience counts once, whoever asks and how often, and anew once the server
// has answered.
func TestPatienceCountsOnce(t *testing.T) {
	t.Parallel()
	o := cli.NewOutage(30 * time.Second)
	at := time.Unix(1000, 0)
	for i, step := range []struct {
		after       time.Duration // negative: the server answers
		left, first bool
	}{
		{0, true, false}, {29 * time.Second, true, false}, {time.Second, false, true}, {time.Second, false, false}, {time.Hour, false, false},
		{-1, false, false}, {time.Second, true, false}, {30 * time.Second, false, true}, {0, false, false},
	} {
		if step.after < 0 {
			o.Over()
			continue
		}
		at = at.Add(step.after)
		if left, first := o.Failed(at); left != step.left || first != step.first {
			t.Errorf("step %d: patience is left: %v, the first time: %v; want %v, %v", i, left, first, step.left, step.first)
		}
	}
}

func TestExecWithoutAServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	port := testkit.ReservePort(t)
	urls := []string{"https://management.azure.com/a", "https://management.azure.com/b", "https://ml.azure.com/c"}
	cmd := s.ebb(t, append([]string{"--patience", "1ms", "exec", "--"}, as(t, "get", urls...)...)...)
	cmd.Env = append(cmd.Env, "EBB_CLIENT="+s.clientWith(t, "url", "https://"+port.Address))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if n := strings.Count(string(out), "Bad Gateway"); n != len(urls) {
		t.Errorf("%d requests of %d were refused:\n%s", n, len(urls), out)
	}
	if n := strings.Count(said.String(), "ERROR: no answer from https://"+port.Address); n != 1 || !strings.Contains(said.String(), "name another one's client file with --client") {
		t.Errorf("it was said %d times, want once:\n%s", n, said.String())
	}
}

// A client file that does not fit the server is told of before the child runs,
// and by every command.
func TestClientFileOfAnotherServer(t *testing.T) {
	t.Parallel()
	s, other := newServer(t), newServer(t)
	for name, c := range map[string]struct {
		file string
		want string
	}{
		"another CA":     {s.clientWith(t, "ca", other.caFile), "the server's certificate is not of the CA that the client file names"},
		"another secret": {s.clientWith(t, "client_secret", "old"), "AADSTS7000215: Invalid client secret"},
		"another tenant": {s.clientWith(t, "tenant_id", "elsewhere"), "AADSTS90002: Tenant 'elsewhere' not found"},
	} {
		for _, args := range [][]string{append([]string{"exec", "--"}, as(t, "exit", "42")...), {"status"}, {"job", "list"}} {
			t.Run(name+", "+args[0], func(t *testing.T) {
				t.Parallel()
				out, err := s.ebb(t, append([]string{"--client", c.file}, args...)...).CombinedOutput()
				if code(err) != 1 || !strings.Contains(string(out), "ERROR: "+c.want) || !strings.Contains(string(out), "--client or EBB_CLIENT names another client file") {
					t.Errorf("exit %d, want 1 and %q:\n%s", code(err), c.want, out)
				}
				if strings.HasPrefix(c.want, "AADSTS") && !strings.Contains(string(out), c.file) {
					t.Errorf("the client file %s is not named:\n%s", c.file, out)
				}
			})
		}
	}
	cmd := s.ebb(t, append([]string{"--client", s.clientWith(t, "client_secret", "old"), "exec", "--"}, as(t, "exit", "42")...)...)
	cmd.Env = append(cmd.Env, "AZURE_CLIENT_ID=id", "AZURE_CLIENT_SECRET=s3cret")
	if out, err := cmd.CombinedOutput(); code(err) != 42 {
		t.Errorf("with a credential of one's own: exit %d, %s", code(err), out)
	}
}

func TestProxyKeepsTheOtherHalfOpen(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p, err := cli.NewProxy(s.client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	// A peer that answers only once it has read to the end.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "%d bytes", len(b))
	}()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// What follows the request at once belongs to the tunnel.
	big := bytes.Repeat([]byte("x"), 1<<20)
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\nearly", ln.Addr(), ln.Addr(), p.Auth())
	if _, err := conn.Write(big); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(b), "\r\n\r\n"+fmt.Sprintf("%d bytes", len(big)+len("early"))) {
		t.Errorf("got %q, %v", b, err)
	}
}

// Nothing is left of a proxy that is closed in the middle of its work: goleak
// looks for the goroutines at the end, this for the connections.
func TestProxyCloseEndsTunnels(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p, err := cli.NewProxy(s.client)
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range 20 {
		conn, err := net.Dial("tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "CONNECT management.azure.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: %s\r\n\r\n", p.Auth())
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	p.Close()
	for _, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("a tunnel after close: %v", err)
		}
	}
}

// A SOCKS proxy of the user's is spoken to as RFC 1928 says.
func TestProxyThroughSOCKS(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	asked := make(chan string, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b := make([]byte, 512)
		_, _ = io.ReadFull(conn, b[:4]) // 5, 2 methods, none and password
		_, _ = conn.Write([]byte{5, 2})
		_, _ = io.ReadFull(conn, b[:2+2+1+2])
		login := string(b[2:4]) + ":" + string(b[5:7])
		_, _ = conn.Write([]byte{1, 0})
		_, _ = io.ReadFull(conn, b[:5])
		n := int(b[4])
		_, _ = io.ReadFull(conn, b[:n+2])
		asked <- login + "@" + string(b[:n]) + ":" + strconv.Itoa(int(b[n])<<8|int(b[n+1]))
		_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		_, _ = io.WriteString(conn, "welcome")
	}()
	p, err := cli.NewProxy(s.client, "ALL_PROXY=socks5h://me:pw@"+ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT far.example:8443 HTTP/1.1\r\nHost: far.example:8443\r\nProxy-Authorization: %s\r\n\r\n", p.Auth())
	b, _ := io.ReadAll(conn)
	if got := <-asked; got != "me:pw@far.example:8443" || !strings.HasSuffix(string(b), "\r\n\r\nwelcome") {
		t.Errorf("asked for %s, got %q", got, b)
	}
}

func TestNamesThatLead(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("0123456789", 2)
	for host, want := range map[string]bool{
		"management.azure.com": true, "MANAGEMENT.azure.com.": true, "login.microsoftonline.com": true, "westeurope.api.azureml.ms": true,
		"ml.azure.com": true, "a.ml.azure.com": true, "ebb" + hex + ".blob.core.windows.net": true,
		"portal.azure.com": false, "azure.com": false, "api.azureml.ms.evil.example": false, "evilml.azure.com": false, "xapi.azureml.ms": false,
		"realaccount.blob.core.windows.net": false, "ebb" + hex + "f.blob.core.windows.net": false, "ebb" + hex[1:] + ".blob.core.windows.net": false,
		"graph.microsoft.com": true, "graph.microsoft.com.evil.example": false, "notlogin.microsoftonline.com": false, "": false,
	} {
		if got := cli.Leads(host); got != want {
			t.Errorf("Leads(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestNoProxyLosesAzureOnly(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "*": "", "localhost,127.0.0.1": "localhost,127.0.0.1", ".azure.com, intra": "intra", "azure.com": "", "com": "",
		"MANAGEMENT.AZURE.COM:443": "", "portal.azure.com": "portal.azure.com", "*.windows.net": "", "core.windows.net,10.0.0.0/8": "10.0.0.0/8",
		"westus.api.azureml.ms": "", "microsoftonline.com": "", "example.com": "example.com",
	} {
		if got := cli.WithoutAzure(in); got != want {
			t.Errorf("WithoutAzure(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWhichProxy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env                map[string]string
		scheme, host, port string
		want               string
	}{
		"none":                         {nil, "https", "x.example", "443", ""},
		"lower case wins":              {map[string]string{"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "https", "x.example", "443", "low:1"},
		"a bare host is a proxy":       {map[string]string{"HTTP_PROXY": "p:3128"}, "http", "x.example", "80", "p:3128"},
		"each scheme has its own":      {map[string]string{"HTTP_PROXY": "p:3128"}, "https", "x.example", "443", ""},
		"all stands in":                {map[string]string{"ALL_PROXY": "http://a:1", "HTTP_PROXY": "h:1"}, "https", "x.example", "443", "a:1"},
		"a domain is excepted":         {map[string]string{"HTTPS_PROXY": "p:1", "NO_PROXY": ".example"}, "https", "x.example", "443", ""},
		"with and without its dot":     {map[string]string{"HTTPS_PROXY": "p:1", "no_proxy": "x.example"}, "https", "y.x.example", "443", ""},
		"another one is not":           {map[string]string{"HTTPS_PROXY": "p:1", "NO_PROXY": "ample"}, "https", "x.example", "443", "p:1"},
		"a port is looked at":          {map[string]string{"HTTPS_PROXY": "p:1", "NO_PROXY": "x.example:8443"}, "https", "x.example", "443", "p:1"},
		"a network is excepted":        {map[string]string{"HTTPS_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "https", "10.1.2.3", "443", ""},
		"a star excepts everything":    {map[string]string{"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, "https", "x.example", "443", ""},
		"this machine needs no proxy":  {map[string]string{"HTTPS_PROXY": "p:1"}, "https", "127.0.0.1", "443", ""},
		"nor does it by its own name":  {map[string]string{"HTTPS_PROXY": "p:1"}, "https", "localhost", "443", ""},
		"an address is no domain name": {map[string]string{"HTTPS_PROXY": "p:1", "NO_PROXY": "2.3"}, "https", "10.1.2.3", "443", "p:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := cli.Via(c.env, c.scheme, c.host, c.port); err != nil || got != c.want {
				t.Errorf("by %q, %v; want %q", got, err, c.want)
			}
		})
	}
	if _, err := cli.Via(map[string]string{"HTTPS_PROXY": "ftp://me:secret@p:1"}, "https", "x", "443"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a proxy of an unknown kind: %v", err)
	}
}

func TestEnvCustomCloud(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.run(t, "env", "--custom-cloud")
	for _, want := range []string{
		"export ARM_CLOUD_METADATA_URL='" + s.URL + "/metadata/endpoints?api-version=2019-05-01'\n",
		"export AZUREML_CURRENT_CLOUD='Ebb'\n", "export AZUREML_SERVICE_PRINCIPAL_PASSWORD='s3cret'\n", "export REQUESTS_CA_BUNDLE='" + s.caFile + "'\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if r = s.run(t, "env", "--custom-cloud", "--shell", "fish"); !strings.Contains(r.out, "set -gx AZURE_CLIENT_ID 'id';\n") {
		t.Errorf("fish: %s", r.out)
	}
	if r = s.run(t, "env", "--custom-cloud", "--shell", "powershell"); !strings.Contains(r.out, "$env:AZURE_CLIENT_ID = 'id'\n") {
		t.Errorf("powershell: %s", r.out)
	}
	if r = s.run(t, "env", "--shell", "tcsh"); r.code != 2 {
		t.Errorf("a shell we do not know: %+v", r)
	}
}

// eval "$(ebb env)" in a real shell: its proxy serves what the shell starts,
// and ends with the shell.
func TestEnvServesAShellAndEndsWithIt(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"sh", "bash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("%s is not on this machine", shell)
			}
			s := newServer(t)
			s.mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", r.Host) })
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), shell, "-c", `
cd "$(dirname "$EBB_CLIENT")" && unset EBB_CLIENT
eval "$("$0" env --client client.json)" || exit 9
EBB_TEST_CHILD=get "$0" https://management.azure.com/hello
echo "$HTTPS_PROXY"
echo "$REQUESTS_CA_BUNDLE"
`, self)
			dir := t.TempDir()
			cmd.Env = append(plainEnv(), "EBB_TEST_CHILD=ebb-kept", "EBB_CLIENT="+s.client, "TMPDIR="+dir, "XDG_RUNTIME_DIR=")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if len(lines) != 3 || lines[0] != "200 hello from management.azure.com" {
				t.Fatalf("the shell said:\n%s", out)
			}
			proxy, err := url.Parse(lines[1])
			if err != nil || proxy.Host == "" {
				t.Fatalf("proxy %q, %v", lines[1], err)
			}
			eventually(t, "the proxy to end with its shell", func() bool {
				conn, err := net.Dial("tcp", proxy.Host)
				if err == nil {
					conn.Close()
				}
				_, serr := os.Stat(lines[2])
				return err != nil && os.IsNotExist(serr)
			})
		})
	}
}

// eventually waits for what another process does, as long as the test may take.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if done() {
			return
		}
		<-tick.C
	}
	t.Fatalf("waited in vain for %s", what)
}

// A tunnel carries the server's own certificate: nobody in between reads it.
func TestTunnelIsTheServersTLS(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p, err := cli.NewProxy(s.client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT ml.azure.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: %s\r\n\r\n", p.Auth())
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	ca, err := os.ReadFile(s.caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "ml.azure.com"})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Errorf("handshake through the tunnel: %v", err)
	}
}
