package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

// sumsFile is as "sha256sum --check" reads it, so that who has only that can look
// whether a backup is sound. Names of blobs' files have no character to escape.
const sumsFile = "SHA256SUMS"

type sum = [sha256.Size]byte

// sums are files' checksums, by path with slashes.
type sums map[string]sum

func sumOf(path string) (s sum, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return sum(h.Sum(nil)), errors.Join(err, f.Close())
}

// write writes the list of them, and returns its own checksum.
func (s sums) write(dir string) (string, error) {
	var b bytes.Buffer
	for _, path := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%x  %s\n", s[path], path)
	}
	own := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(own[:]), os.WriteFile(filepath.Join(dir, sumsFile), b.Bytes(), 0o600)
}

// readSums reads the list of a backup.
func readSums(dir string, m manifest) (sums, error) {
	text, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if own := sha256.Sum256(text); err != nil || hex.EncodeToString(own[:]) != m.Sums {
		return nil, damaged(dir, "its list of checksums, %s, is not what it was", sumsFile)
	}
	out := sums{}
	for line := range strings.Lines(string(text)) {
		digest, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		one, err := hex.DecodeString(digest)
		if err != nil || len(one) != sha256.Size {
			return nil, damaged(dir, "%s has the line %.80q", sumsFile, line)
		}
		out[path] = sum(one)
	}
	return out, nil
}

// compare says by name what is other than it was when the backup was made.
func (s sums) compare(from string, got sums) error {
	for _, path := range slices.Sorted(maps.Keys(s)) {
		have, there := got[path]
		switch {
		case !there:
			return damaged(from, "%s is not there", path)
		case have != s[path]:
			return damaged(from, "%s is not what it was: its checksum is %x, and was %x", path, have, s[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, known := s[path]; !known {
			return damaged(from, "%s was not in it", path)
		}
	}
	return nil
}

func damaged(from, how string, args ...any) error {
	return fault.New(fault.Conflict, from, "The backup is damaged: %s. Nothing was changed; restore another backup.", fmt.Sprintf(how, args...))
}
