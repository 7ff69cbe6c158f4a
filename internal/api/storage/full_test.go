package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/storage"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/token"
)

// fullDir makes this program fill a small disk there, in place of its tests.
const fullDir = "EBB_TEST_FULL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(fullDir); dir != "" {
		os.Exit(serveFull(dir))
	}
	os.Exit(m.Run())
}

// TestAFullDisk asks for blobs on a small disk of its own: what does not fit is
// refused as busy, which clients try again, and what is there is read meanwhile.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fullDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() == 4) {
		t.Skipf("no mounting here: %v %s", err, out)
	}
	if want := "201 \n503 ServerBusy\n200 \n503 ServerBusy\n503 ServerBusy\n404 BlobNotFound\n202 \n201 \n"; err != nil || string(out) != want {
		t.Errorf("%v: %s\nwant %s", err, out, want)
	}
}

func serveFull(dir string) int {
	for _, err := range []error{
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"),
	} {
		if err != nil {
			fmt.Println(err)
			return 4
		}
	}
	keys, err := token.Open(dir + "/keys")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	blobs, err := blob.Open(dir + "/blobs")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	srv := httptest.NewServer(storage.Handler(storage.Service{Blobs: blobs, Keys: keys, Now: func() time.Time { return now }}))
	defer srv.Close()
	sas := keys.SAS(armid.Account(workspace), container, "", "rcwd", now.Add(time.Hour)).Encode()
	mib := bytes.Repeat([]byte("m"), 1<<20)
	for _, ask := range []struct {
		method, name, query string
		body                []byte
	}{
		{"PUT", "a", "", mib}, {"PUT", "b", "", bytes.Repeat(mib, 4)}, {"GET", "a", "", nil},
		{"PUT", "a", "", bytes.Repeat(mib, 4)}, {"PUT", "c", "comp=block&blockid=" + url.QueryEscape(id(1)), bytes.Repeat(mib, 4)}, {"GET", "b", "", nil},
		{"DELETE", "a", "", nil}, {"PUT", "b", "", bytes.Repeat(mib, 2)},
	} {
		r, err := http.NewRequest(ask.method, srv.URL+"/"+container+"/"+ask.name+"?"+sas+"&"+ask.query, bytes.NewReader(ask.body))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		r.Header.Set("x-ms-blob-type", "BlockBlob")
		resp, err := srv.Client().Do(r)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if ask.method == "GET" && resp.StatusCode == 200 && (err != nil || !bytes.Equal(got, mib)) || strings.Contains(string(got), "RequestId") != (resp.StatusCode >= 400) {
			fmt.Printf("%d bytes, %v\n", len(got), err)
		}
		fmt.Println(resp.StatusCode, resp.Header.Get("x-ms-error-code"))
	}
	return 0
}
