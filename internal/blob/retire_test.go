package blob_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/fault"
)

// late is content that ends only after something else has happened.
type late struct {
	io.Reader
	before func()
}

func (l *late) Read(b []byte) (int, error) {
	if l.before != nil {
		l.before()
		l.before = nil
	}
	return l.Reader.Read(b)
}

// TestNothingComesIntoARetiredContainer: neither what was being sent, nor what is
// moved or appended there.
func TestNothingComesIntoARetiredContainer(t *testing.T) {
	t.Parallel()
	const guid = "0a1b2c3d-0000-4000-8000-000000000001"
	s, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	ctx := t.Context()
	put := func(key string) error {
		_, err := s.Put(ctx, key, strings.NewReader("x"), blob.Meta{})
		return err
	}
	if err := put("elsewhere/a/b"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(ctx, "azureml-"+guid+"/a", &late{bytes.NewReader(make([]byte, 1<<20)), func() { s.Retire(guid) }}, blob.Meta{})
	if fault.KindOf(err) != fault.NotFound {
		t.Errorf("what was being sent: %v", err)
	}
	for name, err := range map[string]error{
		"put":       put("snapshots-0123456789abcdef-" + guid + "/a"),
		"kept back": put("$blocks/outputs-" + guid + "/r/a"),
		"moved":     s.Move(ctx, "elsewhere/a/b", "azureml-"+guid+"/b"),
		"all moved": s.MoveAll(ctx, "elsewhere/a/", "azureml-"+guid+"/c/"),
		"appended":  func() error { _, err := s.Append(ctx, "logs-"+guid+"/r/0001/a", 0, []byte("x")); return err }(),
	} {
		if fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, key := range []string{"azureml-1" + guid + "/a", guid + "-2/a", "other/" + guid, "elsewhere/a/c"} {
		if err := put(key); err != nil {
			t.Errorf("%s is another's: %v", key, err)
		}
	}
	list, err := s.List(ctx, "", "", 0)
	if err != nil || len(list) != 5 {
		t.Errorf("%d blobs are there, %v; want the five elsewhere", len(list), err)
	}
}
