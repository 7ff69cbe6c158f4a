package compat_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-compute/ebb/internal/testkit"
)

// TestStorageManyAtOnce sends 70 MB in blocks side by side, and many writers of one
// blob, to Ebb and to Azurite: both must end in the same.
func TestStorageManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, p := range []*peer{ebbBlobs(t, testkit.Serve(t)), azurite(t)} {
		if r := p.send(t, blobStep{name: "container", method: http.MethodPut, path: "many", query: "restype=container"}); r.status != http.StatusCreated {
			t.Fatalf("%s: %+v", p.name, r)
		}
		p.largeInBlocks(t)
		if got := p.manyCreate(t); !slices.Equal(got, []int{201, 409, 409, 409, 409, 409, 409, 409}) {
			t.Errorf("%s: of eight who create one blob: %v", p.name, got)
		}
	}
}

func (p *peer) largeInBlocks(t *testing.T) {
	const blocks, size = 17, 4 << 20 // 71 MB
	ids := make([]string, blocks)
	var want bytes.Buffer
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range ids {
		ids[i] = blockID(i)
		text := strings.Repeat(string(rune('a'+i)), size)
		want.WriteString(text)
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if r := p.once(t, blobStep{method: http.MethodPut, path: "many/large", query: "comp=block&blockid=" + url.QueryEscape(blockID(i)), body: text}); r != http.StatusCreated {
				t.Errorf("%s: block %d: %d", p.name, i, r)
			}
		})
	}
	wg.Wait()
	if r := p.send(t, blobStep{name: "commit", method: http.MethodPut, path: "many/large", query: "comp=blocklist", body: blockDoc("Latest", ids...)}); r.status != http.StatusCreated {
		t.Fatalf("%s: %+v", p.name, r)
	}
	if r := p.send(t, blobStep{name: "get", method: http.MethodGet, path: "many/large"}); r.status != http.StatusOK || r.body != want.String() {
		t.Errorf("%s: %d, and %d bytes of %d", p.name, r.status, len(r.body), want.Len())
	}
}

func (p *peer) manyCreate(t *testing.T) []int {
	got := make([]int, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			got[i] = p.once(t, blobStep{method: http.MethodPut, path: "many/one", body: fmt.Sprint(i), headers: asBlock("If-None-Match", "*")})
		})
	}
	wg.Wait()
	slices.Sort(got)
	return got
}

// once is send for many goroutines: nothing is kept of the answer but its status.
func (p *peer) once(t *testing.T, s blobStep) int {
	alone := *p
	alone.etags = map[string]string{}
	return alone.send(t, s).status
}
