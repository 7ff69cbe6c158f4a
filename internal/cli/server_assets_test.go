package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// assetRoutes answer for assets, datastores and their blobs, as much as the
// command line asks.
func (s *server) assetRoutes() {
	s.assets, s.blobs = map[string]map[string]any{}, map[string]string{}
	find := func(w http.ResponseWriter, r *http.Request) map[string]any {
		got := s.assets[r.PathValue("kind")+"/"+r.PathValue("name")+"/"+r.PathValue("version")]
		if got == nil {
			refuse(w, 404, "NotFound", "There is no such version.")
		}
		return got
	}
	s.mux.HandleFunc("GET "+ws+"/{kind}/{name}/versions/{version}", func(w http.ResponseWriter, r *http.Request) {
		if got := find(w, r); got != nil {
			reply(w, got)
		}
	})
	s.mux.HandleFunc("PUT "+ws+"/{kind}/{name}/versions/{version}", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		body["id"], body["name"] = r.URL.Path, r.PathValue("version")
		s.assets[r.PathValue("kind")+"/"+r.PathValue("name")+"/"+r.PathValue("version")] = body
		reply(w, body)
	})
	s.mux.HandleFunc("GET "+ws+"/{kind}/{name}/versions", func(w http.ResponseWriter, r *http.Request) {
		list := []any{}
		hash := r.URL.Query().Get("hash")
		for _, key := range s.sortedAssets() {
			got := s.assets[key]
			inner, _ := got["properties"].(map[string]any)["properties"].(map[string]any)
			named := strings.HasPrefix(key, r.PathValue("kind")+"/"+r.PathValue("name")+"/")
			if hash == "" && named || hash != "" && inner["hash_sha256"] == hash {
				list = append(list, got)
			}
		}
		reply(w, map[string]any{"value": list})
	})
	s.mux.HandleFunc("GET "+ws+"/{kind}/{name}", func(w http.ResponseWriter, r *http.Request) {
		latest := 0
		for key := range s.assets {
			var n int
			if _, err := fmt.Sscanf(strings.TrimPrefix(key, r.PathValue("kind")+"/"+r.PathValue("name")+"/"), "%d", &n); err == nil {
				latest = max(latest, n)
			}
		}
		if latest == 0 {
			refuse(w, 404, "NotFound", "There is no such asset.")
			return
		}
		reply(w, map[string]any{"name": r.PathValue("name"), "properties": map[string]any{"latestVersion": fmt.Sprint(latest), "nextVersion": fmt.Sprint(latest + 1)}})
	})
	s.mux.HandleFunc("POST "+ws+"/codes/{name}/versions/{version}/startPendingUpload", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"blobReferenceForConsumption": map[string]any{"blobUri": s.URL + "/code-1", "credential": map[string]any{"sasUri": s.URL + "/code-1?sig=s&sp=racwl"}}})
	})
	s.mux.HandleFunc("GET "+ws+"/datastores/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") != "workspaceblobstore" {
			refuse(w, 404, "NotFound", "There is no such datastore.")
			return
		}
		reply(w, map[string]any{"name": "workspaceblobstore", "properties": map[string]any{"datastoreType": "AzureBlob", "accountName": "acc", "containerName": "store-1"}})
	})
	s.mux.HandleFunc("POST "+ws+"/datastores/{name}/listSecrets", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"secretsType": "AccountKey", "key": "a2V5"})
	})
	for _, container := range []string{"code-1", "store-1"} {
		s.mux.HandleFunc("PUT /"+container+"/{blob...}", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("sig") == "" || r.Header.Get("Authorization") != "" {
				refuse(w, 403, "AuthenticationFailed", "a signature and no token is wanted")
				return
			}
			b, _ := io.ReadAll(r.Body)
			s.blobs[container+"/"+r.PathValue("blob")] = string(b)
			w.WriteHeader(201)
		})
		s.mux.HandleFunc("GET /"+container+"/{blob...}", func(w http.ResponseWriter, r *http.Request) {
			if r.PathValue("blob") == "" {
				s.listBlobs(w, container, r.URL.Query().Get("prefix"))
				return
			}
			_, _ = io.WriteString(w, s.blobs[container+"/"+r.PathValue("blob")])
		})
		s.mux.HandleFunc("GET /"+container, func(w http.ResponseWriter, r *http.Request) {
			s.listBlobs(w, container, r.URL.Query().Get("prefix"))
		})
	}
}

func (s *server) listBlobs(w http.ResponseWriter, container, prefix string) {
	var b strings.Builder
	for key, text := range s.blobs {
		if name, ok := strings.CutPrefix(key, container+"/"); ok && strings.HasPrefix(name, prefix) {
			fmt.Fprintf(&b, "<Blob><Name>%s</Name><Properties><Content-Length>%d</Content-Length></Properties></Blob>", name, len(text))
		}
	}
	fmt.Fprintf(w, "<EnumerationResults><Blobs>%s</Blobs><NextMarker/></EnumerationResults>", b.String())
}

func (s *server) sortedAssets() []string {
	var keys []string
	for key := range s.assets {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	slices.Reverse(keys)
	return keys
}
