package shim

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode/utf8"
)

// How much of a log's end a message carries.
const (
	tailLines = 20
	tailBytes = 2000
)

// tail returns the last lines of a log, as valid UTF-8 without control characters
// but tabs. A line that is longer than the limit loses its beginning.
func tail(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, min(info.Size(), 4*tailBytes))
	n, _ := f.ReadAt(b, info.Size()-int64(len(b)))
	return lastLines(string(b[:n]))
}

func lastLines(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r == '\r' {
			return '\n' // progress bars rewrite their line
		}
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	s = strings.TrimRight(s, "\n ")
	lines := strings.Split(s, "\n")
	kept := lines[:0]
	for _, l := range lines {
		if strings.TrimSpace(l) != "" {
			kept = append(kept, l)
		}
	}
	kept = kept[max(0, len(kept)-tailLines):]
	s = strings.Join(kept, "\n")
	for len(s) > tailBytes {
		cut := len(s) - tailBytes
		if i := strings.IndexByte(s[cut:], '\n'); i >= 0 && cut+i+1 < len(s) {
			s = s[cut+i+1:]
			continue
		}
		for cut < len(s) && !utf8.RuneStart(s[cut]) {
			cut++
		}
		s = s[cut:]
	}
	return s
}

// logSizes lists what is below DIR/log.
func logSizes(dir string) map[string]int64 {
	root := path.Join(dir, "log")
	out := map[string]int64{}
	_ = walk(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what cannot be read is not in the record
		}
		if info, err := d.Info(); err == nil {
			out[strings.TrimPrefix(file, root+"/")] = info.Size()
		}
		return nil
	})
	return out
}
