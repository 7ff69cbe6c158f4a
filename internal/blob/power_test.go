package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

const sector = 512 // what a disk writes whole or not at all

// frail is the disk under one blob's file. What was written and not synced is lost,
// or half lost, when the power goes.
type frail struct {
	t      *testing.T
	rnd    *rand.Rand
	path   string
	synced []byte // what is sure
	cuts   int    // steps until all stops; 0: nothing does
	cut    bool   // it has stopped: nothing is done any more
	bad    bool   // the next sync fails, and all goes on
}

var (
	errCut = errors.New("all has stopped")
	errBad = errors.New("the disk did not take it")
)

// take makes what is in the file now sure.
func (d *frail) take() {
	text, err := os.ReadFile(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	d.synced = text
}

// step reports whether all stops before what is to be done.
func (d *frail) step() bool {
	if d.cuts > 0 {
		d.cuts--
		d.cut = d.cut || d.cuts == 0
	}
	return d.cut
}

// fail leaves in the file what a disk may have of it: of each sector that was
// written since the last sync the old or the new, and any length between the two,
// with zeros where nothing has arrived.
func (d *frail) fail() {
	now, err := os.ReadFile(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	long, short := max(len(now), len(d.synced)), min(len(now), len(d.synced))
	size := [...]int{len(d.synced), len(now), short + d.rnd.IntN(long-short+1)}[d.rnd.IntN(3)]
	left := make([]byte, size)
	for at := 0; at < size; at += sector {
		from := d.synced
		if d.rnd.IntN(2) == 0 {
			from = now
		}
		if at < len(from) {
			copy(left[at:min(at+sector, size)], from[at:])
		}
	}
	if err := os.WriteFile(d.path, left, 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.synced = left
}

// onFrail is a file on such a disk.
type onFrail struct {
	*os.File
	d *frail
}

func (f onFrail) WriteAt(b []byte, off int64) (int, error) {
	if f.d.step() {
		return 0, errCut
	}
	return f.File.WriteAt(b, off)
}

func (f onFrail) Truncate(size int64) error {
	if f.d.step() {
		return errCut
	}
	return f.File.Truncate(size)
}

func (f onFrail) Sync() error {
	if f.d.step() {
		return errCut
	}
	if f.d.bad {
		f.d.bad = false
		return errBad
	}
	f.d.take()
	return nil
}

// TestLogsAfterAPowerCut appends as an agent does, over cuts of the power and ends
// of the process at any step: what was acknowledged stays, and whatever is said
// to be there is there, as it was sent.
func TestLogsAfterAPowerCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			d := &frail{t: t, rnd: rnd, path: dir + "/blobs/c.d/log.b"}
			var sent strings.Builder
			for i := range 4000 {
				fmt.Fprintf(&sent, "line %d of %d %d\n", i, seed, rnd.Uint64())
			}
			log := []byte(sent.String())
			key := "c/log"
			s := open(t, dir)
			first := 1 + rnd.IntN(900)
			acked, err := s.Append(t.Context(), key, 0, log[:first])
			if err != nil || acked != int64(first) {
				t.Fatal(acked, err)
			}
			d.take()
			s.Disk(func(f *os.File) blob.File { return onFrail{f, d} })
			for range 60 {
				switch rnd.IntN(6) {
				case 0, 1:
					d.cuts = 1 + rnd.IntN(5)
				case 2:
					d.bad = true
				}
				n := min(acked+int64(rnd.IntN(3000)), int64(len(log)))
				size, err := s.Append(t.Context(), key, acked, log[acked:n])
				switch {
				case err == nil && size != n:
					t.Fatalf("appended up to %d, it says %d", n, size)
				case errors.Is(err, errCut), errors.Is(err, errBad): // not acknowledged
				case err != nil && !errors.Is(err, fault.Conflict):
					t.Fatal(err)
				case size < acked:
					t.Fatalf("%d bytes were acknowledged, and %d are there", acked, size)
				default:
					acked = size
				}
				if d.cut || rnd.IntN(4) == 0 {
					// Another life: of this machine, or of this process alone.
					if d.cuts, d.cut = 0, false; rnd.IntN(2) == 0 {
						d.fail()
					}
					s = open(t, dir)
					s.Disk(func(f *os.File) blob.File { return onFrail{f, d} })
				}
				r, info, err := s.Get(t.Context(), key, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err := errors.Join(err, r.Close()); err != nil {
					t.Fatal(err)
				}
				if info.Size < acked || !bytes.Equal(got, log[:min(len(got), len(log))]) {
					t.Fatalf("%d bytes were acknowledged; it has %d, which are as sent: %v", acked, len(got), bytes.HasPrefix(log, got))
				}
			}
		})
	}
}
