package upload_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/cli/upload"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	f, err := upload.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range f.Files {
		names = append(names, file.Name)
	}
	return names
}

// The hash was taken with azure-ai-ml 1.35.2 of the same folder: what the one
// has uploaded, the other need not.
func TestHashIsThatOfAz(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"train.py": "print(1)\n", "folder1/B.txt": "a", "Folder2/a.txt": "b", "Folder2/sub/empty": "", "x.log": "log", "Folder2/keep.log": "k",
		".amlignore": "*.log\n!Folder2/keep.log\n/folder1/\n",
	})
	if got, want := names(t, dir), []string{".amlignore", "Folder2/a.txt", "Folder2/keep.log", "Folder2/sub/empty", "train.py"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	f, err := upload.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Hash(); err != nil || got != "0b1a18aea05d018b5b432de429a9f324c5e8596c569cb187b0f9aebbfbf9c0b8" {
		t.Errorf("hash %s, %v", got, err)
	}
}

func TestIgnore(t *testing.T) {
	t.Parallel()
	all := map[string]string{"a.py": "", "a.log": "", "sub/b.log": "", "sub/b.py": "", "build/x": "", "sub/build/y": "", "ü.txt": ""}
	for name, c := range map[string]struct{ ignore, gone string }{
		"a pattern without a slash is for every folder":   {"*.log", "a.log sub/b.log"},
		"one that begins with a slash is for the top":     {"/*.log", "a.log"},
		"a folder goes with all below it":                 {"build/", "build/x sub/build/y"},
		"a name is a file or a folder":                    {"build", "build/x sub/build/y"},
		"a path is from the top":                          {"sub/build", "sub/build/y"},
		"two stars are any folders":                       {"**/b.*", "sub/b.log sub/b.py"},
		"two stars at the end are all below":              {"sub/**", "sub/b.log sub/b.py sub/build/y"},
		"the last pattern that speaks of a file counts":   {"*.log\n!sub/b.log", "a.log"},
		"a question mark and a class are one letter":      {"[ab].??g", "a.log sub/b.log"},
		"a class may say what is not in it":               {"[!a].log", "sub/b.log"},
		"remarks, empty lines and blanks at the end":      {"# *.py\n\n*.log  \n", "a.log sub/b.log"},
		"letters beyond ASCII":                            {"ü*", "ü.txt"},
		"a backslash takes the next letter as it is":      {`\*.log`, ""},
		"what is no pattern is passed over":               {"[z-a]\n*.log", "a.log sub/b.log"},
		"a dot is a dot, and a plus a plus":               {"a+py\naxlog", ""},
		"a slash alone is nothing":                        {"/\n*.log", "a.log sub/b.log"},
		"line ends of another system":                     {"*.log\r\n*.txt\r\n", "a.log sub/b.log ü.txt"},
		"nothing comes back of a folder that is not read": {"sub/\n", "sub/b.log sub/b.py sub/build/y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, all)
			if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(c.ignore), 0o600); err != nil {
				t.Fatal(err)
			}
			got := names(t, dir)
			var gone []string
			for file := range all {
				if !slices.Contains(got, file) {
					gone = append(gone, file)
				}
			}
			slices.Sort(gone)
			if strings.Join(gone, " ") != c.gone {
				t.Errorf("%q leaves out %v, want %s", c.ignore, gone, c.gone)
			}
		})
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"a": "12", "d/b": "3", ".gitignore": "*", ".amlignore": "d/"})
	if got := names(t, dir); !slices.Equal(got, []string{".amlignore", ".gitignore", "a"}) {
		t.Errorf(".amlignore goes before .gitignore: %v", got)
	}
	for link, to := range map[string]string{"loop": dir, "nowhere": "/no/such", "other": filepath.Join(dir, "d")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{".amlignore", ".gitignore", "a", "other/b"}) {
		t.Errorf("links are followed, and end: %v", got)
	}
	one, err := upload.Read(filepath.Join(dir, "a"))
	if err != nil || !one.IsFile || one.Bytes() != 2 || one.Files[0].Name != "a" {
		t.Errorf("one file: %+v, %v", one, err)
	}
	if _, err := upload.Read(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("what is not there: %v", err)
	}
	empty := folder(t, map[string]string{".gitignore": "*"})
	if _, err := upload.Read(empty); err == nil || !strings.Contains(err.Error(), ".gitignore leaves none") {
		t.Errorf("an empty folder: %v", err)
	}
}
