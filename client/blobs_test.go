package client_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-compute/ebb/client"
)

// store is a container's other side.
type store struct {
	t      *testing.T
	mu     sync.Mutex
	blocks map[string][]byte
	blobs  map[string][]byte
	breaks int // reads to break off after half of what is left
}

func (s *store) routes(mux *http.ServeMux) {
	mux.HandleFunc("/box/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		name, q := strings.TrimPrefix(r.URL.Path, "/box/"), r.URL.Query()
		if q.Get("sig") != "a+b/c=" || r.Header.Get("Authorization") != "" || r.Header.Get("X-Ms-Version") == "" {
			s.t.Errorf("%s %s: the signature and the version are wanted, and no token", r.Method, r.URL)
		}
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method == http.MethodPut && q.Get("comp") == "block":
			s.blocks[q.Get("blockid")] = body
		case r.Method == http.MethodPut && q.Get("comp") == "blocklist":
			var whole []byte
			for _, id := range strings.Split(strings.TrimSuffix(strings.TrimPrefix(string(body), "<BlockList><Latest>"), "</Latest></BlockList>"), "</Latest><Latest>") {
				whole = append(whole, s.blocks[id]...)
			}
			s.blobs[name] = whole
		case r.Method == http.MethodPut:
			if r.Header.Get("X-Ms-Blob-Type") != "BlockBlob" {
				s.t.Errorf("put %s without its type", name)
			}
			s.blobs[name] = body
		case s.blobs[name] == nil:
			w.WriteHeader(404)
			return
		case r.Method == http.MethodGet:
			s.read(w, r, s.blobs[name])
			return
		}
		if r.Method == http.MethodPut {
			w.WriteHeader(201)
		}
	})
	mux.HandleFunc("GET /box", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("restype") != "container" || q.Get("comp") != "list" || q.Get("prefix") != "in/ä" {
			s.t.Errorf("list: %v", q)
		}
		next := "2"
		if q.Get("marker") == "2" {
			next = ""
		}
		fmt.Fprintf(w, "<EnumerationResults><Blobs><Blob><Name>in/ä%s</Name><Properties><Content-Length>7</Content-Length></Properties></Blob></Blobs><NextMarker>%s</NextMarker></EnumerationResults>", q.Get("marker"), next)
	})
}

func (s *store) read(w http.ResponseWriter, r *http.Request, b []byte) {
	var from int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	}
	b = b[from:]
	if s.breaks > 0 {
		s.breaks--
		b = b[:len(b)/2] // net/http closes the connection of an answer that is too short
	}
	_, _ = w.Write(b)
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	s := &store{t: t, blocks: map[string][]byte{}, blobs: map[string][]byte{}}
	s.routes(mux)
	f := serve(t, mux)
	c := f.client(t, client.Options{})
	// A container's address may have another host: only the server is asked.
	box, err := c.Container("https://acc.blob.core.windows.net/box?sp=rw&sig=" + url.QueryEscape("a+b/c="))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20+1) // 16 MiB and a bit: three blocks
	for name, b := range map[string][]byte{"a b/ü?#%.txt": []byte("small"), "empty": {}, "large": large} {
		var sent int64
		if err := box.Put(ctx, name, bytes.NewReader(b), int64(len(b)), func(n int64) { sent += n }); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.blobs[name], b) || sent != int64(len(b)) {
			t.Errorf("%s: %d bytes came, %d were told, of %d", name, len(s.blobs[name]), sent, len(b))
		}
		s.breaks = 2
		if len(b) < 10 {
			s.breaks = 0
		}
		var got bytes.Buffer
		if err := box.Get(ctx, name, &got); err != nil || !bytes.Equal(got.Bytes(), b) {
			t.Errorf("%s: got %d bytes of %d, %v", name, got.Len(), len(b), err)
		}
	}
	if len(s.blocks) != 3 {
		t.Errorf("%d blocks", len(s.blocks))
	}
	if err := box.Get(ctx, "none", io.Discard); !client.IsNotFound(err) {
		t.Errorf("what is not there: %v", err)
	}
	var names []string
	for b, err := range box.List(ctx, "in/ä") {
		if err != nil || b.Size != 7 {
			t.Fatalf("%+v, %v", b, err)
		}
		names = append(names, b.Name)
	}
	if strings.Join(names, " ") != "in/ä in/ä2" {
		t.Errorf("listed %v", names)
	}
	failing := io.MultiWriter(io.Discard, brokenWriter{})
	if err := box.Get(ctx, "large", failing); err != io.ErrClosedPipe {
		t.Errorf("a full disk is no server that is away: %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDatastoreIsOpened(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	kinds := map[string]map[string]any{
		"key": {"datastoreType": "AzureBlob", "accountName": "acc", "containerName": "box"},
		"sas": {"datastoreType": "AzureBlob", "accountName": "acc", "containerName": "box"},
		"fs":  {"datastoreType": "AzureFile", "accountName": "acc", "fileShareName": "share"},
	}
	mux.HandleFunc("GET "+ws+"/datastores/{name}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]any{"name": r.PathValue("name"), "properties": kinds[r.PathValue("name")]})
	})
	mux.HandleFunc("POST "+ws+"/datastores/{name}/listSecrets", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") == "sas" {
			reply(w, map[string]any{"secretsType": "Sas", "sasToken": "?sp=r&sig=x"})
			return
		}
		reply(w, map[string]any{"secretsType": "AccountKey", "key": "a2V5"})
	})
	var asked []url.Values
	mux.HandleFunc("/box/", func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Query()) })
	c := serve(t, mux).client(t, client.Options{})
	for _, name := range []string{"key", "sas"} {
		box, err := c.Datastores().Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := box.Get(t.Context(), "x", io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if q := asked[0]; q.Get("sr") != "c" || q.Get("sig") == "" || q.Get("se") == "" || strings.ContainsAny(q.Get("sp"), "x") {
		t.Errorf("by key: %v", q)
	}
	if q := asked[1]; q.Get("sig") != "x" || q.Get("sp") != "r" {
		t.Errorf("by SAS: %v", q)
	}
	if _, err := c.Datastores().Open(t.Context(), "fs"); err == nil || !strings.Contains(err.Error(), "AzureFile") {
		t.Errorf("a share of files: %v", err)
	}
}
