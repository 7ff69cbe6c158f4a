package main

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"testing"
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
