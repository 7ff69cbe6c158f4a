package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/store"
)

// unfinished is in a data folder while what is in it is being replaced, with the
// epoch that the restore began.
const unfinished = "restoring"

// present is what is of the machine and not of the state: it stays where it is, and
// a folder with nothing else is empty.
var present = []string{"nodes", "cache", "lock", "server.json", unfinished}

// state is all that is replaced. Other files are nobody's here, and stay too.
var state = append([]string{"ebb.db", "ebb.db-wal", "ebb.db-shm", "blobs", "ca-bundle.pem"}, kept...)

// Restored is what a restore did.
type Restored struct {
	Made  time.Time // the backup
	Blobs int
	Bytes int64
	Epoch int64
	Aside string // folder with what was there before; empty: nothing was
}

// Check refuses a data folder in which a restore was cut short.
func Check(data string) error {
	if _, err := os.Stat(filepath.Join(data, unfinished)); err == nil {
		return fault.New(fault.Conflict, data, "A restore into %s was cut short. Run the same \"ebb restore\" again, with --replace.", data)
	}
	return nil
}

// Restore puts the backup in from into the data folder, and begins a new epoch.
// What is there is put aside with replace, and refused without; no server may run.
func Restore(ctx context.Context, from, data string, replace bool, now time.Time, say Say) (_ Restored, err error) {
	m, err := readManifest(from)
	if err != nil {
		return Restored{}, err
	}
	if err := own(data, os.Geteuid()); err != nil {
		return Restored{}, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return Restored{}, err
	}
	old, err := occupants(data)
	if err != nil {
		return Restored{}, err
	}
	if len(old) > 0 && !replace { // said before anything is done, unless a server runs: --replace would not help then
		if err := running(data); err != nil {
			return Restored{}, err
		}
		return Restored{}, fault.New(fault.Conflict, data, "%s is not empty: it has %s. With --replace what is a server's is put aside, in a folder of its own there; or name another folder with --data.", data, strings.Join(old, ", "))
	}
	release, err := store.Lock(data)
	if err != nil {
		return Restored{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := movable(data); err != nil {
		return Restored{}, err
	}
	if err := sweep(data); err != nil {
		return Restored{}, err
	}
	stage, err := os.MkdirTemp(data, ".restore-")
	if err != nil {
		return Restored{}, err
	}
	defer func() { _ = os.RemoveAll(stage) }() // empty, or of no use
	say("copying %d blobs (%s) and %s of rows, made on %s", m.Blobs, size(m.Bytes), size(m.Rows), m.Made.Format(time.RFC3339))
	if err := stageCopy(from, stage, m); err != nil {
		return Restored{}, err
	}
	out := Restored{Made: m.Made, Blobs: m.Blobs, Bytes: m.Bytes}
	if out.Epoch, err = nextEpoch(ctx, stage, data, now, say); err != nil {
		return Restored{}, err
	}
	if err := store.Restored(ctx, stage, out.Epoch); err != nil {
		return Restored{}, err
	}
	if err := settle(ctx, stage); err != nil {
		return Restored{}, err
	}
	if err := syncAll(stage); err != nil {
		return Restored{}, err
	}
	if out.Aside, err = swap(data, stage, out.Epoch, now, os.Rename); err != nil {
		return Restored{}, err
	}
	return out, nil
}

func readManifest(from string) (m manifest, err error) {
	b, err := os.ReadFile(filepath.Join(from, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fault.New(fault.NotFound, from, "%s is no whole backup: it has no %s, which \"ebb backup\" writes last.", from, manifestFile)
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil || m.Layout < 1 {
		return m, fault.New(fault.Invalid, from, "%s of the backup is damaged.", manifestFile)
	}
	if m.Layout > layout {
		return m, fault.New(fault.Conflict, from, "The backup was made by a newer Ebb (%s). Restore it with that version.", m.Software)
	}
	return m, nil
}

// running refuses a folder on which a server runs. One that never had a server is
// left as it is, without a lock.
func running(data string) error {
	if _, err := os.Stat(filepath.Join(data, "lock")); err != nil {
		return nil
	}
	release, err := store.Lock(data)
	if err != nil {
		return err
	}
	return release()
}

// occupants are what makes a folder one that is not empty.
func occupants(data string) (names []string, err error) {
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if slices.Contains(present, e.Name()) || strings.HasPrefix(e.Name(), ".restore-") || strings.HasPrefix(e.Name(), "replaced-") {
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// stageCopy copies a backup beside where it is to be, and holds what came against
// what there was.
func stageCopy(from, stage string, m manifest) error {
	want, err := readSums(from, m)
	if err != nil {
		return err
	}
	got := sums{}
	for _, name := range append([]string{"ebb.db", "blobs"}, kept...) {
		err := copyTree(from, stage, name, got)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // missed below
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return want.compare(from, got)
}

// lastEpoch leaves as many terms again to the lives that follow, before fences,
// which are made of terms, have no more bits.
const lastEpoch = 1 << 30

// begun is from when epochs are counted, in seconds.
var begun = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// nextEpoch is higher than every term of either state. Where the newer one cannot be
// read, the time is: a server is not started once a second for all its life.
func nextEpoch(ctx context.Context, stage, data string, now time.Time, say Say) (int64, error) {
	epoch := int64(now.Sub(begun)/time.Second) + 1
	if b, err := os.ReadFile(filepath.Join(data, unfinished)); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			epoch = max(epoch, n+1)
		}
	}
	own, err := store.LastTerm(ctx, stage)
	if err != nil {
		return 0, err
	}
	newer, err := store.LastTerm(ctx, data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		say("what is replaced cannot be read (%v); the machine's clock says what is newer", err)
	}
	if epoch = max(epoch, own+1, newer+1); epoch > lastEpoch {
		return 0, fault.New(fault.Conflict, data, "The epoch that begins would be %d, and %d is the last. The machine's clock says %s: set it right, and restore again.", epoch, lastEpoch, now.UTC().Format(time.RFC3339))
	}
	return epoch, nil
}

// sweep removes what restores that were cut short had copied.
func sweep(data string) error {
	old, err := filepath.Glob(filepath.Join(data, ".restore-*"))
	for _, dir := range old {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// ofAttempts begin the names of what is kept of attempts, as prefix, workspace, "/",
// run, "/", attempt's number, "/" and more: logs, outputs that wait until all are
// there, and the word that all are, which a server acts upon when it starts.
var ofAttempts = []string{"logs-", "$blocks/outputs-", "$settling/"}

// settle opens the copy as a server would, which brings it to this version's layout
// or says why it cannot, and takes from it what is kept of later attempts of its
// runs: the next ones have the same numbers.
func settle(ctx context.Context, stage string) (err error) {
	rows, err := store.Open(ctx, stage, store.Options{})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, rows.Close(), os.Remove(filepath.Join(stage, "lock"))) // the folder's own is held
	}()
	if err := rows.Verify(ctx); err != nil {
		return err
	}
	blobs, err := blob.Open(filepath.Join(stage, "blobs"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	view := rows.View()
	for _, prefix := range ofAttempts {
		err := forget(ctx, blobs, prefix, func(run string, n int) bool {
			rs, live := view.RunStatus(run)
			return live && n > rs.Attempts
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forget deletes the blobs below a prefix that are of attempts which are later.
func forget(ctx context.Context, blobs *blob.Store, prefix string, later func(run string, n int) bool) error {
	for after, more := "", true; more; {
		page, err := blobs.List(ctx, prefix, after, 1000)
		if err != nil {
			return err
		}
		for _, b := range page {
			after = b.Key
			part := strings.SplitN(b.Key[len(prefix):], "/", 4)
			if len(part) < 4 {
				continue
			}
			if n, err := strconv.Atoi(part[2]); err != nil || !later(part[1], n) {
				continue
			}
			if err := blobs.Delete(ctx, b.Key); err != nil {
				return err
			}
		}
		more = len(page) == 1000
	}
	return nil
}
