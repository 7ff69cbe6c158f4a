package upload

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ignoreFile holds the patterns of a folder's .amlignore, or else its .gitignore.
type ignoreFile struct {
	name     string // empty: there is none
	patterns []pattern
}

type pattern struct {
	match   *regexp.Regexp
	include bool // begins with !
}

func readIgnore(dir string) (*ignoreFile, error) {
	for _, name := range []string{".amlignore", ".gitignore"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f := &ignoreFile{name: name}
		for line := range strings.Lines(string(b)) {
			if p, ok := compile(strings.TrimRight(line, "\r\n")); ok {
				f.patterns = append(f.patterns, p)
			}
		}
		return f, nil
	}
	return &ignoreFile{}, nil
}

func (f *ignoreFile) String() string {
	if f.name == "" {
		return "it is empty"
	}
	return f.name + " leaves none"
}

// matches reports whether a file stays behind; the last pattern that speaks of
// it counts.
func (f *ignoreFile) matches(name string) bool {
	out := false
	for _, p := range f.patterns {
		if p.match.MatchString(name) {
			out = !p.include
		}
	}
	return out
}

// prunes reports whether nothing below a folder can go: it stays behind, and no
// pattern brings anything back.
func (f *ignoreFile) prunes(dir string) bool {
	for _, p := range f.patterns {
		if p.include {
			return false
		}
	}
	return f.matches(dir + "/x")
}

// compile makes a regular expression of a line in gitignore's language.
func compile(line string) (pattern, bool) {
	if !strings.HasSuffix(line, `\ `) {
		line = strings.TrimRight(line, " \t")
	}
	if line == "" || strings.HasPrefix(line, "#") {
		return pattern{}, false
	}
	p := pattern{}
	if rest, ok := strings.CutPrefix(line, "!"); ok {
		p.include, line = true, rest
	}
	folder := strings.HasSuffix(line, "/")
	line = strings.TrimSuffix(line, "/")
	rooted := strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return pattern{}, false
	}
	var re strings.Builder
	re.WriteString("^")
	if !rooted {
		re.WriteString("(?:.*/)?")
	}
	glob(&re, line)
	if folder {
		re.WriteString("/.*$") // files below it: a folder itself never goes
	} else {
		re.WriteString("(?:/.*)?$")
	}
	var err error
	p.match, err = regexp.Compile(re.String())
	return p, err == nil // git passes over what is no pattern, too
}

// glob translates *, **, ? and [..].
func glob(re *strings.Builder, line string) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case strings.HasPrefix(line[i:], "**/"):
			re.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(line[i:], "**"):
			re.WriteString(".*")
			i++
		case c == '*':
			re.WriteString("[^/]*")
		case c == '?':
			re.WriteString("[^/]")
		case c == '[' && strings.IndexByte(line[i+1:], ']') > 0:
			end := i + 1 + strings.IndexByte(line[i+1:], ']')
			class := line[i+1 : end]
			if rest, ok := strings.CutPrefix(class, "!"); ok {
				class = "^" + rest
			}
			re.WriteString("[" + strings.ReplaceAll(class, `\`, `\\`) + "]")
			i = end
		case c == '\\' && i+1 < len(line):
			i++
			re.WriteString(regexp.QuoteMeta(line[i : i+1]))
		default:
			// Byte by byte would take letters beyond ASCII apart.
			n := i + 1
			for n < len(line) && line[n]&0xC0 == 0x80 {
				n++
			}
			re.WriteString(regexp.QuoteMeta(line[i:n]))
			i = n - 1
		}
	}
}
