package node_test

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

const loopback = "127.0.0.0/8"

// website is a web server that a test may call public.
func website(t *testing.T) (address string, roots *x509.CertPool, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	var once atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/data/titanic.csv", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "a,b\n") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/data/titanic.csv", http.StatusFound)
	})
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/data/titanic.csv", http.StatusFound)
	})
	mux.HandleFunc("/metadata", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://169.254.169.254/latest", http.StatusFound)
	})
	mux.HandleFunc("/secret", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	mux.HandleFunc("/busy.csv", func(w http.ResponseWriter, _ *http.Request) {
		if !once.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	roots = x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv.URL, roots, asked
}

func at(address string, mode queue.Mode) nodeproto.Order {
	in := queue.Input{Name: "d", Type: "uri_file", URI: address, Public: address, Mode: mode}
	return nodeproto.Order{Attempt: "r.1", Fence: 1, Task: queue.Task{Inputs: []queue.Input{in}}}
}

func TestInputsAtPublicAddresses(t *testing.T) {
	t.Parallel()
	address, roots, _ := website(t)
	for name, c := range map[string]struct {
		path   string
		mode   queue.Mode
		file   string
		writes bool
	}{
		"a file that may not be changed": {"/data/titanic.csv", queue.ReadOnlyMount, "inputs/d/titanic.csv", false},
		"a copy of the job's own":        {"/data/titanic.csv?sig=x", queue.Download, "copies/d/titanic.csv", true},
		"one that has moved":             {"/moved", queue.ReadOnlyMount, "inputs/d/moved", false},
		"one that is busy at first":      {"/busy.csv", queue.ReadOnlyMount, "inputs/d/busy.csv", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := node.FetchPublic(t.Context(), dir, roots, at(address+c.path, c.mode), loopback); err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat(filepath.Join(dir, c.file))
			if err != nil || (fi.Mode().Perm()&0o200 != 0) != c.writes {
				t.Errorf("the file: %v, %v", fi, err)
			}
			shown, err := os.ReadFile(filepath.Dir(filepath.Join(dir, c.file)) + ".file")
			if err != nil || string(shown) != filepath.Base(c.file) {
				t.Errorf("the job is to see %q, %v", shown, err)
			}
		})
	}
}

func TestPublicInputsThatCannotBe(t *testing.T) {
	t.Parallel()
	address, roots, _ := website(t)
	for name, c := range map[string]struct{ address, says string }{
		"what not everybody may read":        {address + "/secret", "403 Forbidden; only what anybody may read"},
		"what is not there":                  {address + "/nothing", "404"},
		"what leads away from encryption":    {address + "/plain", "it leads on to http://"},
		"what leads to a machine's metadata": {address + "/metadata", "169.254.169.254, which is not public"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := node.FetchPublic(t.Context(), t.TempDir(), roots, at(c.address, queue.ReadOnlyMount), loopback)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `The input "d"`) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	t.Run("loopback, where nobody allowed it", func(t *testing.T) {
		t.Parallel()
		alone, roots, asked := website(t)
		err := node.FetchPublic(t.Context(), t.TempDir(), roots, at(alone+"/data/titanic.csv", queue.ReadOnlyMount))
		if err == nil || !strings.Contains(err.Error(), "not public") || !strings.Contains(err.Error(), "local.input_networks") || asked.Load() != 0 {
			t.Errorf("%v, after %d requests", err, asked.Load())
		}
	})
}

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"140.82.112.3": true, "2606:50c0:8000::153": true,
		"127.0.0.1": false, "::1": false, "0.0.0.0": false, "::": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "100.100.100.200": false, "168.63.129.16": false,
		"224.0.0.1": false, "255.255.255.255": false, "::ffff:127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
	} {
		if got := node.Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is public: %v, want %v", text, got, want)
		}
	}
}
