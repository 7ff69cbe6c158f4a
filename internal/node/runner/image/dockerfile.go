package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/ebb-compute/ebb/internal/fault"
)

// maxDockerfile bounds a Dockerfile; bytes.
const maxDockerfile = 1 << 20

// dockerfile returns the image of an environment that has a Dockerfile.
func (s *Store) dockerfile(ctx context.Context, w Want, log io.Writer) (Image, error) {
	b := *w.Environment.Build
	text := b.Dockerfile
	if b.URI == "" {
		w.Context = "" // nothing was put there
	}
	if text == "" {
		var err error
		if text, err = readDockerfile(w.Context, b.Path); err != nil {
			return Image{}, err
		}
	}
	f, err := read(text)
	if err != nil {
		return Image{}, err
	}
	var ids []string
	debian := map[string]bool{} // by base: apt installs packages in it
	for _, base := range f.bases() {
		img, err := s.get(ctx, base, loginOf(w.Environment.Registry), log)
		if err != nil {
			return Image{}, err
		}
		ids = append(ids, img.ID)
		debian[base] = s.debian(ctx, img)
	}
	context, err := hashTree(w.Context)
	if err != nil {
		return Image{}, fmt.Errorf("read the build context: %w", err)
	}
	return s.make(ctx, recipe{
		hash: key("dockerfile", text, ids, context), named: w.Environment.Name, context: w.Context,
		dockerfile: func(x *secrets) string { return f.with(x, debian) },
		explain:    f.explain,
	}, log)
}

func readDockerfile(context, path string) (string, error) {
	if path == "" {
		path = "Dockerfile"
	}
	bad := func(why string) error {
		return fault.Coded(fault.Invalid, "ImageBuildFailure", "environment", "The Dockerfile %.200q of the environment's build context %s.", path, why)
	}
	if context == "" || !filepath.IsLocal(path) {
		return "", bad("cannot be read: it lies outside of the context")
	}
	root, err := os.OpenRoot(context)
	if err != nil {
		return "", fmt.Errorf("open the build context: %w", err)
	}
	defer root.Close()
	f, err := root.Open(path)
	if err != nil {
		return "", bad("is not there")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err != nil || len(text) > maxDockerfile {
		return "", bad("cannot be read, or is larger than a MiB")
	}
	return string(text), nil
}

// key names what is built by all that decides what is in it.
func key(parts ...any) string {
	text, err := json.Marshal(append([]any{1, runtime.GOARCH}, parts...))
	if err != nil {
		panic("image: encode key: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// hashTree is of the names, kinds and bytes of the files below a folder.
func hashTree(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	all := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(all, "%q %v\n", rel, d.Type())
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		one := sha256.New()
		if _, err := io.Copy(one, f); err != nil {
			return err
		}
		_, err = all.Write(one.Sum(nil))
		return err
	})
	return hex.EncodeToString(all.Sum(nil)), err
}

// file is a Dockerfile that was read.
type file struct {
	lines []string
	steps []*parser.Node
	base  []string // by step: of its stage, an external image; empty: scratch, or before the first stage
	other []string // images that files are copied from
	own   bool     // it brings its own syntax, which may read it otherwise than we do
}

// read parses a Dockerfile as far as must be known of it: builds do the rest.
func read(text string) (*file, error) {
	bad := func(format string, args ...any) error {
		return fault.Coded(fault.Invalid, "ImageBuildFailure", "environment", "The environment's Dockerfile cannot be built: "+format, args...)
	}
	f := &file{lines: strings.Split(text, "\n")}
	if syntax, _, at, ok := parser.DetectSyntax([]byte(text)); ok {
		if !strings.HasPrefix(syntax, "docker/dockerfile:") && syntax != "docker/dockerfile" {
			f.own = true
		} else if len(at) > 0 { // the engine's own does, and need not be fetched
			f.lines[at[0].Start.Line-1] = "# " + syntax
		}
	}
	tree, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, bad("%s.", strings.Join(strings.Fields(err.Error()), " "))
	}
	f.steps = tree.AST.Children
	args := globals{}
	lex := shell.NewLex(tree.EscapeToken)
	stages := map[string]string{} // name → external base
	current, begun, count := "", false, 0
	for _, step := range f.steps {
		switch word := first(step); strings.ToLower(step.Value) {
		case "arg":
			if !begun {
				args.take(step, lex)
			}
		case "from":
			begun = true
			current, _, err = lex.ProcessWord(word, args)
			if err != nil || current == "" {
				return nil, bad("line %d: FROM names no image: %s", step.StartLine, step.Original)
			}
			if inner, ok := stages[strings.ToLower(current)]; ok {
				current = inner
			} else if current == "scratch" {
				current = ""
			}
			if n := step.Next; n.Next != nil && strings.EqualFold(n.Next.Value, "as") && n.Next.Next != nil {
				stages[strings.ToLower(n.Next.Next.Value)] = current
			}
			stages[strconv.Itoa(count)] = current
			count++
		default:
			for _, flag := range step.Flags {
				if from, ok := strings.CutPrefix(flag, "--from="); ok {
					f.copies(from, stages)
				}
			}
		}
		f.base = append(f.base, current)
	}
	if !begun {
		return nil, bad("it has no FROM.")
	}
	return f, nil
}

// copies notes an image that files come from, unless it is a stage.
func (f *file) copies(from string, stages map[string]string) {
	if _, isStage := stages[strings.ToLower(from)]; isStage || strings.ContainsRune(from, '$') {
		return
	}
	if _, err := strconv.Atoi(from); err != nil {
		f.other = append(f.other, from)
	}
}

func first(n *parser.Node) string {
	if n.Next == nil {
		return ""
	}
	return n.Next.Value
}

// globals are arguments that a FROM may use.
type globals map[string]string

// Get implements [shell.EnvGetter].
func (g globals) Get(k string) (string, bool) { v, ok := g[k]; return v, ok }

// Keys implements [shell.EnvGetter].
func (g globals) Keys() []string {
	var out []string
	for k := range g {
		out = append(out, k)
	}
	return out
}

func (g globals) take(step *parser.Node, lex *shell.Lex) {
	for n := step.Next; n != nil; n = n.Next {
		k, v, _ := strings.Cut(n.Value, "=")
		if w, _, err := lex.ProcessWord(v, g); err == nil {
			v = w
		}
		g[k] = v
	}
}

// bases are the images that the file begins with, or copies from.
func (f *file) bases() []string {
	var out []string
	for _, b := range append(slices.Clone(f.base), f.other...) {
		if b != "" && !slices.Contains(out, b) {
			out = append(out, b)
		}
	}
	return out
}

// with is the file with secrets for each of its commands. Lines stay where they are.
func (f *file) with(x *secrets, debian map[string]bool) string {
	lines := slices.Clone(f.lines)
	for i, step := range f.steps {
		if strings.EqualFold(step.Value, "run") && !f.own {
			at := step.StartLine - 1
			lines[at] = mounted(lines[at], x.mounts(debian[f.base[i]]))
		}
	}
	return strings.Join(lines, "\n")
}

// mounted puts flags after the first word of a line.
func mounted(line, flags string) string {
	indent := len(line) - len(strings.TrimLeft(line, " \t"))
	end := indent + len("RUN")
	if flags == "" || len(line) < end || !strings.EqualFold(line[indent:end], "run") {
		return line
	}
	return line[:end] + " " + flags + line[end:]
}

// explain names the line that failed, from a build's log; empty: it does not say.
func (f *file) explain(log string) string {
	if line := failedLine(log); line > 0 {
		return f.sentence(line, log)
	}
	shown := failedStep(log)
	if shown == "" {
		return ""
	}
	for _, step := range f.steps {
		if squeeze(bare(step.Original)) == squeeze(bare(shown)) {
			return f.sentence(step.StartLine, log)
		}
	}
	return fmt.Sprintf("The step %.200q failed.%s", bare(shown), ending(log))
}

func (f *file) sentence(line int, log string) string {
	text := ""
	if line <= len(f.lines) {
		text = fmt.Sprintf(" (%.200s)", strings.TrimSpace(f.lines[line-1]))
	}
	return fmt.Sprintf("Line %d of its Dockerfile failed%s.%s", line, text, ending(log))
}

// bare is a step without the flags that were put into it.
func bare(step string) string {
	var words []string
	for _, w := range strings.Fields(step) {
		if !strings.HasPrefix(w, "--mount=type=secret,id=ebb-") {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

func squeeze(s string) string {
	return string(bytes.Join(bytes.Fields([]byte(strings.ReplaceAll(s, "\\", " "))), nil))
}
