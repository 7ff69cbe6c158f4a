package shim

import (
	"bytes"
	"os"
	"path"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/queue"
	"github.com/ebb-compute/ebb/internal/nodeproto/wiretest"
)

// An agent takes up shims that its predecessors started, and asks them for things:
// what lies between the two is as it was in version 1.
func TestFolderOfVersion1(t *testing.T) {
	t.Parallel()
	const from = "testdata/v1/"
	wiretest.Golden[Record](t, from+"exit.json")
	wiretest.Golden[stopWish](t, from+"stop.json")
	wiretest.Golden[Visit](t, from+"visit.json")
	wiretest.Golden[visitBegun](t, from+"visit.begun")
	wiretest.Golden[visitEnded](t, from+"visit.ended")

	b, err := os.ReadFile(from + "lock")
	if err != nil {
		t.Fatal(err)
	}
	_, second, _ := bytes.Cut(b, []byte("\n"))
	want := wiretest.Text[held](t, "the lock's second line", second)
	dir := t.TempDir()
	if err := os.WriteFile(path.Join(dir, "lock"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := readLock(dir)
	if err != nil || l.pid != 4711 || l.taken || l.empty || l.Process != want.Process || l.UID != want.UID || l.Users != want.Users {
		t.Errorf("the lock says %+v, %v", l, err)
	}
	st, err := Look(dir)
	if err != nil || st.Phase != Died || st.Process != 6 || !st.Started.Equal(time.Date(2026, 1, 2, 3, 4, 7, 0, time.UTC)) {
		t.Errorf("a shim that died: %+v, %v", st, err)
	}
	if b, err = os.ReadFile(from + "exit.json"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path.Join(dir, "exit.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err = Look(dir)
	if err != nil || st.Phase != Ended || st.Record.Exit.Cause != queue.ByExit || st.Record.Exit.Code != 4 || !st.Record.Swept {
		t.Errorf("a shim that ended: %+v, %v", st, err)
	}
}
