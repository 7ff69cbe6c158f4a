package storage_test

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/armid"
)

// listed is what a client reads of List Blobs.
type listed struct {
	ContainerName string `xml:",attr"`
	NextMarker    string
	Blobs         struct {
		Blob []struct {
			Name struct {
				Encoded bool   `xml:",attr"`
				Text    string `xml:",chardata"`
			}
			Properties struct {
				ContentLength int64  `xml:"Content-Length"`
				ContentType   string `xml:"Content-Type"`
				Etag          string
			}
			Metadata struct {
				Team string `xml:"team"`
			}
		}
		BlobPrefix []struct{ Name string }
	}
}

func (l listed) names() []string {
	out := []string{}
	for _, b := range l.Blobs.Blob {
		out = append(out, b.Name.Text)
	}
	for _, p := range l.Blobs.BlobPrefix {
		out = append(out, p.Name)
	}
	return out
}

// listWith asks for a listing with a signature of the container.
func (s *site) listWith(permissions, query string) (answer, listed) {
	s.t.Helper()
	q := s.keys.SAS(armid.Account(workspace), container, "", permissions, now.Add(3600e9))
	more, err := url.ParseQuery("restype=container&comp=list&" + query)
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range more {
		q[k] = v
	}
	a := s.send(http.MethodGet, "/"+container+"?"+q.Encode(), "")
	var l listed
	if a.status == http.StatusOK {
		if err := xml.Unmarshal([]byte(a.body), &l); err != nil {
			s.t.Fatalf("%v in %s", err, a.body)
		}
	}
	return a, l
}

func TestList(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	names := []string{"a.txt", "d/1", "d/2", "d/e/3", "d0", "e/4", "z"}
	for _, name := range names {
		if a := s.do(http.MethodPut, name, "", "content", "x-ms-blob-type", "BlockBlob", "Content-Type", "text/plain", "x-ms-meta-team", "vision"); a.status != http.StatusCreated {
			t.Fatalf("put %s: %d %s", name, a.status, a.body)
		}
	}
	cases := map[string]struct {
		query string
		want  []string
	}{
		"everything, in order":                       {"", names},
		"what begins with a prefix":                  {"prefix=d/", []string{"d/1", "d/2", "d/e/3"}},
		"a prefix that ends inside a name":           {"prefix=d", []string{"d/1", "d/2", "d/e/3", "d0"}},
		"nothing under a prefix that nobody has":     {"prefix=nobody", []string{}},
		"folders as one, at the top":                 {"delimiter=/", []string{"a.txt", "d0", "z", "d/", "e/"}},
		"folders as one, inside a folder":            {"delimiter=/&prefix=d/", []string{"d/1", "d/2", "d/e/"}},
		"any text may be the delimiter":              {"delimiter=e/", []string{"a.txt", "d/1", "d/2", "d0", "z", "d/e/", "e/"}},
		"words that a client may add change nothing": {"include=uncommittedblobs,copy&timeout=30", names},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if a, l := s.listWith("l", c.query); !slices.Equal(l.names(), c.want) {
				t.Errorf("listed %v, want %v\n%s", l.names(), c.want, a.body)
			}
			// In pages of one and two it is the same.
			for _, top := range []string{"1", "2"} {
				var got []string
				marker := ""
				for range 20 {
					_, l := s.listWith("l", c.query+"&maxresults="+top+"&marker="+marker)
					got = append(got, l.names()...)
					if marker = l.NextMarker; marker == "" {
						break
					}
				}
				slices.Sort(got)
				want := slices.Sorted(slices.Values(c.want))
				if !slices.Equal(got, want) {
					t.Errorf("in pages of %s: %v, want %v", top, got, want)
				}
			}
		})
	}
}

func TestListShows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	put := s.do(http.MethodPut, "a b/ü&<>.txt", "", "content", "x-ms-blob-type", "BlockBlob", "x-ms-blob-content-type", "text/plain", "x-ms-meta-team", "vision")
	a, l := s.listWith("rl", "include=metadata")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/xml" || len(l.Blobs.Blob) != 1 || l.ContainerName != container {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	b := l.Blobs.Blob[0]
	if b.Name.Text != "a b/ü&<>.txt" || b.Properties.ContentLength != 7 || b.Properties.ContentType != "text/plain" || b.Metadata.Team != "vision" || b.Properties.Etag != strings.Trim(put.header.Get("ETag"), `"`) {
		t.Errorf("%+v of\n%s", b, a.body)
	}
	if _, l := s.listWith("l", ""); l.Blobs.Blob[0].Metadata.Team != "" {
		t.Error("metadata was shown though nobody asked for it")
	}
	s.do(http.MethodPut, "bad\x01name", "", "x", "x-ms-blob-type", "BlockBlob")
	_, l = s.listWith("l", "prefix=bad")
	if len(l.Blobs.Blob) != 1 || !l.Blobs.Blob[0].Name.Encoded || l.Blobs.Blob[0].Name.Text != "bad%01name" {
		t.Errorf("a name that XML cannot carry: %+v", l.Blobs.Blob)
	}
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if a, _ := s.listWith("rcwd", ""); a.status != http.StatusForbidden || a.code() != "AuthorizationPermissionMismatch" {
		t.Errorf("without the permission to list: %d %s", a.status, a.code())
	}
	blob := s.sas("a", "rl")
	if a := s.send(http.MethodGet, "/"+container+"?restype=container&comp=list&"+blob.Encode(), ""); a.status != http.StatusForbidden {
		t.Errorf("with the signature of one blob: %d %s", a.status, a.code())
	}
	own := s.keys.SAS(armid.Account(workspace), container, "", "l", now.Add(3600e9))
	if a := s.send(http.MethodGet, "/"+foreign+"?restype=container&comp=list&"+own.Encode(), ""); a.status != http.StatusForbidden {
		t.Errorf("another workspace's container: %d %s", a.status, a.code())
	}
	logs := strings.Replace(container, "azureml-", "logs-", 1)
	if a := s.send(http.MethodGet, "/"+logs+"?restype=container&comp=list&"+s.keys.SAS(armid.Account(workspace), logs, "", "l", now.Add(3600e9)).Encode(), ""); a.status != http.StatusNotFound {
		t.Errorf("the logs: %d %s", a.status, a.code())
	}
	for _, query := range []string{"maxresults=0", "maxresults=x", "maxresults=-1", "marker=%25"} {
		if a, _ := s.listWith("l", query); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}
