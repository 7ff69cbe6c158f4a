package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Builds see how this machine's pip, apt and conda find their packages as secrets
// of BuildKit: files that are there while a command runs, and never in an image.
// They are not arguments or variables, which an image's history keeps.
const (
	secretPip     = "ebb-pip"
	secretCA      = "ebb-ca"
	secretConda   = "ebb-conda"
	secretApt     = "ebb-apt"
	secretSources = "ebb-apt-sources"
	secretAuth    = "ebb-apt-auth"
)

// targets is where a command sees them: places that come on top of an image's own
// settings where there are such, and take the place of none of its files.
var targets = map[string]string{
	secretPip:     "/etc/xdg/pip/pip.conf",
	secretCA:      "/run/secrets/" + secretCA,
	secretConda:   "/etc/conda/.condarc",
	secretApt:     "/etc/apt/apt.conf.d/zz-ebb",
	secretSources: "/run/secrets/" + secretSources + ".list",
	secretAuth:    "/etc/apt/auth.conf.d/ebb.conf",
}

// apts are those that only apt reads.
var apts = []string{secretApt, secretSources, secretAuth}

// maxSecret is what BuildKit takes for one; bytes.
const maxSecret = 500 << 10

// secrets of one build.
type secrets struct {
	files map[string]string // by id: a file that only we may read
	notes []string          // for the build's log
}

// mounts are the flags of a RUN that is to see them.
func (x *secrets) mounts(apt bool) string {
	var out []string
	for id := range x.files {
		if apt || !slices.Contains(apts, id) {
			out = append(out, "--mount=type=secret,id="+id+",target="+targets[id]+",mode=0444")
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// secrets writes those of this machine into a folder.
func (s *Store) secrets(dir string) (*secrets, error) {
	x := &secrets{files: map[string]string{}}
	ca := ""
	pip := hostPip(s.cfg.Root, x)
	if ca = pip["cert"]; ca == "" {
		for _, name := range []string{"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"} {
			if v := os.Getenv(name); v != "" && s.cfg.Root == "/" {
				ca = v
				break
			}
		}
	}
	texts := map[string]string{secretConda: firstOf(s.condarc()...)}
	if ca != "" {
		text, err := os.ReadFile(ca)
		switch {
		case err != nil:
			x.notes = append(x.notes, fmt.Sprintf("Left out this machine's certificates for pip: %s", err))
		case len(text) > maxSecret:
			x.notes = append(x.notes, fmt.Sprintf("Left out this machine's certificates for pip: %s is larger than %d bytes", ca, maxSecret))
		default:
			texts[secretCA] = string(text)
		}
	}
	delete(pip, "cert")
	if texts[secretCA] != "" {
		pip["cert"] = targets[secretCA]
	}
	texts[secretPip] = ini(pip)
	apt := s.hostApt()
	texts[secretApt], texts[secretSources], texts[secretAuth] = apt.conf, apt.sources, apt.auth
	for id, text := range texts {
		if text == "" {
			continue
		}
		if err := writeAll(dir, map[string]string{id: text}); err != nil {
			return nil, err
		}
		x.files[id] = filepath.Join(dir, id)
	}
	return x, nil
}

// pipKeys are the settings of pip that say where packages come from and how.
var pipKeys = []string{"index-url", "extra-index-url", "find-links", "trusted-host", "no-index", "proxy", "cert", "timeout", "default-timeout", "retries", "prefer-binary", "only-binary", "no-binary"}

// hostPip is what this machine's pip is told, its files first and then its variables.
func hostPip(root string, x *secrets) map[string]string {
	set := map[string]string{}
	put := func(key, value string) {
		key = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(key)), "_", "-")
		if value = strings.TrimSpace(value); value != "" && slices.Contains(pipKeys, key) {
			set[key] = value
		}
	}
	paths := []string{filepath.Join(root, "etc/xdg/pip/pip.conf"), filepath.Join(root, "etc/pip.conf")}
	if root == "/" {
		if home, err := os.UserHomeDir(); err == nil {
			paths = append(paths, filepath.Join(home, ".pip/pip.conf"), filepath.Join(home, ".config/pip/pip.conf"))
		}
		if p := os.Getenv("PIP_CONFIG_FILE"); p != "" {
			paths = append(paths, p)
		}
	}
	for _, path := range paths {
		readINI(path, put)
	}
	if root == "/" {
		for _, v := range os.Environ() {
			if key, value, ok := strings.Cut(v, "="); ok && strings.HasPrefix(strings.ToUpper(key), "PIP_") {
				put(key[len("PIP_"):], value)
			}
		}
	}
	set["find-links"] = onlyWeb(set["find-links"], x)
	if set["find-links"] == "" {
		delete(set, "find-links")
	}
	if set["timeout"] == "" && set["default-timeout"] != "" {
		set["timeout"] = set["default-timeout"]
	}
	delete(set, "default-timeout")
	return set
}

// onlyWeb leaves out folders of this machine, which builds do not see.
func onlyWeb(links string, x *secrets) string {
	var kept []string
	for _, l := range strings.Fields(links) {
		if strings.HasPrefix(l, "http://") || strings.HasPrefix(l, "https://") {
			kept = append(kept, l)
		} else {
			x.notes = append(x.notes, "Left out a folder in which this machine's pip looks for packages, because builds do not see it: "+l)
		}
	}
	return strings.Join(kept, "\n\t")
}

// readINI calls put for the settings of pip's sections that an install heeds.
func readINI(path string, put func(key, value string)) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	heeded, key, value := false, "", ""
	flush := func() {
		if heeded && key != "" {
			put(key, value)
		}
		key, value = "", ""
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case trimmed[0] == '[':
			flush()
			section := strings.Trim(trimmed, "[]")
			heeded = section == "global" || section == "install"
		case line[0] == ' ' || line[0] == '\t': // more of the value
			value += "\n\t" + trimmed
		default:
			flush()
			k, v, ok := strings.Cut(trimmed, "=")
			if c, d, colon := strings.Cut(trimmed, ":"); colon && (!ok || len(c) < len(k)) {
				k, v = c, d
			}
			key, value = strings.TrimSpace(k), strings.TrimSpace(v)
		}
	}
	flush()
}

func ini(set map[string]string) string {
	if len(set) == 0 {
		return ""
	}
	var lines []string
	for k, v := range set {
		lines = append(lines, k+" = "+v)
	}
	slices.Sort(lines)
	return "[global]\n" + strings.Join(lines, "\n") + "\n"
}

// condarc is where conda's settings of this machine lie, the first one counts.
func (s *Store) condarc() []string {
	paths := []string{filepath.Join(s.cfg.Root, "etc/conda/.condarc"), filepath.Join(s.cfg.Root, "etc/conda/condarc")}
	if home, err := os.UserHomeDir(); err == nil && s.cfg.Root == "/" {
		paths = append([]string{filepath.Join(home, ".condarc")}, paths...)
	}
	return paths
}

func firstOf(paths ...string) string {
	for _, p := range paths {
		if text, err := os.ReadFile(p); err == nil {
			return string(text)
		}
	}
	return ""
}

// apt is what this machine's apt is told.
type apt struct{ conf, sources, auth, release string }

// hostApt reads apt's proxies, passwords, and where its packages come from.
func (s *Store) hostApt() apt {
	at := func(p string) string { return filepath.Join(s.cfg.Root, p) }
	a := apt{release: releaseOf(firstOf(at("etc/os-release"), at("usr/lib/os-release")))}
	var conf strings.Builder
	files, _ := filepath.Glob(at("etc/apt/apt.conf.d/*"))
	for _, f := range append([]string{at("etc/apt/apt.conf")}, files...) {
		for line := range strings.SplitSeq(firstOf(f), "\n") {
			lower := strings.ToLower(strings.TrimSpace(line))
			if strings.HasPrefix(lower, "acquire::") && strings.HasSuffix(lower, ";") && !strings.Contains(lower, "{") &&
				(strings.Contains(lower, "proxy") || strings.Contains(lower, "verify") || strings.Contains(lower, "retries")) {
				conf.WriteString(strings.TrimSpace(line) + "\n")
			}
		}
	}
	auths, _ := filepath.Glob(at("etc/apt/auth.conf.d/*.conf"))
	for _, f := range append([]string{at("etc/apt/auth.conf")}, auths...) {
		a.auth += firstOf(f)
	}
	if a.sources = s.mirrors(a.release); a.sources != "" {
		fmt.Fprintf(&conf, "Dir::Etc::sourcelist %q;\nDir::Etc::sourceparts \"-\";\n", targets[secretSources])
	}
	a.conf = conf.String()
	return a
}

// releaseOf is the code name of a system's release, from its os-release.
func releaseOf(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return ""
}

// mirrors are this machine's sources of its own release's packages, one a line.
func (s *Store) mirrors(release string) string {
	if release == "" {
		return ""
	}
	lists, _ := filepath.Glob(filepath.Join(s.cfg.Root, "etc/apt/sources.list.d/*.list"))
	var lines []string
	for _, f := range append([]string{filepath.Join(s.cfg.Root, "etc/apt/sources.list")}, lists...) {
		for line := range strings.SplitSeq(firstOf(f), "\n") {
			if w := strings.Fields(withoutOptions(line)); len(w) >= 4 && w[0] == "deb" && ofRelease(w[2], release) {
				lines = append(lines, strings.Join(w, " "))
			}
		}
	}
	deb822, _ := filepath.Glob(filepath.Join(s.cfg.Root, "etc/apt/sources.list.d/*.sources"))
	for _, f := range deb822 {
		lines = append(lines, stanzas(firstOf(f), release)...)
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func ofRelease(suite, release string) bool {
	return suite == release || strings.HasPrefix(suite, release+"-") || strings.HasPrefix(suite, release+"/")
}

// withoutOptions takes what is in brackets out of a line: it names keys of this machine.
func withoutOptions(line string) string {
	i, j := strings.IndexByte(line, '['), strings.IndexByte(line, ']')
	if i < 0 || j < i {
		return line
	}
	return line[:i] + line[j+1:]
}

// stanzas are the sources of a file in apt's newer form, one a line.
func stanzas(text, release string) (out []string) {
	for stanza := range strings.SplitSeq(text, "\n\n") {
		set := map[string]string{}
		last := ""
		in := bufio.NewScanner(strings.NewReader(stanza))
		for in.Scan() {
			line := in.Text()
			if line == "" || line[0] == '#' {
				continue
			}
			if line[0] == ' ' || line[0] == '\t' {
				set[last] += " " + strings.TrimSpace(line)
				continue
			}
			k, v, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(k))
			set[last] = strings.TrimSpace(v)
		}
		if !slices.Contains(strings.Fields(set["types"]), "deb") || strings.EqualFold(set["enabled"], "no") {
			continue
		}
		for _, uri := range strings.Fields(set["uris"]) {
			for _, suite := range strings.Fields(set["suites"]) {
				if ofRelease(suite, release) {
					out = append(out, "deb "+uri+" "+suite+" "+set["components"])
				}
			}
		}
	}
	return out
}

// debian reports whether this machine's settings of apt are right for an image: it
// is of the same release. It is not asked where there is nothing to tell.
func (s *Store) debian(ctx context.Context, img Image) bool {
	a := s.hostApt()
	if a.conf == "" && a.auth == "" {
		return false
	}
	text, err := s.osRelease(ctx, img.ID)
	return err == nil && a.release != "" && releaseOf(text) == a.release
}

// osRelease reads an image's os-release, out of a container that is never started.
func (s *Store) osRelease(ctx context.Context, image string) (text string, err error) {
	made, err := s.cfg.Engine.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{
		Image: image, Entrypoint: []string{"/nothing"}, NetworkDisabled: true, Labels: map[string]string{"ebb.look": "os-release"},
	}})
	if err != nil {
		return "", err
	}
	defer func() {
		_, gone := s.cfg.Engine.ContainerRemove(context.WithoutCancel(ctx), made.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		err = errors.Join(err, gone)
	}()
	for _, path := range []string{"/usr/lib/os-release", "/etc/os-release"} {
		found, err := s.cfg.Engine.CopyFromContainer(ctx, made.ID, client.CopyFromContainerOptions{SourcePath: path})
		if err != nil {
			continue
		}
		defer found.Content.Close()
		r := tar.NewReader(io.LimitReader(found.Content, 1<<20))
		if _, err := r.Next(); err != nil {
			return "", err
		}
		var b bytes.Buffer
		_, err = io.Copy(&b, r)
		return b.String(), err
	}
	return "", fs.ErrNotExist
}
