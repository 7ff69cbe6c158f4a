package node

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Names that the tests need and nobody else.
type (
	Holder    = holder
	Preparer  = preparer
	RealShims = shims
)

var Untar = untar

// NewAgent makes an agent around other shims and another runner.
func NewAgent(dir string, log *slog.Logger, h Holder, p Preparer) (*Agent, error) {
	cfg, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	return &Agent{Dir: dir, Config: cfg, Log: log, server: &server{file: cfg.Server, token: cfg.Token}, holder: h, preparer: p}, nil
}

// JournalTwice journals one attempt twice and returns both errors.
func JournalTwice(dir string) (first, second error) {
	if err := os.MkdirAll(filepath.Join(dir, "attempts"), 0o755); err != nil {
		return err, err
	}
	j := journal{dir: dir}
	return j.add("r.1"), j.add("r.1")
}

// JournalDrop journals an attempt, lets its job do something in its folder, and
// drops it.
func JournalDrop(dir string, job func(folder string) error) error {
	if err := os.MkdirAll(filepath.Join(dir, "attempts"), 0o755); err != nil {
		return err
	}
	j := journal{dir: dir}
	if err := j.add("r.1"); err != nil {
		return err
	}
	if err := job(j.path("r.1")); err != nil {
		return err
	}
	return j.drop("r.1")
}

// Lock takes the folder's lock as the agent does.
func Lock(dir string) (*os.File, error) { return takeLock(filepath.Join(dir, "lock")) }

// Ledger is what an agent keeps, for a test to cut the power of.
type Ledger struct{ j journal }

// OpenLedger reads the journal of a folder, and returns what it holds.
func OpenLedger(dir string) (*Ledger, Memory, map[string]bool, error) {
	j := &Ledger{journal{dir: dir}}
	m, entries, _, err := j.j.read()
	taken := map[string]bool{}
	for _, e := range entries {
		taken[e.Attempt] = e.Delivered
	}
	return j, m, taken, err
}

// Take takes an attempt and saves, as one step of an agent does.
func (j *Ledger) Take(attempt string, m Memory) error {
	j.j.take(entry{Attempt: attempt, Fence: m.Revision})
	return j.j.save(m)
}

// Make makes the folder of an attempt.
func (j *Ledger) Make(attempt string) error { return j.j.add(attempt) }

// Deliver marks an attempt.
func (j *Ledger) Deliver(attempt string) { j.j.delivered(attempt, 0) }

// Save writes the memory.
func (j *Ledger) Save(m Memory) error { return j.j.save(m) }

// Drop drops an attempt.
func (j *Ledger) Drop(attempt string) error {
	err := j.j.drop(attempt)
	j.j.forget(attempt)
	return err
}

// OlderSlot is where in a memory file the slot begins that is written next.
func OlderSlot(b []byte) int {
	first, whole := decodeKept(b, 0)
	second, also := decodeKept(b, 1)
	if !whole || also && first.Seq < second.Seq {
		return 0
	}
	return slotSize
}

// FetchInputs lays out the inputs of an order below dir, from the server that
// the file names.
func FetchInputs(ctx context.Context, file, cache, dir string, o nodeproto.Order) error {
	s := &server{file: file, token: "secret"}
	return s.fetchInputs(ctx, cache, dir, o, func(error) {}, func(string, error) {})
}

// FetchContext puts the files of a build's context below dir.
func FetchContext(ctx context.Context, file, cache, dir string, o nodeproto.Order) error {
	s := &server{file: file, token: "secret"}
	return s.fetchContext(ctx, cache, dir, o, func(error) {})
}

// Web is how inputs at public addresses are read.
type Web struct {
	Roots    *x509.CertPool
	Networks []string
	Proxy    *url.URL // nil: none
	Lookup   func(host string) ([]netip.Addr, error)
	Say      func(server bool, err error) // nil: nobody is told
}

// Fetch lays out the inputs of an order that lie at public addresses.
func (w Web) Fetch(ctx context.Context, dir string, o nodeproto.Order) error {
	s := &server{web: web{networks: prefixes(w.Networks...), roots: w.Roots, proxy: func(*http.Request) (*url.URL, error) { return w.Proxy, nil }}}
	if w.Lookup != nil {
		s.web.lookup = func(_ context.Context, host string) ([]netip.Addr, error) { return w.Lookup(host) }
	}
	say := w.Say
	if say == nil {
		say = func(bool, error) {}
	}
	return s.fetchInputs(ctx, "", dir, o, func(err error) { say(true, err) }, func(_ string, err error) { say(false, err) })
}

// FetchPublic is Fetch without a proxy.
func FetchPublic(ctx context.Context, dir string, roots *x509.CertPool, o nodeproto.Order, networks ...string) error {
	return Web{Roots: roots, Networks: networks}.Fetch(ctx, dir, o)
}

// Public reports whether an address is one that nodes read from.
func Public(ip netip.Addr) bool { return (&web{}).allows(ip) }
