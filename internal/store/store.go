// Package store keeps rows: one SQLite file, one goroutine that writes, many that
// read. A commit is on disk when it is acknowledged, whole or not at all.
//
// Callers' commits are gathered while the disk is busy and share its next flush
// (group commit). After each flush the writer folds what changed into a
// [pool.View], so that the control loop never reads tables.
//
// Start at [Store.Commit]; storetest says what is promised.
package store

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // registers the driver too
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options of [Open]. The zero value works.
type Options struct {
	Log *slog.Logger // default: nothing is logged
	// Held is asked once nobody else can have the folder, before anything in it is
	// looked at; its error is Open's. Default: nobody is.
	Held func() error
}

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	log      *slog.Logger
	lock     *os.File
	readers  *sql.DB
	writers  *sql.DB // one connection
	get      *sql.Stmt
	view     atomic.Pointer[pool.View]
	changed  chan struct{}
	term     int64
	epoch    int64
	revision atomic.Int64 // of the last commit

	mu       sync.RWMutex                     // held for reading while a request is handed over
	now      atomic.Pointer[func() time.Time] // nil: the time is not kept
	closed   bool
	requests chan *request
	done     chan struct{} // closed when the writer has ended
	close    func() error
}

// Open opens the store in dir, making it if there is none, and raises its term.
// Another process that has it open is named in the [fault.Conflict].
func Open(ctx context.Context, dir string, opts Options) (_ *Store, err error) {
	s := &Store{log: opts.Log, changed: make(chan struct{}, 1), requests: make(chan *request, maxBatch), done: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(explain(err), s.release())
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	if s.lock, err = lock(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	if opts.Held != nil {
		if err := opts.Held(); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, "ebb.db")
	if err := keepPrivate(path); err != nil {
		return nil, err
	}
	if s.writers, err = open(path, 1, "synchronous(FULL)", "wal_autocheckpoint(4000)", "cache_size(-16000)"); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.writers); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if s.readers, err = open(path, 4, "query_only(1)"); err != nil {
		return nil, err
	}
	if s.get, err = s.readers.PrepareContext(ctx, selectColumns+" WHERE kind = ? AND id = ?"); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	w := &writer{s: s}
	if err := w.start(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.close = sync.OnceValue(s.shut)
	go w.run() // ends when requests is closed; Close waits for it
	return s, nil
}

// lock takes the exclusive lock on path and writes our pid into it. The kernel
// lets go of it when the process dies, however it dies.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(2 * time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		held := make([]byte, 32)
		n, _ := f.ReadAt(held, 0) // says whom to ask, and proves nothing
		pid := strings.TrimSpace(string(held[:n]))
		if errors.Is(err, syscall.EWOULDBLOCK) && !alive(pid) && time.Now().Before(end) {
			continue
		}
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.New(fault.Conflict, filepath.Dir(path),
				"another server (pid %s) is running on this data folder; stop it, or give this one a folder of its own with --data", pid)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0) // a full disk must not keep the server from starting
	}
	return f, nil
}

// lockPatience is how long the lock of a server that is dead may be held still:
// by what it was about to start when it was killed, which has all that it had
// open until its own program begins.
const lockPatience = 10 * time.Second

// alive reports whether there is a process of that id that has not ended.
func alive(pid string) bool {
	if _, err := strconv.ParseUint(pid, 10, 31); err != nil {
		return false // not written yet
	}
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	// The state follows the name, which is in parentheses and may hold anything.
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	return !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("Z"))
}

// keepPrivate makes the database its owner's alone, whatever the folder's mode and
// the umask: jobs' variables are in it. SQLite gives its log the same mode.
func keepPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func open(path string, conns int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": append([]string{"journal_mode(WAL)", "busy_timeout(10000)", "cache_size(-4000)"}, pragmas...)}
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, files)
}

func migrate(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	if have > known {
		return fault.New(fault.Conflict, "", "this data was written by a newer Ebb (layout %d; this one knows up to %d); run that version, or restore a backup made before the upgrade", have, known)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// View returns what is hot, as of the last commit.
func (s *Store) View() *pool.View { return s.view.Load() }

// Changed is signalled after commits that touched the view. One signal may stand
// for many commits.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Term is the number of this opening: higher than that of any before, and on disk.
// The order of agents' orders and of fences rests on it.
func (s *Store) Term() int64 { return s.term }

// Epoch is 0, or what [Restored] made it.
func (s *Store) Epoch() int64 { return s.epoch }

// KeepTime writes the time with every commit from now on, read after all that is
// committed was made: then no row that lasts is from later than what lasts of it.
func (s *Store) KeepTime(now func() time.Time) { s.now.Store(&now) }

// Time is the time of the last commit that wrote it, before this opening or since;
// zero: none has.
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	var ns int64
	err := s.readers.QueryRowContext(ctx, "SELECT coalesce((SELECT value FROM site WHERE name = 'time'), 0)").Scan(&ns)
	if err != nil || ns == 0 {
		return time.Time{}, err
	}
	return time.Unix(0, ns).UTC(), nil
}

// Revision is the number of the last commit.
func (s *Store) Revision() int64 { return s.revision.Load() }

// Close waits for the commits that were handed over, then closes the files.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	s.mu.Lock()
	s.closed = true
	close(s.requests)
	s.mu.Unlock()
	<-s.done
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	if s.get != nil {
		errs = append(errs, s.get.Close())
	}
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.writers != nil {
		errs = append(errs, s.writers.Close()) // the last: it folds the log into the file
	}
	if s.lock != nil {
		// What was just forked has the file too until its exec, and would hold the lock.
		_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
		errs = append(errs, s.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Verify checks the file's structure, and that the view which commits were
// folded into is the one that the rows make. Writers wait meanwhile.
func (s *Store) Verify(ctx context.Context) error {
	_, err := s.submit(ctx, &request{do: func(w *writer) error {
		var verdict string
		if err := w.conn.QueryRowContext(context.Background(), "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
			return err
		}
		if verdict != "ok" {
			return fault.New(fault.Unavailable, "", "the database is damaged: %s", verdict)
		}
		fresh, err := w.rebuild(context.Background())
		if err != nil {
			return err
		}
		if diff := pool.Differ(s.View(), fresh); diff != "" {
			return fmt.Errorf("the view is not what the rows say: %s", diff)
		}
		return nil
	}})
	return err
}

// explain turns what SQLite says into a fault where users can do something about
// it. Other errors stay as they are.
func explain(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // the rest is detail
		case sqlite3.SQLITE_FULL:
			return unavailable(err, "the disk is full; writes are accepted again when there is room")
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
			return unavailable(err, "the disk does not take writes; they are accepted again when it does")
		case sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return unavailable(err, "the store is busy; try again")
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return unavailable(err, "the database is damaged; restore it from a backup")
		}
	}
	return err
}

func unavailable(cause error, words string) error {
	return fmt.Errorf("%w (%w)", fault.New(fault.Unavailable, "", "%s", words), cause)
}

func (s *Store) signal(changes []row.Change) {
	if len(changes) == 0 {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default: // one is waiting already
	}
}
