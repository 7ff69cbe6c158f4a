// Package wiretest holds types to files that say how they were once written:
// another age's agent, server or shim reads them, and must go on doing so.
package wiretest

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"
)

// Golden fails unless T reads all that is in a file of JSON and writes it again,
// no more and no less. A field that was renamed or removed fails, and so does a new
// one that is written though nothing was said of it: make it omitempty. Do not
// change the file; nodeproto.Version says what to do instead.
func Golden[T any](t *testing.T, file string) T {
	t.Helper()
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Text[T](t, file, want)
}

// Text is [Golden] of what is not a file of its own.
func Text[T any](t *testing.T, name string, want []byte) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(want))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Errorf("%s is not read any more: %v", name, err)
		return v
	}
	got, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := plain(t, want), plain(t, got); !reflect.DeepEqual(a, b) {
		t.Errorf("%s is written otherwise now:\n%s", name, got)
	}
	return v
}

// plain reads JSON with its numbers as they are written.
func plain(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
