package main

import (
	"bytes"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/config"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/store"
)

// What net/http says is seen where it tells of a fault of ours, and no scanner fills the log.
func TestWebLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ line, level string }{
		"a panic":                      {"http: panic serving 127.0.0.1:1: boom\ngoroutine 1 [running]:", "WARN"},
		"a panic of HTTP/2":            {"http2: panic serving 127.0.0.1:1: boom", "WARN"},
		"an answer that was begun":     {"http: superfluous response.WriteHeader call from x", "WARN"},
		"a scanner":                    {"http: TLS handshake error from 127.0.0.1:1: EOF", "DEBUG"},
		"a client that speaks nothing": {"http2: server: error reading preface from client 127.0.0.1:1: EOF", "DEBUG"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log.New(webLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}, "", 0).Print(c.line)
			if got := out.String(); !strings.Contains(got, "level="+c.level+" ") || !strings.Contains(got, strings.SplitN(c.line, "\n", 2)[0]) {
				t.Errorf("got %s, want it at %s", got, c.level)
			}
		})
	}
}

// A restore that is cut short while a server waits for the folder keeps it from
// starting: it looks once the folder is its own, and leaves all as it is.
func TestServerLooksForACutRestoreOnceTheFolderIsItsOwn(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "restoring"), []byte("7"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := open(t.Context(), config.Config{Data: data}, slog.New(slog.DiscardHandler))
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "ebb.db")); err == nil {
		t.Error("it began a new state beside half a restored one")
	}
	release, err := store.Lock(data)
	if err != nil {
		t.Fatalf("the folder is held still: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
