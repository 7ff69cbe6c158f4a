package blob

import (
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/fault"
)

// The errors of the disk that callers can wait out, and of a path whose folder
// is a file.
const (
	errNoSpace = syscall.ENOSPC
	errQuota   = syscall.EDQUOT
	errIO      = syscall.EIO
	errNotDir  = syscall.ENOTDIR
)

// maxKey is the most characters of a key: a container's, which has its account
// before it, a slash, and the 1024 that Azure allows a blob.
const maxKey = 128 + 1 + 1024

// maxSegments is Azure's limit; it also bounds what a folder's depth costs.
const maxSegments = 1 + 254 // the container's

// A segment of a key is one file name, or as many as it needs: a file name has at
// most 255 bytes. A segment of pieceLen bytes or more is cut; each full piece is
// a folder of its own, and the rest, which may be empty, lies in it. So all
// segments that begin with the same full piece are in one folder, and listing
// folder by folder gives keys in byte order.
const pieceLen = 80 // bytes; three times as many when each is escaped, and an ending

// The endings keep a blob "a", the folder of "a/b" and the piece of a long
// segment apart, and make no name "." or "..".
const (
	fileEnd   = ".b"
	folderEnd = ".d"
	pieceEnd  = ".c"
)

// overlayEnd is the ending of a later header of a blob. It is no name of a blob:
// lists pass it by.
const overlayEnd = ".m"

// pathOf returns where a key's file lies.
func pathOf(key string) (string, error) {
	container, name, ok := strings.Cut(key, "/")
	switch {
	case !ok || container == "" || name == "":
		return "", fault.New(fault.Invalid, key, "a blob needs a container and a name")
	case utf8.RuneCountInString(key) > maxKey:
		return "", fault.New(fault.Invalid, "", "the name of this blob has more than 1024 characters")
	case strings.Count(key, "/") >= maxSegments:
		return "", fault.New(fault.Invalid, "", "the name of this blob has more than 254 segments")
	}
	var b strings.Builder
	b.WriteString(blobs)
	segments := strings.Split(key, "/")
	for i, s := range segments {
		end := folderEnd
		if i == len(segments)-1 {
			end = fileEnd
		}
		encodeSegment(&b, s, end)
	}
	return b.String(), nil
}

func encodeSegment(b *strings.Builder, s, end string) {
	for len(s) >= pieceLen {
		encodeName(b, s[:pieceLen], pieceEnd)
		s = s[pieceLen:]
	}
	encodeName(b, s, end)
}

const hexDigits = "0123456789ABCDEF"

func encodeName(b *strings.Builder, s, end string) {
	b.WriteByte('/')
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	b.WriteString(end)
}

// plain bytes stand for themselves. All others are escaped, so that a name is
// printable and the same bytes on any file system.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// decodeName is the inverse for one file name.
func decodeName(name string) (piece, end string, ok bool) {
	cut := len(name) - len(fileEnd)
	if cut < 0 {
		return "", "", false
	}
	name, end = name[:cut], name[cut:]
	if end != fileEnd && end != folderEnd && end != pieceEnd {
		return "", "", false
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case plain(c):
			b.WriteByte(c)
		case c == '%' && i+2 < len(name):
			hi, lo := strings.IndexByte(hexDigits, name[i+1]), strings.IndexByte(hexDigits, name[i+2])
			if hi < 0 || lo < 0 {
				return "", "", false
			}
			b.WriteByte(byte(hi<<4 | lo))
			i += 2
		default:
			return "", "", false
		}
	}
	return b.String(), end, true
}
