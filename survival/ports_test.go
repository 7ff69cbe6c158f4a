package survival_test

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

func TestPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cluster("cpu", 0, 2, "PT30S")
	w.submit("cpu", "one", waiting)
	w.submit("cpu", "two", waiting)
	w.awaitLog("one", "begin")
	w.awaitLog("two", "begin")

	u, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel writes addresses in hexadecimal, IPv4's in the machine's byte order.
	if got, want := testkit.Listening(w.PID()), "0100007F:"+strings.ToUpper(strconv.FormatUint(port, 16)); len(got) != 1 || got[0] != want {
		t.Errorf("the server listens on %v, want %s alone", got, want)
	}
	all := w.Processes()
	for _, pid := range w.Agents() {
		for _, below := range testkit.Below(pid) {
			all[below] = "below an agent"
		}
	}
	for _, pid := range w.Shims() {
		for _, below := range testkit.Below(pid) {
			all[below] = "below a shim"
		}
	}
	delete(all, w.PID())
	if len(all) < 6 { // two agents, two shims, two jobs
		t.Errorf("only %d processes were found: %v", len(all), all)
	}
	for pid, line := range all {
		if got := testkit.Listening(pid); len(got) > 0 {
			t.Errorf("process %d (%s) listens on %v", pid, line, got)
		}
	}
}

// TestATakenPort starts a server where somebody else listens: nothing is made.
func TestATakenPort(t *testing.T) {
	t.Parallel()
	var taken net.ListenConfig
	l, err := taken.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().String()
	data := filepath.Join(t.TempDir(), "data")
	out, err := exec.CommandContext(t.Context(), testkit.Binary(t), "serve", "--data", data, "--listen", at).CombinedOutput()
	if err == nil || !strings.Contains(string(out), at+": choose another address with --listen") {
		t.Errorf("serve on %s: %v\n%s", at, err, out)
	}
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data folder: %v", err)
	}
}
