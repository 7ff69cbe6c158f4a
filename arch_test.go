// Package ebb_test holds the rules of the house: which room may import which,
// what the core may not do, and that every package says what it is. The rules
// and their reasons are in docs/architecture.md.
package ebb_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/ebb-compute/ebb/"

// arrows says what each room may import of ours: a room and all below it. The
// first match counts; a room that is not named here fails the test.
var arrows = []struct {
	room string
	may  []string
}{
	{"internal/core/", []string{"internal/core/"}},
	{"internal/fault/", nil},
	{"internal/clock/", nil},
	{"internal/config/", nil},
	{"internal/pki/", []string{"internal/fault/"}},
	{"internal/nodeproto/", []string{"internal/core/"}}, // its types carry phases, exits and tasks, which are core's
	{"internal/token/", []string{"internal/core/access/", "internal/fault/"}},
	{"internal/blob/", []string{"internal/fault/"}},
	{"internal/backup/", []string{"internal/blob/", "internal/fault/", "internal/store/"}},
	{"internal/store/", []string{"internal/core/", "internal/fault/", "internal/store/"}},
	{"internal/engine/", []string{"internal/core/", "internal/engine/", "internal/fault/"}},
	{"internal/control/", []string{"internal/core/", "internal/engine/", "internal/nodeproto/", "internal/fault/"}},
	{"internal/node/", []string{"internal/node/", "internal/nodeproto/", "internal/core/", "internal/fault/"}},
	{"internal/app/", []string{"internal/app/", "internal/core/", "internal/fault/"}},
	{"internal/api/storage/", []string{"internal/api/arm/", "internal/blob/", "internal/core/", "internal/fault/", "internal/token/"}},
	{"internal/api/data/", []string{"internal/api/arm/", "internal/app/", "internal/blob/", "internal/core/", "internal/fault/", "internal/token/"}},
	{"internal/api/nodes/", []string{"internal/api/arm/", "internal/app/", "internal/blob/", "internal/core/", "internal/fault/", "internal/token/", "internal/nodeproto/"}}, // logs and outputs arrive here
	{"internal/api/", []string{"internal/api/arm/", "internal/app/", "internal/core/", "internal/fault/", "internal/token/", "internal/nodeproto/"}},
	{"internal/cli/", []string{"client/", "internal/cli/", "internal/core/near/"}},
	{"internal/testkit/", []string{""}},
	{"client/", nil},
	{"compat/", []string{"client/", "internal/testkit/"}},
	{"bench/", []string{"client/", "internal/testkit/"}},
	{"survival/", []string{"client/", "internal/testkit/"}},
	{"cmd/", []string{""}},
}

// testOnly are rooms that only tests may import, besides those whose name ends in "test".
var testOnly = []string{"internal/testkit"}

// coreMayUse is all of the standard library that deciding needs.
var coreMayUse = map[string]bool{
	"bytes": true, "cmp": true, "container/heap": true, "crypto/sha1": true, "crypto/sha256": true, "embed": true, "encoding/base64": true, "encoding/binary": true, "encoding/csv": true, "encoding/hex": true, "encoding/json": true,
	"errors": true, "fmt": true, "hash/maphash": true, "hash/fnv": true, "iter": true, "maps": true, "math": true, "math/bits": true, "net/netip": true, "net/url": true,
	"regexp": true, "slices": true, "sort": true, "strconv": true, "strings": true, "sync": true, "time": true, "unicode": true, "unicode/utf8": true,
}

// clock is what would let the core learn the time, or wait.
var clock = map[string]bool{
	"time.Now": true, "time.Since": true, "time.Until": true, "time.Sleep": true,
	"time.After": true, "time.AfterFunc": true, "time.NewTimer": true, "time.NewTicker": true, "time.Tick": true,
}

// source is one parsed file. The test reads the files itself, and does not ask
// go list, so that go test knows when a cached pass is out of date.
type source struct {
	path, room string
	file       *ast.File
	imports    map[string]bool
	test       bool
}

func sources(t *testing.T) (*token.FileSet, []source) {
	t.Helper()
	fset := token.NewFileSet()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return fs.SkipDir
		case filepath.Ext(path) != ".go" || filepath.Dir(path) == ".":
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s := source{path: path, room: filepath.ToSlash(filepath.Dir(path)), file: f, imports: map[string]bool{}, test: strings.HasSuffix(path, "_test.go")}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports[name] = true
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fset, all
}

func (s source) core() bool { return strings.HasPrefix(s.room, "internal/core/") }

func TestArrows(t *testing.T) {
	t.Parallel()
	_, all := sources(t)
	for _, s := range all {
		if s.test || isTestRoom(s.room) {
			continue
		}
		may, ok := allowed(s.room)
		if !ok {
			t.Errorf("%s: no room for it in arrows; add one", s.room)
		}
		for imp := range s.imports {
			ours, isOurs := strings.CutPrefix(imp, module)
			switch {
			case isOurs && isTestRoom(ours):
				t.Errorf("%s must not import %s: only tests may", s.path, ours)
			case isOurs && !under(ours, may):
				t.Errorf("%s must not import %s", s.path, ours)
			case !isOurs && s.core() && !coreMayUse[imp]:
				t.Errorf("%s must not import %s: the core does no I/O", s.path, imp)
			}
		}
	}
}

func isTestRoom(room string) bool {
	for _, r := range testOnly {
		if room == r {
			return true
		}
	}
	return strings.HasSuffix(room, "test")
}

func allowed(room string) ([]string, bool) {
	for _, a := range arrows {
		if strings.HasPrefix(room+"/", a.room) {
			return a.may, true
		}
	}
	return nil, false
}

func under(room string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(room+"/", p) {
			return true
		}
	}
	return false
}

// TestCoreIsPure finds the clock and goroutines, which imports do not show.
func TestCoreIsPure(t *testing.T) {
	t.Parallel()
	fset, all := sources(t)
	for _, s := range all {
		if s.test || !s.core() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: the core starts no goroutines", fset.Position(n.Pos()))
			}
			if clock[selector(n)] {
				t.Errorf("%s: the core is told the time", fset.Position(n.Pos()))
			}
			return true
		})
	}
}

// TestNobodySleeps: a test waits inside a synctest bubble or for a condition,
// never for luck.
func TestNobodySleeps(t *testing.T) {
	t.Parallel()
	fset, all := sources(t)
	for _, s := range all {
		if !s.test || s.imports["testing/synctest"] {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if selector(n) == "time.Sleep" {
				t.Errorf("%s: a test that sleeps for real; use testing/synctest or wait for a condition", fset.Position(n.Pos()))
			}
			return true
		})
	}
}

func selector(n ast.Node) string {
	if sel, ok := n.(*ast.SelectorExpr); ok {
		if x, ok := sel.X.(*ast.Ident); ok {
			return x.Name + "." + sel.Sel.Name
		}
	}
	return ""
}

func TestEveryPackageIsDescribed(t *testing.T) {
	t.Parallel()
	_, all := sources(t)
	described := map[string]bool{}
	for _, s := range all {
		if !s.test {
			described[s.room] = described[s.room] || s.file.Doc != nil
		}
	}
	for room, ok := range described {
		if !ok {
			t.Errorf("%s has no package comment", room)
		}
	}
}
