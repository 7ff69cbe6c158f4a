package cli_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/cli"
)

const ws = "/subscriptions/sub/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/main"

// server is a fake of the recorded shapes: enough of ARM for the commands to
// be seen from outside.
type server struct {
	*httptest.Server
	mux    *http.ServeMux
	client string // path of the client file
	caFile string

	mu       sync.Mutex // guards what follows
	computes map[string]map[string]any
	jobs     map[string]map[string]any
	details  map[string]any
	log      string
	polls    int // of an operation, before it has succeeded
	seen     []string
	assets   map[string]map[string]any // by kind/name/version
	blobs    map[string]string         // by container/name
	bodies   map[string]string         // by method and path
	names    http.HandlerFunc          // whether names may be had; nil: all
}

// The certificate names what the real one will: Azure's hosts and loopback.
func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Ebb test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "management.azure.com", "login.microsoftonline.com", "*.api.azureml.ms", "*.blob.core.windows.net", "ml.azure.com"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{mux: http.NewServeMux(), computes: map[string]map[string]any{}, jobs: map[string]map[string]any{},
		details: map[string]any{"status": "Completed"}, bodies: map[string]string{}}
	s.routes()
	cert, ca := certificate(t)
	s.Server = httptest.NewUnstartedServer(s)
	s.Server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	s.caFile, s.client = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client.json")
	file, err := json.Marshal(map[string]string{"url": s.URL, "ca": s.caFile, "tenant_id": "tenant", "client_id": "id", "client_secret": "s3cret",
		"subscription_id": "sub", "resource_group": "ebb", "workspace_name": "main"})
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{s.caFile: ca, s.client: file} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// clientWith is the server's client file with another value in one field.
func (s *server) clientWith(t *testing.T, field, value string) string {
	t.Helper()
	b, err := os.ReadFile(s.client)
	if err != nil {
		t.Fatal(err)
	}
	var f map[string]string
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	f[field] = value
	if b, err = json.Marshal(f); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "client.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(b))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r.Method+" "+r.Host+r.URL.Path)
	s.bodies[r.Method+" "+r.URL.Path] = string(b)
	if !strings.Contains(r.URL.Path, "/oauth2/") && strings.HasPrefix(r.URL.Path, "/subscriptions") && r.Header.Get("Authorization") != "Bearer token" {
		refuse(w, 401, "InvalidAuthenticationToken", "no token")
		return
	}
	s.mux.ServeHTTP(w, r)
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the client sees what is missing
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	reply(w, map[string]any{"error": map[string]any{"code": code, "message": message, "details": []any{}}})
}

func (s *server) routes() {
	s.mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		refused := ""
		switch tenant := r.PathValue("tenant"); {
		case tenant != "tenant":
			refused = "AADSTS90002: Tenant '" + tenant + "' not found."
		case r.FormValue("client_secret") != "s3cret":
			refused = "AADSTS7000215: Invalid client secret provided."
		}
		if refused != "" {
			w.WriteHeader(http.StatusUnauthorized)
			reply(w, map[string]any{"error": "invalid_client", "error_description": refused})
			return
		}
		reply(w, map[string]any{"access_token": "token", "expires_in": 3600})
	})
	s.mux.HandleFunc("GET "+ws, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"id": ws, "name": "main", "location": "westeurope"})
	})
	s.mux.HandleFunc("GET /op", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "0")
		if s.polls--; s.polls >= 0 {
			reply(w, map[string]any{"status": "InProgress"})
			return
		}
		reply(w, map[string]any{"status": "Succeeded"})
	})
	s.mux.HandleFunc("GET /subscriptions/sub/providers/Microsoft.MachineLearningServices/locations/westeurope/vmSizes", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"value": []any{
			map[string]any{"name": "STANDARD_DS3_V2", "family": "standardDSv2Family", "vCPUs": 4, "gpus": 0, "memoryGB": 14, "lowPriorityCapable": true},
			map[string]any{"name": "STANDARD_NC6", "family": "standardNCFamily", "vCPUs": 6, "gpus": 1, "memoryGB": 56.5}}})
	})
	s.mux.HandleFunc("GET /subscriptions/sub/providers/Microsoft.MachineLearningServices/locations/westeurope/usages", func(w http.ResponseWriter, _ *http.Request) {
		usage := func(scope, name string, current, limit int) any {
			return map[string]any{"id": scope + "/usages/" + name, "name": map[string]any{"value": name, "localizedValue": name + " vCPUs"}, "currentValue": current, "limit": limit, "unit": "Count", "type": "t"}
		}
		reply(w, map[string]any{"value": []any{usage("/subscriptions/sub", "DSv2", 16, 100), usage(ws, "DSv2", 12, -1), usage(ws+"/computes/cpu", "DSv2", 4, -1), usage("/subscriptions/sub", "NC", 0, -1)}})
	})
	s.mux.HandleFunc("POST /subscriptions/sub/providers/Microsoft.Storage/checkNameAvailability", func(w http.ResponseWriter, r *http.Request) {
		answer := s.names
		if answer == nil {
			reply(w, map[string]any{"nameAvailable": true})
			return
		}
		s.mu.Unlock() // it may wait for another
		defer s.mu.Lock()
		answer(w, r)
	})
	s.mux.HandleFunc("POST /ebb/v1/admin/prune", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]any{"dryRun": true, "value": []any{map[string]any{"kind": "logs", "removed": 3, "bytes": 2048, "keptBytes": 0}}})
	})
	s.computeRoutes()
	s.jobRoutes()
	s.assetRoutes()
}

func (s *server) computeRoutes() {
	find := func(w http.ResponseWriter, r *http.Request) map[string]any {
		c := s.computes[strings.ToLower(r.PathValue("name"))]
		if c == nil {
			refuse(w, 404, "ResourceNotFound", "The resource was not found.")
		}
		return c
	}
	s.mux.HandleFunc("GET "+ws+"/computes", func(w http.ResponseWriter, _ *http.Request) {
		list := []any{}
		for _, name := range []string{"cpu-cluster", "gpu-cluster", "small"} {
			if c := s.computes[name]; c != nil {
				list = append(list, c)
			}
		}
		reply(w, map[string]any{"value": list})
	})
	s.mux.HandleFunc("GET "+ws+"/computes/{name}", func(w http.ResponseWriter, r *http.Request) {
		if c := find(w, r); c != nil {
			reply(w, c)
		}
	})
	s.mux.HandleFunc("PUT "+ws+"/computes/{name}", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		s.addCompute(r.PathValue("name"), body)
		w.Header().Set("Azure-AsyncOperation", s.URL+"/op?api-version=x")
		w.WriteHeader(201)
		reply(w, s.computes[r.PathValue("name")])
	})
	s.mux.HandleFunc("PATCH "+ws+"/computes/{name}", func(w http.ResponseWriter, r *http.Request) {
		if c := find(w, r); c != nil {
			reply(w, c)
		}
	})
	s.mux.HandleFunc("DELETE "+ws+"/computes/{name}", func(w http.ResponseWriter, r *http.Request) {
		delete(s.computes, r.PathValue("name"))
		w.Header().Set("Azure-AsyncOperation", s.URL+"/op?api-version=x")
		w.WriteHeader(202)
	})
	s.mux.HandleFunc("POST "+ws+"/computes/{name}/listNodes", func(w http.ResponseWriter, r *http.Request) {
		if find(w, r) != nil {
			reply(w, map[string]any{"nodes": []any{
				map[string]any{"nodeId": "tvm-1", "nodeState": "running", "runId": "happy_river", "privateIpAddress": "127.77.0.1", "port": 50000, "warnings": []any{"No GPU here."}},
				map[string]any{"nodeId": "tvm-2", "nodeState": "idle", "warnings": []any{"No GPU here.", "Landlock alone."}}}})
		}
	})
}

// addCompute keeps a compute as ARM would show it.
func (s *server) addCompute(name string, body map[string]any) {
	body["id"], body["name"] = ws+"/computes/"+name, name
	p := body["properties"].(map[string]any)
	p["provisioningState"] = "Succeeded"
	p["createdOn"] = "2026-11-23T01:36:49.000000+00:00"
	aml := p["properties"].(map[string]any)
	aml["allocationState"], aml["currentNodeCount"], aml["targetNodeCount"] = "Steady", 1, 1
	aml["nodeStateCounts"] = map[string]any{"idleNodeCount": 0, "runningNodeCount": 1}
	s.computes[strings.ToLower(name)] = body
}

// withCluster puts a cluster there before anything asks.
func (s *server) withCluster(name string) *server {
	s.addCompute(name, map[string]any{"location": "westeurope", "tags": map[string]any{"team": "vision"},
		"properties": map[string]any{"computeType": "AmlCompute", "properties": map[string]any{"vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated",
			"scaleSettings": map[string]any{"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT120S"}}}})
	return s
}

func (s *server) jobRoutes() {
	find := func(w http.ResponseWriter, r *http.Request) map[string]any {
		j := s.jobs[r.PathValue("name")]
		if j == nil {
			refuse(w, 404, "ResourceNotFound", "The resource was not found.")
		}
		return j
	}
	s.mux.HandleFunc("GET "+ws+"/jobs", func(w http.ResponseWriter, _ *http.Request) {
		list := []any{}
		for _, name := range []string{"night-1", "night-2"} {
			if j := s.jobs[name]; j != nil {
				list = append(list, j)
			}
		}
		reply(w, map[string]any{"value": list})
	})
	s.mux.HandleFunc("GET "+ws+"/jobs/{name}", func(w http.ResponseWriter, r *http.Request) {
		if j := find(w, r); j != nil {
			reply(w, j)
		}
	})
	s.mux.HandleFunc("PUT "+ws+"/jobs/{name}", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		p := body["properties"].(map[string]any)
		if compute, _ := p["computeId"].(string); s.computes[compute[strings.LastIndexByte(compute, '/')+1:]] == nil {
			refuse(w, 400, "ComputeNotFound", "no such compute")
			return
		}
		s.addJob(r.PathValue("name"), "Queued", body)
		w.WriteHeader(201)
		reply(w, body)
	})
	s.mux.HandleFunc("POST "+ws+"/jobs/{name}/cancel", func(w http.ResponseWriter, r *http.Request) {
		if j := find(w, r); j != nil {
			j["properties"].(map[string]any)["status"] = "Canceled"
			w.Header().Set("Location", s.URL+"/op")
			w.WriteHeader(202)
		}
	})
	s.mux.HandleFunc("GET /history/v1.0"+ws+"/runs/{name}/details", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.details) })
	s.mux.HandleFunc("GET /ebb/v1"+ws+"/jobs/{name}/log", func(w http.ResponseWriter, r *http.Request) {
		if find(w, r) != nil {
			w.Header().Set("X-Ebb-Final", "true")
			_, _ = io.WriteString(w, s.log)
		}
	})
}

func (s *server) addJob(name, status string, body map[string]any) {
	body["id"], body["name"] = ws+"/jobs/"+name, name
	body["properties"].(map[string]any)["status"] = status
	body["systemData"] = map[string]any{"createdAt": "2026-11-23T01:21:02.0000000Z", "createdBy": "ebb", "createdByType": "Application"}
	s.jobs[name] = body
}

func (s *server) withJob(name, status string) *server {
	s.mu.Lock() // another process may ask: nothing else orders its requests after this
	defer s.mu.Unlock()
	s.addJob(name, status, map[string]any{"properties": map[string]any{"jobType": "Command", "command": "python train.py", "experimentName": "Default",
		"displayName": name, "computeId": ws + "/computes/cpu-cluster", "limits": map[string]any{"jobLimitsType": "Command", "timeout": "PT1H"}}})
	return s
}

// result is what a command did.
type result struct {
	code     int
	out, err string
}

// run runs ebb with the server's client file.
func (s *server) run(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, []string{"EBB_CLIENT=" + s.client, "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, args...)
}

func run(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := cli.Run(t.Context(), cli.Options{Version: "1.2.3", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &err, Environ: environ}, args)
	return result{code, out.String(), err.String()}
}

func (s *server) body(t *testing.T, methodPath string) map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var m map[string]any
	if err := json.Unmarshal([]byte(s.bodies[methodPath]), &m); err != nil {
		t.Fatalf("%s: %v in %q", methodPath, err, s.bodies[methodPath])
	}
	return m
}
