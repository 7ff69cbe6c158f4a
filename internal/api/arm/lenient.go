package arm

import (
	"bytes"
	"net/http"
	"strings"
	"unicode/utf8"
)

// ReadLenient is ReadDocument for JSON as Azure reads templates, and as az sends
// them: with comments, names without quotes, line breaks and tabs inside strings,
// and commas before a closing bracket.
func ReadLenient(r *http.Request) (map[string]any, error) {
	b, err := ReadBody(r, MaxBody)
	if err != nil {
		return nil, err
	}
	return document(Strict(b), false)
}

// Strict turns such JSON into JSON proper. Lines stay where they are, so that
// what is still wrong is found there. What it does not understand it leaves.
func Strict(b []byte) []byte {
	s := stricter{in: b, out: make([]byte, 0, len(b)+64)}
	for s.i < len(b) {
		s.step()
	}
	return s.out
}

// stricter copies JSON and mends it on the way.
type stricter struct {
	in, out []byte
	i       int
}

func (s *stricter) step() {
	switch c := s.in[s.i]; {
	case c == '"' || c == '\'':
		s.quoted(c)
	case c == '/' && s.at(1) == '/':
		for s.i < len(s.in) && s.in[s.i] != '\n' {
			s.i++
		}
	case c == '/' && s.at(1) == '*':
		s.comment()
	case c == '}' || c == ']':
		s.dropComma()
		s.copy()
	case wordByte(c) && (s.i == 0 || !wordByte(s.in[s.i-1])):
		s.word()
	default:
		s.copy()
	}
}

// at looks ahead.
func (s *stricter) at(n int) byte {
	if s.i+n < len(s.in) {
		return s.in[s.i+n]
	}
	return 0
}

func (s *stricter) copy() {
	s.out = append(s.out, s.in[s.i])
	s.i++
}

// quoted copies a string; in single quotes it becomes one in double quotes.
func (s *stricter) quoted(quote byte) {
	s.out = append(s.out, '"')
	for s.i++; s.i < len(s.in); s.i++ {
		switch c := s.in[s.i]; {
		case c == quote:
			s.out = append(s.out, '"')
			s.i++
			return
		case c == '\\' && s.at(1) == '\'':
			s.out = append(s.out, '\'')
			s.i++
		case c == '\\' && s.i+1 < len(s.in):
			s.out = append(s.out, c, s.in[s.i+1])
			s.i++
		case c == '"':
			s.out = append(s.out, '\\', '"')
		case c == '\n':
			s.out = append(s.out, '\\', 'n')
		case c == '\r':
			s.out = append(s.out, '\\', 'r')
		case c == '\t':
			s.out = append(s.out, '\\', 't')
		default:
			s.out = append(s.out, c)
		}
	}
}

// comment leaves the line breaks of a comment.
func (s *stricter) comment() {
	end := bytes.Index(s.in[s.i+2:], []byte("*/"))
	stop := len(s.in)
	if end >= 0 {
		stop = s.i + 2 + end + 2
	}
	for ; s.i < stop; s.i++ {
		if s.in[s.i] == '\n' {
			s.out = append(s.out, '\n')
		}
	}
	s.out = append(s.out, ' ')
}

// dropComma removes a comma that stands before a closing bracket.
func (s *stricter) dropComma() {
	at := len(s.out) - 1
	for at >= 0 && strings.IndexByte(" \t\r\n", s.out[at]) >= 0 {
		at--
	}
	if at >= 0 && s.out[at] == ',' {
		s.out[at] = ' '
	}
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c == '-' || c == '+' || c == '.' || c >= utf8.RuneSelf
}

// word copies a name, in quotes if a colon follows, or a literal as it is.
func (s *stricter) word() {
	from := s.i
	for s.i < len(s.in) && wordByte(s.in[s.i]) {
		s.i++
	}
	word := s.in[from:s.i]
	next := s.i
	for next < len(s.in) && strings.IndexByte(" \t\r\n", s.in[next]) >= 0 {
		next++
	}
	if next < len(s.in) && s.in[next] == ':' {
		s.out = append(append(append(s.out, '"'), word...), '"')
		return
	}
	s.out = append(s.out, word...)
}
