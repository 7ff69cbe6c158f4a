package assets_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/app/apptest"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

var (
	me    = access.Principal{ID: "oid", Kind: access.Application}
	place = assets.Place{ID: "/subscriptions/0/resourceGroups/ebb/providers/Microsoft.MachineLearningServices/workspaces/Main", GUID: "22222222-2222-2222-2222-222222222222"}
)

// files is a blob store in memory.
type files struct {
	mu    sync.Mutex
	blobs map[string][]byte
}

func (f *files) Size(_ context.Context, key string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.blobs[key]
	if !ok {
		return 0, fault.New(fault.NotFound, key, "There is no such blob.")
	}
	return int64(len(b)), nil
}

func (f *files) Put(_ context.Context, key string, body io.Reader, _ string) (int64, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[key] = b
	return int64(len(b)), nil
}

func (f *files) Open(_ context.Context, key string, off, n int64) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.blobs[key]
	if !ok {
		return nil, fault.New(fault.NotFound, key, "There is no such blob.")
	}
	if b = b[off:]; n >= 0 {
		b = b[:n]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (f *files) List(_ context.Context, prefix string) ([]assets.Blob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []assets.Blob
	for _, key := range slices.Sorted(maps.Keys(f.blobs)) {
		if strings.HasPrefix(key, prefix) {
			out = append(out, assets.Blob{Key: key, Size: int64(len(f.blobs[key])), Written: "w" + string(f.blobs[key])})
		}
	}
	return out, nil
}

func service() (*assets.Service, *apptest.Store, *files) {
	store, blobs := &apptest.Store{}, &files{blobs: map[string][]byte{}}
	var mu sync.Mutex
	n := 0
	id := func() string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return guid(n)
	}
	return &assets.Service{Store: store, Files: blobs, Now: func() time.Time { return time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC) }, NewID: id}, store, blobs
}

func guid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func file(name, hash string) assets.Node { return assets.Node{Name: name, Type: "File", Hash: hash} }

func folder(name string, children ...assets.Node) assets.Node {
	return assets.Node{Name: name, Type: "Directory", Children: children}
}

// upload puts a file as the client does and says so.
func upload(s *assets.Service, blobs *files, path, content string) assets.Uploaded {
	slot := s.Slots(place, []string{path})[0]
	blobs.blobs[slot.Container+"/"+slot.Blob] = []byte(content)
	return assets.Uploaded{Path: path, Container: slot.Container, Blob: slot.Blob, Size: int64(len(content))}
}

func TestSnapshotsAreIncremental(t *testing.T) {
	t.Parallel()
	s, _, blobs := service()
	first := assets.NewSnapshot{GUID: guid(1001), Parent: assets.NoSnapshot, Root: folder("", file("a.py", "ha"), folder("lib", file("b.py", "hb"))),
		Uploaded: []assets.Uploaded{upload(s, blobs, "a.py", "aaa"), upload(s, blobs, "lib/b.py", "bb")}}
	for range 2 { // the client repeats what it got no answer to
		if err := s.CreateSnapshot(t.Context(), me, place, first); err != nil {
			t.Fatal(err)
		}
	}
	second := assets.NewSnapshot{GUID: guid(1002), Parent: guid(1001), Root: folder("", file("c.py", "hc"), folder("lib", file("b.py", "hb"))),
		Uploaded: []assets.Uploaded{upload(s, blobs, "c.py", "cccc")}}
	if err := s.CreateSnapshot(t.Context(), me, place, second); err != nil {
		t.Fatal(err)
	}
	list, err := s.FilesOf(t.Context(), strings.ToLower(place.ID)+"/snapshots/"+guid(1002))
	if err != nil || len(list) != 2 || list[0].Path != "c.py" || list[1].Path != "lib/b.py" || string(blobs.blobs[list[1].Key]) != "bb" || list[1].Size != 2 {
		t.Errorf("files of the second: %+v, %v", list, err)
	}
	snap, err := s.Snapshot(t.Context(), place, guid(1002))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := s.WriteZip(t.Context(), snap, &archive); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
	if err != nil || len(z.File) != 2 {
		t.Fatalf("zip: %v", err)
	}
	if b, err := fs.ReadFile(z, "lib/b.py"); err != nil || string(b) != "bb" {
		t.Errorf("lib/b.py in the zip: %q, %v", b, err)
	}
	first.Root = folder("", file("a.py", "other"))
	first.Uploaded = []assets.Uploaded{upload(s, blobs, "a.py", "x")}
	if err := s.CreateSnapshot(t.Context(), me, place, first); !errors.Is(err, fault.Conflict) {
		t.Errorf("another tree under the same guid: %v", err)
	}
}

func TestHostileSnapshotsChangeNothing(t *testing.T) {
	t.Parallel()
	deep := file("f", "")
	for range 70 {
		deep = folder("d", deep)
	}
	for name, c := range map[string]struct {
		root assets.Node
		sent func(*assets.Service, *files) []assets.Uploaded // nil: the file a
		guid string
		from string
	}{
		"a name that climbs":             {root: folder("", file("..", ""))},
		"a name with a slash":            {root: folder("", file("../../etc/passwd", ""))},
		"an absolute name":               {root: folder("", file("/etc/passwd", ""))},
		"a backslash":                    {root: folder("", file(`..\a`, ""))},
		"a NUL":                          {root: folder("", file("a\x00b", ""))},
		"a newline":                      {root: folder("", file("a\nb", ""))},
		"an empty name":                  {root: folder("", file("", ""))},
		"a dot":                          {root: folder("", folder(".", file("a", "")))},
		"a name that is too long":        {root: folder("", file(strings.Repeat("a", 256), ""))},
		"a link":                         {root: folder("", assets.Node{Name: "a", Type: "SymbolicLink"})},
		"a type that is none":            {root: folder("", assets.Node{Name: "a"})},
		"a name twice":                   {root: folder("", file("a", ""), file("a", ""))},
		"a file with children":           {root: folder("", assets.Node{Name: "a", Type: "File", Children: assets.Nodes{file("b", "")}})},
		"a root that is a file":          {root: file("a", "")},
		"folders nested too deep":        {root: folder("", deep)},
		"a file that was not sent":       {root: folder("", file("a", ""), file("b", ""))},
		"a file that is not in the tree": {root: folder("")},
		"a parent that is not there":     {root: folder("", file("a", "")), from: guid(77)},
		"an id that is no guid":          {root: folder("", file("a", "")), guid: "../x"},
		"the guid of no snapshot":        {root: folder("", file("a", "")), guid: assets.NoSnapshot},
		"a blob that was not put": {root: folder("", file("a", "")), sent: func(s *assets.Service, b *files) []assets.Uploaded {
			u := upload(s, b, "a", "x")
			u.Blob = "none"
			return []assets.Uploaded{u}
		}},
		"a size that is not the blob's": {root: folder("", file("a", "")), sent: func(s *assets.Service, b *files) []assets.Uploaded {
			u := upload(s, b, "a", "x")
			u.Size = 9
			return []assets.Uploaded{u}
		}},
		"a blob of another container": {root: folder("", file("a", "")), sent: func(s *assets.Service, b *files) []assets.Uploaded {
			u := upload(s, b, "a", "x")
			b.blobs["logs-x/"+u.Blob] = []byte("x")
			u.Container = "logs-x"
			return []assets.Uploaded{u}
		}},
		"a blob name that climbs": {root: folder("", file("a", "")), sent: func(s *assets.Service, b *files) []assets.Uploaded {
			u := upload(s, b, "a", "x")
			u.Blob = "../logs-x/" + u.Blob
			return []assets.Uploaded{u}
		}},
		"a file listed twice": {root: folder("", file("a", "")), sent: func(s *assets.Service, b *files) []assets.Uploaded {
			return []assets.Uploaded{upload(s, b, "a", "x"), upload(s, b, "a", "y")}
		}},
		"a path that climbs in what was sent": {root: folder("", file("a", "")), sent: func(s *assets.Service, b *files) []assets.Uploaded {
			return []assets.Uploaded{upload(s, b, "../a", "x")}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, store, blobs := service()
			in := assets.NewSnapshot{GUID: c.guid, Parent: c.from, Root: c.root}
			if in.GUID == "" {
				in.GUID = guid(1001)
			}
			if in.Uploaded = []assets.Uploaded{upload(s, blobs, "a", "x")}; c.sent != nil {
				in.Uploaded = c.sent(s, blobs)
			}
			err := s.CreateSnapshot(t.Context(), me, place, in)
			if !errors.Is(err, fault.Invalid) {
				t.Errorf("CreateSnapshot = %v, want invalid", err)
			}
			if n := len(store.Rows(row.Snapshot)) + len(store.Rows(row.Event)); n != 0 {
				t.Errorf("%d rows were written", n)
			}
		})
	}
}

func TestParentOfAnotherVersion(t *testing.T) {
	t.Parallel()
	s, _, blobs := service()
	first := assets.NewSnapshot{GUID: guid(1001), Root: folder("", file("a", "h1")), Uploaded: []assets.Uploaded{upload(s, blobs, "a", "x")}}
	if err := s.CreateSnapshot(t.Context(), me, place, first); err != nil {
		t.Fatal(err)
	}
	second := assets.NewSnapshot{GUID: guid(1002), Parent: guid(1001), Root: folder("", file("a", "h2"))}
	if err := s.CreateSnapshot(t.Context(), me, place, second); !errors.Is(err, fault.Invalid) {
		t.Errorf("a changed file that was not sent: %v, want invalid", err)
	}
	other := place
	other.ID = strings.Replace(place.ID, "Main", "Other", 1)
	third := assets.NewSnapshot{GUID: guid(1003), Parent: guid(1001), Root: folder("", file("a", "h1"))}
	if err := s.CreateSnapshot(t.Context(), me, other, third); !errors.Is(err, fault.Invalid) {
		t.Errorf("a parent in another workspace: %v, want invalid", err)
	}
}

func TestTreesInBothForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want int // children; -1: refused
	}{
		"an object by name":      {`{"name":"","type":"Directory","children":{"a":{"name":"a","type":"File","children":{}},"b":{"name":"b","type":"File","children":{}}}}`, 2},
		"a list":                 {`{"name":"","type":"Directory","children":[{"name":"a","type":"File","children":[]}]}`, 1},
		"a name twice is kept":   {`{"children":{"a":{"name":"a"},"a":{"name":"a"}}}`, 2},
		"a name that is another": {`{"children":{"a":{"name":"b"}}}`, -1},
		"children that are text": {`{"children":"a"}`, -1},
		"no children":            {`{"children":null}`, 0},
		"a node that is null":    {`{"children":{"a":null}}`, 1},
		"a node that is a list":  {`{"children":{"a":[]}}`, -1},
		"words of no meaning":    {`{"more":{"children":[1]},"Children":[{"NAME":"a"}]}`, 1},
		"as deep as may be":      {nested(64, ""), 1},
		"deeper than may be":     {nested(65, ""), -1},
	} {
		var n assets.Node
		err := json.Unmarshal([]byte(c.text), &n)
		if c.want < 0 && err == nil || c.want >= 0 && (err != nil || len(n.Children) != c.want) {
			t.Errorf("%s: %d children, %v", name, len(n.Children), err)
		}
	}
}

// nested is a tree of so many folders in each other, and of a file whose hash is text.
func nested(folders int, text string) string {
	return strings.Repeat(`{"children":{"a":`, folders) + `{"name":"a","hash":"` + text + `"}` + strings.Repeat(`}}`, folders)
}

// TestTreesTakeNoMoreThanTheyHold is alone: it counts the memory of the process.
func TestTreesTakeNoMoreThanTheyHold(t *testing.T) {
	const size = 1 << 20
	text := []byte(nested(60, strings.Repeat("x", size)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var n assets.Node
	if err := json.Unmarshal(text, &n); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16*size {
		t.Errorf("a tree of %d bytes took %d", len(text), took)
	}
}

// archive makes a zip whose entries have any names and modes.
func archive(t *testing.T, entries ...zip.FileHeader) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range entries {
		w, err := z.CreateHeader(&entries[i])
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(entries[i].Name, "/") {
			continue
		}
		if _, err := w.Write([]byte(strings.Repeat("x", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func plain(name string) zip.FileHeader { return zip.FileHeader{Name: name, Method: zip.Deflate} }

func TestImportZip(t *testing.T) {
	t.Parallel()
	s, _, blobs := service()
	text := archive(t, plain("lib/"), plain("lib/b.py"), plain("a.py"))
	for range 2 {
		if err := s.ImportZip(t.Context(), me, place, guid(1001), bytes.NewReader(text), int64(len(text)), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := s.Snapshot(t.Context(), place, guid(1001))
	if err != nil || len(snap.Files) != 2 || snap.Files[0].Path != "lib/b.py" || len(blobs.blobs[snap.Files[0].Key]) != 1000 {
		t.Errorf("snapshot: %+v, %v", snap.Files, err)
	}
}

func TestHostileZipsChangeNothing(t *testing.T) {
	t.Parallel()
	link := plain("link")
	link.SetMode(fs.ModeSymlink | 0o777)
	device := plain("device")
	device.SetMode(fs.ModeDevice | 0o666)
	for name, text := range map[string][]byte{
		"a path that climbs":       archive(t, plain("../evil")),
		"a path that climbs later": archive(t, plain("a/../../evil")),
		"an absolute path":         archive(t, plain("/etc/passwd")),
		"a backslash":              archive(t, plain(`..\evil`)),
		"a link":                   archive(t, link),
		"a device":                 archive(t, device),
		"a file twice":             archive(t, plain("a"), plain("a")),
		"a file that is a folder":  archive(t, plain("a"), plain("a/b")),
		"more than is allowed":     archive(t, plain("a"), plain("b"), plain("c")),
		"no zip":                   []byte("hello"),
		"half a zip":               archive(t, plain("a"))[:80],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, store, _ := service()
			err := s.ImportZip(t.Context(), me, place, guid(1001), bytes.NewReader(text), int64(len(text)), 2500)
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLarge {
				t.Errorf("ImportZip = %v, want a refusal", err)
			}
			if n := len(store.Rows(row.Snapshot)); n != 0 {
				t.Errorf("%d snapshots were made", n)
			}
		})
	}
}

func TestArtifacts(t *testing.T) {
	t.Parallel()
	s, _, blobs := service()
	made, refused, err := s.CreateArtifacts(t.Context(), me, place, "dcid.j", []string{"outputs/a.txt", "outputs/A.txt", "outputs/with space.txt"})
	if err != nil || len(made) != 3 || len(refused) != 0 {
		t.Fatalf("CreateArtifacts: %+v, %v, %v", made, refused, err)
	}
	if want := "azureml-" + place.GUID + "/ExperimentRun/dcid.j/outputs/a.txt"; made[0].Key != want {
		t.Errorf("key %q, want %q", made[0].Key, want)
	}
	if want := "azureml-" + place.GUID + "/ExperimentRun/dcid.j/outputs/with space.txt"; made[2].Key != want {
		t.Errorf("the key %q is not what a list of the folder should show: %q", made[2].Key, want)
	}
	if key := assets.ArtifactKey(place, "dcid.j", strings.Repeat("é/", 510)); len(key) > 1024 {
		t.Errorf("the key of a path that is too long for a blob has %d bytes", len(key))
	}
	if _, refused, err = s.CreateArtifacts(t.Context(), me, place, "dcid.j", []string{"outputs/a.txt"}); err != nil || len(refused) != 0 {
		t.Errorf("again, before its bytes came: %v, %v", refused, err)
	}
	blobs.blobs[made[0].Key] = []byte("x")
	if _, refused, err = s.CreateArtifacts(t.Context(), me, place, "dcid.j", []string{"outputs/a.txt"}); err != nil || len(refused) != 1 {
		t.Errorf("again, after its bytes came: %v, %v", refused, err)
	}
	if err := s.Record(t.Context(), me, place, "dcid.j", "outputs/a.txt", "logs/b.txt"); err != nil {
		t.Error(err)
	}
	for prefix, want := range map[string]int{"": 4, "outputs": 3, "logs/": 1, "user_logs": 0} {
		if list, next, err := s.Artifacts(t.Context(), place, "dcid.j", prefix, ""); err != nil || len(list) != want || next != "" {
			t.Errorf("prefix %q: %d, %q, %v", prefix, len(list), next, err)
		}
	}
	if list, _, err := s.Artifacts(t.Context(), place, "dcid.j2", "", ""); err != nil || len(list) != 0 {
		t.Errorf("another run's: %d, %v", len(list), err)
	}
	for _, bad := range []string{"../a", "a/../b", "a//b", "", "a\\b", "a\x00"} {
		if _, _, err := s.CreateArtifacts(t.Context(), me, place, "dcid.j", []string{bad}); !errors.Is(err, fault.Invalid) {
			t.Errorf("path %q: %v, want invalid", bad, err)
		}
	}
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	define := func(image string) map[string]any {
		return map[string]any{"Name": "env", "Docker": map[string]any{"baseImage": image, "n": json.Number("1")}, "python": map[string]any{}}
	}
	for i, step := range []struct{ version, image, want string }{
		{"", "a", "1"}, {"", "a", "1"}, {"", "b", "2"}, {"", "a", "3"}, {"7", "c", "7"}, {"7", "c", "7"}, {"", "d", "8"}, {"rc", "e", "rc"}, {"", "f", "9"},
	} {
		env, err := s.Register(t.Context(), me, place, "env", step.version, define(step.image))
		if err != nil || env["version"] != step.want || env["name"] != "env" {
			t.Fatalf("step %d: version %v, %v; want %s", i, env["version"], err, step.want)
		}
		if _, capital := env["Docker"]; capital || env["docker"] == nil {
			t.Errorf("step %d: keys are not those that the client reads: %v", i, env)
		}
	}
	if _, err := s.Register(t.Context(), me, place, "env", "7", define("z")); !errors.Is(err, fault.Conflict) {
		t.Errorf("another version 7: %v", err)
	}
	if env, err := s.Environment(t.Context(), place, "ENV", ""); err != nil || env["version"] != "9" {
		t.Errorf("the newest: %v, %v", env, err)
	}
	if env, err := s.Environment(t.Context(), place, "env", "2"); err != nil || env["docker"].(map[string]any)["baseImage"] != "b" {
		t.Errorf("version 2: %v, %v", env, err)
	}
	if list, _, err := s.Environments(t.Context(), place, ""); err != nil || len(list) != 1 || list[0]["version"] != "9" {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, _, err := s.Versions(t.Context(), place, "env", ""); err != nil || len(list) != 7 {
		t.Errorf("versions: %d, %v", len(list), err)
	}
	for _, id := range []string{"none", "en"} {
		if _, err := s.Environment(t.Context(), place, id, ""); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: %v, want not found", id, err)
		}
	}
	if _, err := s.Register(t.Context(), me, place, "a/b", "", define("x")); !errors.Is(err, fault.Invalid) {
		t.Errorf("a name with a slash: %v", err)
	}
	inside := access.Principal{Kind: access.RunIdentity}
	if _, err := s.Register(t.Context(), inside, place, "env", "", define("x")); !errors.Is(err, fault.Forbidden) {
		t.Errorf("from inside a run: %v", err)
	}
}

func TestEnvironmentsKeepNumbersThatNoFloatHolds(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	for range 2 { // again: the same version
		definition := map[string]any{"python": map[string]any{"odd": json.Number("1e999")}}
		if env, err := s.Register(t.Context(), me, place, "env", "", definition); err != nil || env["version"] != "1" {
			t.Fatalf("register: %v, %v", env, err)
		}
	}
	if env, err := s.Environment(t.Context(), place, "env", ""); err != nil || env["python"].(map[string]any)["odd"] != json.Number("1e999") {
		t.Errorf("get: %v, %v", env, err)
	}
	if list, _, err := s.Versions(t.Context(), place, "env", ""); err != nil || len(list) != 1 {
		t.Errorf("versions: %v, %v", list, err)
	}
	props := map[string]any{"image": "x", "odd": json.Number("-1e999")}
	if _, _, err := s.PutVersion(t.Context(), me, place, assets.Environments, "arm", "1", props); err != nil {
		t.Fatalf("put by ARM: %v", err)
	}
	if _, _, err := s.PutName(t.Context(), me, place, assets.Environments, "arm", map[string]any{"odd": json.Number("-1e999")}); err != nil {
		t.Fatalf("put the name by ARM: %v", err)
	}
	if list, _, err := s.Environments(t.Context(), place, ""); err != nil || len(list) != 2 {
		t.Errorf("list: %v, %v", list, err)
	}
}

func TestEnvironmentsOfRunsAreKept(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	inline := func(image string) map[string]any {
		return map[string]any{"name": "env", "version": nil, "docker": map[string]any{"baseImage": image}}
	}
	keep := func(image, named string) string {
		t.Helper()
		v, err := s.VersionOf(t.Context(), place, "env", named, inline(image))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Autosave(t.Context(), me, place, "env", v, inline(image)); err != nil {
			t.Fatal(err)
		}
		env, err := s.Environment(t.Context(), place, "env", v)
		if err != nil || env["version"] != v || env["docker"].(map[string]any)["baseImage"] != image {
			t.Fatalf("version %q of %s: %v, %v", v, image, env, err)
		}
		return v
	}
	newest := func(want string) {
		t.Helper()
		if env, err := s.Environment(t.Context(), place, "env", ""); err != nil || env["version"] != want {
			t.Errorf("the newest is %v, %v; want %s", env["version"], err, want)
		}
	}
	a := keep("a", "")
	newest(a)
	if again := keep("a", ""); again != a {
		t.Errorf("the same definition is %s and %s", a, again)
	}
	b := keep("b", "1") // made from a version that nobody has
	if a == b {
		t.Errorf("two definitions are one version, %s", a)
	}
	newest(b)
	for _, image := range []string{"b", "c"} {
		if _, err := s.Register(t.Context(), me, place, "env", "", inline(image)); err != nil {
			t.Fatal(err)
		}
	}
	newest("2")
	if got := keep("c", ""); got != "2" {
		t.Errorf("what is registered is used as %s, want 2", got)
	}
	if got := keep("b", "1"); got != "1" {
		t.Errorf("version 1 is used as %s", got)
	}
	if got := keep("a", "1"); got != a {
		t.Errorf("a changed version 1 is used as %s, want %s", got, a)
	}
	newest("2")
	if v, err := s.VersionOf(t.Context(), place, "no/name", "", inline("a")); v != "" || err != nil {
		t.Errorf("a name that no environment can have: %q, %v", v, err)
	}
}

func TestEnvironmentVersionsRace(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[any]bool{}
	for i := range 8 {
		wg.Go(func() {
			env, err := s.Register(t.Context(), me, place, "env", "", map[string]any{"n": i})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[env["version"]] {
				t.Errorf("version %v was given twice", env["version"])
			}
			seen[env["version"]] = true
		})
	}
	wg.Wait()
	if !seen["8"] {
		t.Errorf("versions given: %v", seen)
	}
}

func TestCleanPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"a/b.txt": "a/b.txt", "/a/": "a", "./a": "a", ".//./a/b": "a/b", ".a": ".a"} {
		if got, err := assets.CleanPath(path); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"", ".", "./", "..", "./../a", "a/./b", "a//b", "../a"} {
		if got, err := assets.CleanPath(path); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q was taken as %q", path, got)
		}
	}
}
