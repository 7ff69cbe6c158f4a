package uids_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/ebb-compute/ebb/internal/node/shim/uids"
)

func TestLeases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := uids.Take(dir, "/a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := uids.Take(dir, "/b")
	if err != nil {
		t.Fatal(err)
	}
	if a.UID != uids.First || b.UID != uids.First+1 {
		t.Errorf("leased %d and %d, want the two lowest", a.UID, b.UID)
	}
	if got := uids.Of(dir, a.UID); got != "/a" {
		t.Errorf("Of = %q, want /a", got)
	}
	uids.Release(dir, a.UID, "/a") // its holder lives: nothing happens
	if got := uids.Of(dir, a.UID); got != "/a" {
		t.Errorf("a living lease was released: %q", got)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := uids.Of(dir, uids.First); got != "" {
		t.Errorf("a lease given back is still %q's", got)
	}
	c, err := uids.Take(dir, "/c")
	if err != nil || c.UID != uids.First {
		t.Errorf("Take = %+v, %v, want the one given back", c, err)
	}
}

func TestAUsersProcessesAreFoundAndItsLeaseIsReleasedInItsNameOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it starts a process as another user")
	}
	t.Parallel()
	const uid = uids.First + 60_000 // far from what other tests lease
	dir := t.TempDir()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	found := uids.Processes(uid)
	if len(found) != 1 || found[0] != cmd.Process.Pid {
		t.Errorf("Processes = %v, want %d", found, cmd.Process.Pid)
	}
	if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(uid)), []byte("/dead\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	uids.Release(dir, uid, "/somebody else")
	if uids.Of(dir, uid) != "/dead" {
		t.Error("released in another's name")
	}
	uids.Release(dir, uid, "/dead")
	if uids.Of(dir, uid) != "" {
		t.Error("not released")
	}
}
