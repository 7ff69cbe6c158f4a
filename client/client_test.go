package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ebb-compute/ebb/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  map[string]string
		euid int
		want string
	}{
		"EBB_DATA wins over everything":  {map[string]string{"EBB_DATA": "/d", "XDG_DATA_HOME": "/x"}, 0, "/d"},
		"root has a system folder":       {map[string]string{"XDG_DATA_HOME": "/x"}, 0, "/var/lib/ebb"},
		"others have XDG_DATA_HOME":      {map[string]string{"XDG_DATA_HOME": "/x"}, 7, "/x/ebb"},
		"a relative XDG_DATA_HOME is no": {map[string]string{"XDG_DATA_HOME": "x"}, 7, "/home/me/.local/share/ebb"},
		"and else their home":            {nil, 7, "/home/me/.local/share/ebb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := client.DataDir(func(k string) string { return c.env[k] }, c.euid, func() (string, error) { return "/home/me", nil })
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	const whole = `{"url":"https://h:1/","ca":"ca.pem","tenant_id":"t","client_id":"c","client_secret":"s","subscription_id":"u","resource_group":"g","workspace_name":"w"}`
	for name, c := range map[string]struct{ text, want string }{
		"a whole file is taken":         {whole, ""},
		"what is missing is named":      {strings.Replace(whole, "tenant_id", "tenant", 1), `"tenant_id" is missing`},
		"plain http would send secrets": {strings.Replace(whole, "https:", "http:", 1), "is not https://"},
		"broken JSON is no file":        {whole[1:], "read client file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "client.json")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := client.Load(path)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("Load: %v, want %q in it", err, c.want)
				}
				return
			}
			if err != nil || f.URL != "https://h:1" || f.CA != filepath.Join(dir, "ca.pem") {
				t.Fatalf("Load: %+v, %v", f, err)
			}
		})
	}
	if _, err := client.Load(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, client.ErrNoFile) {
		t.Errorf("Load of no file: %v, want ErrNoFile", err)
	}
}

func TestTokenIsCachedAndReplacedWhenRefused(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	var calls atomic.Int64
	mux.HandleFunc("GET "+ws+"/computes/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" || r.URL.Query().Get("api-version") == "" {
			t.Errorf("no token or api-version: %v", r.URL)
		}
		if calls.Add(1) == 3 {
			refuse(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "signed by a key that is gone")
			return
		}
		reply(w, map[string]any{"name": r.PathValue("name")})
	})
	f := serve(t, mux)
	c := f.client(t, client.Options{})
	for range 3 {
		got, err := c.Computes().Get(t.Context(), "cpu")
		if err != nil || got.Name != "cpu" {
			t.Fatalf("Get: %+v, %v", got, err)
		}
	}
	if n := f.tokens.Load(); n != 2 {
		t.Errorf("%d tokens were asked for, want 2: one, and one after the refusal", n)
	}
	if n := calls.Load(); n != 4 {
		t.Errorf("%d calls, want 4", n)
	}
}

func TestWrongSecretSaysSo(t *testing.T) {
	t.Parallel()
	f := serve(t, http.NewServeMux())
	f.file.ClientSecret = "wrong"
	_, err := f.client(t, client.Options{}).Computes().Get(t.Context(), "cpu")
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Code != "invalid_client" || e.Message != "who is that?" || e.Status != 401 {
		t.Errorf("got %#v", err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ws+"/computes/arm", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "It is not there.")
	})
	mux.HandleFunc("GET "+ws+"/computes/page", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>", http.StatusBadRequest)
	})
	c := serve(t, mux).client(t, client.Options{})
	_, err := c.Computes().Get(t.Context(), "arm")
	e, _ := errors.AsType[*client.Error](err)
	if !client.IsNotFound(err) || e.Code != "ResourceNotFound" || e.RequestID != "r-1" || err.Error() != "It is not there. (ResourceNotFound)" {
		t.Errorf("got %v", err)
	}
	_, err = c.Computes().Get(t.Context(), "page")
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 400 || client.IsNotFound(err) || err.Error() == "" {
		t.Errorf("a page that is not ARM's: %v", err)
	}
}

func TestPagesAreFollowedOnTheServerOnly(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ws+"/computes", func(w http.ResponseWriter, r *http.Request) {
		skip := r.URL.Query().Get("$skip")
		page := map[string]any{"value": []any{map[string]any{"name": "c" + skip}}}
		if skip != "2" {
			// Another host's name in the link: the token must not go there.
			page["nextLink"] = "https://management.azure.com" + r.URL.Path + "?%24skip=" + map[string]string{"": "1", "1": "2"}[skip] + "&api-version=x"
		}
		reply(w, page)
	})
	c := serve(t, mux).client(t, client.Options{})
	list, err := client.Collect(c.Computes().All(t.Context()))
	if err != nil || len(list) != 3 || list[2].Name != "c2" {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statuses []string
		want     string
	}{
		"an operation is asked until it succeeds": {[]string{"InProgress", "Creating", "Succeeded"}, ""},
		"the failure of an operation is an error": {[]string{"InProgress", "Failed"}, "no room (Full)"},
		"a cancelled one is no success":           {[]string{"Canceled"}, "no room (Full)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			var asked atomic.Int64
			mux.HandleFunc("PUT "+ws+"/computes/cpu", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Azure-AsyncOperation", "https://elsewhere.example/op/1?api-version=2020-02-02")
				w.Header().Set("Retry-After", "0")
				w.Header().Set("X-Ebb-Warning", "that size is retired")
				w.WriteHeader(http.StatusCreated)
				_, _ = io.Copy(w, r.Body)
			})
			mux.HandleFunc("GET /op/1", func(w http.ResponseWriter, r *http.Request) {
				i := asked.Add(1) - 1
				w.Header().Set("Retry-After", "0")
				reply(w, map[string]any{"status": c.statuses[i], "error": map[string]any{"error": map[string]any{"code": "Full", "message": "no room"}}})
			})
			var warnings []string
			cl := serve(t, mux).client(t, client.Options{Warn: func(w string) { warnings = append(warnings, w) }})
			want := client.Compute{Location: "westus", Properties: client.ComputeProperties{ComputeType: "AmlCompute",
				Properties: client.AmlCompute{VMSize: "STANDARD_NC6", Scale: client.ScaleSettings{Max: 4}}}}
			got, op, err := cl.Computes().Create(t.Context(), "cpu", want)
			if err != nil || got.Properties.Properties.VMSize != "STANDARD_NC6" || got.Properties.Properties.Scale.Max != 4 {
				t.Fatalf("Create: %+v, %v", got, err)
			}
			err = op.Wait(t.Context())
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("Wait: %v, want %q", err, c.want)
			}
			if int(asked.Load()) != len(c.statuses) {
				t.Errorf("asked %d times, want %d", asked.Load(), len(c.statuses))
			}
			if len(warnings) != 1 || warnings[0] != "that size is retired" {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

func TestALocationAloneIsWaitedFor(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	var asked atomic.Int64
	mux.HandleFunc("POST "+ws+"/jobs/j/cancel", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/done/1")
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /done/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "0")
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusAccepted)
		}
	})
	c := serve(t, mux).client(t, client.Options{})
	op, err := c.Jobs().Cancel(t.Context(), "j")
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(t.Context()); err != nil || asked.Load() != 3 {
		t.Errorf("Wait: %v after %d", err, asked.Load())
	}
}

func TestARestartIsRiddenOut(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	var bodies []string
	mux.HandleFunc("PUT "+ws+"/jobs/j", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		reply(w, map[string]any{"name": "j"})
	})
	f := serve(t, mux)
	tries := 0
	c := f.client(t, client.Options{Waiting: func(error) {
		if tries++; tries == 3 {
			f.reopen(t, mux)
		}
	}})
	if _, err := c.Jobs().Create(t.Context(), "j", client.Job{}); err != nil {
		t.Fatal(err)
	}
	f.CloseClientConnections()
	f.Server.Close()
	got, err := c.Jobs().Create(t.Context(), "j", client.Job{})
	if err != nil || got.Name != "j" {
		t.Fatalf("after a restart: %+v, %v", got, err)
	}
	if tries < 3 || len(bodies) != 2 || bodies[0] != bodies[1] {
		t.Errorf("%d tries, bodies %q: want the same body again", tries, bodies)
	}
}

func TestWhatIsAndIsNotRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first http.HandlerFunc
		calls int64
	}{
		"503 is waited out": {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "Unavailable", "closing") }, 2},
		"502 is waited out": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, 2},
		"a broken connection is made again": {func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, 2},
		"500 is told at once": {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "Internal", "bug") }, 1},
		"409 is told at once": {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 409, "Conflict", "no") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			var calls atomic.Int64
			mux.HandleFunc("POST "+ws+"/computes/cpu/listNodes", func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					c.first(w, r)
					return
				}
				reply(w, map[string]any{"nodes": []any{map[string]any{"nodeId": "n0", "nodeState": "idle"}}})
			})
			nodes, err := serve(t, mux).client(t, client.Options{}).Computes().Nodes(t.Context(), "cpu")
			if calls.Load() != c.calls || (err == nil) != (c.calls == 2) || err == nil && (len(nodes) != 1 || nodes[0].State != "idle") {
				t.Errorf("%d calls, %+v, %v; want %d calls", calls.Load(), nodes, err, c.calls)
			}
		})
	}
}

func TestImpatienceEndsWithWhere(t *testing.T) {
	t.Parallel()
	f := serve(t, http.NewServeMux())
	f.Server.Close()
	_, err := f.client(t, client.Options{Patience: -1}).Workspace(t.Context())
	away, ok := errors.AsType[*client.Unreachable](err)
	if !ok || away.URL != f.URL || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownCAIsNotRepeated(t *testing.T) {
	t.Parallel()
	f := serve(t, http.NewServeMux())
	f.file.CA = "" // the system's roots do not know it
	f.Config.ErrorLog = nil
	began := time.Now()
	_, err := f.client(t, client.Options{}).Workspace(t.Context())
	if err == nil || !strings.Contains(err.Error(), "certificate") || time.Since(began) > 10*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}

// A log in pieces: an answer that breaks off in the middle, a server that is
// away, an empty answer, a rest with the end.
func TestStreamLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	whole := strings.Repeat("0123456789\n", 5000)
	mux := http.NewServeMux()
	var calls atomic.Int64
	mux.HandleFunc("GET /ebb/v1"+ws+"/jobs/j/log", func(w http.ResponseWriter, r *http.Request) {
		var offset int
		if _, err := fmt.Sscan(r.FormValue("offset"), &offset); err != nil || r.FormValue("name") != client.StdLog {
			t.Errorf("asked for %v", r.URL)
		}
		switch calls.Add(1) {
		case 1:
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			w.Header().Set("X-Ebb-Final", "true") // not to be believed of a part
			_, _ = io.WriteString(w, whole[:20001])
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			w.WriteHeader(http.StatusOK)
		case 4:
			_, _ = io.WriteString(w, whole[offset:offset+7])
		default:
			w.Header().Set("X-Ebb-Final", "true")
			_, _ = io.WriteString(w, whole[offset:])
		}
	})
	c := serve(t, mux).client(t, client.Options{})
	var got bytes.Buffer
	at, err := c.Jobs().Stream(t.Context(), "j", client.StdLog, 0, &got)
	if err != nil || got.String() != whole || at != int64(len(whole)) {
		t.Errorf("got %d bytes up to %d, %v; want %d", got.Len(), at, err, len(whole))
	}
	if calls.Load() != 5 {
		t.Errorf("%d calls, want 5", calls.Load())
	}
}

type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

func TestAReaderThatGoesAwayEndsTheStream(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ebb/v1"+ws+"/jobs/j/log", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") })
	c := serve(t, mux).client(t, client.Options{})
	// A pipe that is closed looks like a network that is: it must not be ridden out.
	if _, err := c.Jobs().Stream(t.Context(), "j", client.StdLog, 0, full{io.ErrUnexpectedEOF}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
