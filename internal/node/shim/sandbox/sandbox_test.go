package sandbox_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ebb-compute/ebb/internal/node/shim/sandbox"
)

// Landlock can only grant: what is hidden below a readable folder must stay
// closed, and its neighbours open. It holds for the thread, not for the program.
func TestWhatIsHiddenBelowAReadableFolderIsClosed(t *testing.T) {
	t.Parallel()
	abi := sandbox.ABI()
	if abi == 0 {
		t.Skip("this kernel has no Landlock")
	}
	top := t.TempDir()
	paths := map[string]string{}
	for _, name := range []string{"open/f", "a/data/secret/f", "a/data/f", "a/near/f", "a/data/shown/f"} {
		paths[name] = filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(paths[name]), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(paths[name], []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := sandbox.World{
		Landlock: abi, Read: []string{top, "/no/such/path"}, Hide: []string{filepath.Join(top, "a/data")},
		Show: []string{filepath.Join(top, "a/data/shown")}, Write: []string{filepath.Join(top, "open")},
	}
	type result struct {
		enter error
		read  map[string]error
		write map[string]error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // dies with the goroutine
		r := result{enter: w.Enter(), read: map[string]error{}, write: map[string]error{}}
		for name, path := range paths {
			_, r.read[name] = os.ReadFile(path)
			r.write[name] = os.WriteFile(path, []byte("y"), 0o644)
		}
		done <- r
	}()
	r := <-done
	if r.enter != nil {
		t.Fatal(r.enter)
	}
	for name, may := range map[string]bool{"open/f": true, "a/near/f": true, "a/data/f": false, "a/data/secret/f": false, "a/data/shown/f": true} {
		if (r.read[name] == nil) != may {
			t.Errorf("read %s: %v, want may=%v", name, r.read[name], may)
		}
		if may := name == "open/f"; (r.write[name] == nil) != may {
			t.Errorf("write %s: %v, want may=%v", name, r.write[name], may)
		}
	}
	if _, err := os.ReadFile(paths["a/data/secret/f"]); err != nil {
		t.Errorf("the rest of the program is shut out too: %v", err)
	}
}
