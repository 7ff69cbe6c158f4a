package armid

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// aliases is where a blob is found by its alias, in the container of runs' files.
const aliases = ".named/"

// mostAliased is the longest name that has an alias, in bytes: that must be a
// blob's name as well.
const mostAliased = 750

// Alias returns a name for a blob that no URL has to escape: SDK v1 escapes what is
// escaped already. It is the blob's own where that will do, or is too long.
func Alias(blob string) string {
	if plain(blob) || len(blob) > mostAliased {
		return blob
	}
	return aliases + base64.RawURLEncoding.EncodeToString([]byte(blob))
}

// Unalias is the inverse. What is no alias is itself.
func Unalias(name string) string {
	code, ok := strings.CutPrefix(name, aliases)
	if !ok {
		return name
	}
	blob, err := base64.RawURLEncoding.Strict().DecodeString(code)
	if err != nil || !utf8.Valid(blob) || plain(string(blob)) {
		return name
	}
	return string(blob)
}

func plain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !isDigit(c) && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte("._-/", c) < 0 {
			return false
		}
	}
	return true
}
