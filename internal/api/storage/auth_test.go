package storage_test

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/api/storage"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

var account = armid.Account(workspace)

// owners are the accounts of a test: the workspace's, and a record.
type owners struct {
	generations [2]int
	remade      *atomic.Int32 // how often the record was made again; default: never
}

func (o owners) times() int32 {
	if o.remade == nil {
		return 0
	}
	return o.remade.Load()
}

// owned are the containers that the workspace came with.
func owned(name string) bool {
	return slices.Contains([]string{container, "azureml-blobstore-" + workspace, "snapshots-" + workspace, "snapshots-0123456789abcdef-" + workspace}, name)
}

func (o owners) Account(_ context.Context, name string) (storage.Account, error) {
	switch name {
	case account:
		return storage.Account{Unique: account, Scope: "/workspaces/ws", Containers: []string{container}, Generations: o.generations, Owns: owned}, nil
	case "record":
		return storage.Account{Unique: fmt.Sprint("record@", 1+o.times()), Scope: "/storageaccounts/record"}, nil
	}
	return storage.Account{}, fault.New(fault.NotFound, name, "no such account")
}

// bearers are the tokens of a test.
func bearers(tok string) (access.Principal, error) {
	switch tok {
	case "user":
		return access.Principal{ID: "oid", Tenant: "tid", Kind: access.User}, nil
	case "run":
		return access.Principal{ID: "run", Kind: access.RunIdentity, Scope: "/workspaces/ws"}, nil
	}
	return access.Principal{}, fault.Coded(fault.Unauthorized, "InvalidAuthenticationToken", "", "The access token is invalid.")
}

// newAccounts is a site whose accounts have keys and take tokens.
func newAccounts(t *testing.T, o owners) *site {
	t.Helper()
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(storage.Handler(storage.Service{Blobs: blobs, Keys: keys, Accounts: o, Bearer: bearers, Tenant: "tid", Now: func() time.Time { return now }}))
	t.Cleanup(func() { srv.Close(); _ = blobs.Close() })
	return &site{t, keys, srv}
}

const bearer = "Authorization"

func TestBearerTokens(t *testing.T) {
	t.Parallel()
	s := newAccounts(t, owners{})
	if a := s.send("PUT", "/"+container+"/a", "x", bearer, "Bearer user", "x-ms-blob-type", "BlockBlob"); a.status != 201 {
		t.Fatalf("%+v", a)
	}
	for name, tt := range map[string]struct {
		path, auth string
		status     int
		code       string
	}{
		"a user's":                               {"/" + container + "/a", "Bearer user", 200, ""},
		"a run's, in its workspace":              {"/" + container + "/a", "Bearer run", 200, ""},
		"a run's, elsewhere":                     {"/record/box/a", "Bearer run", 403, "AuthorizationPermissionMismatch"},
		"a user's, elsewhere":                    {"/record/box/a", "Bearer user", 404, "ContainerNotFound"},
		"a user's, in an account that is none":   {"/nobody/box/a", "Bearer user", 404, "ResourceNotFound"},
		"one that is none":                       {"/" + container + "/a", "Bearer x", 401, "InvalidAuthenticationInfo"},
		"of another scheme":                      {"/" + container + "/a", "Basic x", 400, "InvalidAuthenticationInfo"},
		"a user's, for logs, which are not here": {"/logs-" + workspace + "/a", "Bearer user", 404, "ContainerNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.send("GET", tt.path, "", bearer, tt.auth)
			if a.status != tt.status || a.code() != tt.code {
				t.Errorf("%d %s, want %d %s", a.status, a.code(), tt.status, tt.code)
			}
			if says := a.header.Get("WWW-Authenticate"); (a.status == 401) != strings.Contains(says, "https://login.microsoftonline.com/tid/oauth2/authorize resource_id=https://storage.azure.com") {
				t.Errorf("WWW-Authenticate: %q", says)
			}
		})
	}
}

// TestRunsWriteToTheDatastoreAlone: what a job could put into code or into the files
// of other runs, others would run.
func TestRunsWriteToTheDatastoreAlone(t *testing.T) {
	t.Parallel()
	s := newAccounts(t, owners{})
	for _, box := range []string{"snapshots-" + workspace, "snapshots-0123456789abcdef-" + workspace, "azureml-" + workspace, "azureml-blobstore-" + workspace} {
		open := box == "azureml-blobstore-"+workspace
		put := []string{bearer, "Bearer user", "x-ms-blob-type", "BlockBlob"}
		if a := s.send("PUT", "/"+box+"/a", "x", put...); a.status != 201 {
			t.Fatalf("%+v", a)
		}
		put[1] = "Bearer run"
		for name, a := range map[string]answer{
			"put":         s.send("PUT", "/"+box+"/a", "y", put...),
			"put a block": s.send("PUT", "/"+box+"/a?comp=block&blockid=YQ==", "y", bearer, "Bearer run"),
			"copy":        s.send("PUT", "/"+box+"/b", "", bearer, "Bearer run", "x-ms-copy-source", s.srv.URL+"/"+box+"/a"),
			"metadata":    s.send("PUT", "/"+box+"/a?comp=metadata", "", bearer, "Bearer run"),
		} {
			if open != (a.status < 300) || !open && a.code() != "AuthorizationPermissionMismatch" {
				t.Errorf("%s in %s is answered %d %s", name, box, a.status, a.code())
			}
		}
		if a := s.send("GET", "/"+box+"/a", "", bearer, "Bearer run"); a.status != 200 || !open && a.body != "x" {
			t.Errorf("get in %s is answered %d %s", box, a.status, a.body)
		}
		if a := s.send("DELETE", "/"+box+"/a", "", bearer, "Bearer run"); open != (a.status == 202) {
			t.Errorf("delete in %s is answered %d %s", box, a.status, a.code())
		}
	}
}

// sign puts a shared key's signature on a request, as clients do.
func sign(r *http.Request, account, date, query string, key []byte) {
	r.Header.Set("x-ms-date", date)
	r.Header.Set("x-ms-version", "2021-08-06")
	text := r.Method + "\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" + date + "\nx-ms-version:2021-08-06\n/" + account + r.URL.EscapedPath() + query
	r.Header.Set("Authorization", "SharedKey "+account+":"+base64.StdEncoding.EncodeToString(token.MAC(key, text)))
}

func TestSharedKeys(t *testing.T) {
	t.Parallel()
	s := newAccounts(t, owners{generations: [2]int{0, 3}})
	if a := s.send("PUT", "/"+container+"/a%20b", "x", bearer, "Bearer user", "x-ms-blob-type", "BlockBlob"); a.status != 201 {
		t.Fatalf("%+v", a)
	}
	at := now.Format(http.TimeFormat)
	for name, tt := range map[string]struct {
		account, path, date string
		key                 []byte
		spoil               func(*http.Request)
		status              int
	}{
		"key 1":                      {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 1, 0), nil, 200},
		"key 2, made anew":           {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 2, 3), nil, 200},
		"key 2 before that":          {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 2, 2), nil, 403},
		"key 1 that is to come":      {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 1, 1), nil, 403},
		"the account in the path":    {account, "/" + account + "/" + container + "/a%20b", at, s.keys.SharedKey(account, 1, 0), nil, 200},
		"a record's":                 {"record", "/record/box/a", at, s.keys.SharedKey("record@1", 1, 0), nil, 404},
		"a record's before it":       {"record", "/record/box/a", at, s.keys.SharedKey("record@0", 1, 0), nil, 403},
		"another account's":          {account, "/record/box/a", at, s.keys.SharedKey(account, 1, 0), nil, 403},
		"nobody's":                   {"nobody", "/nobody/box/a", at, s.keys.SharedKey("nobody", 1, 0), nil, 404},
		"sixteen minutes ago":        {account, "/" + container + "/a%20b", now.Add(-16 * time.Minute).Format(http.TimeFormat), s.keys.SharedKey(account, 1, 0), nil, 403},
		"in sixteen minutes":         {account, "/" + container + "/a%20b", now.Add(16 * time.Minute).Format(http.TimeFormat), s.keys.SharedKey(account, 1, 0), nil, 403},
		"no date":                    {account, "/" + container + "/a%20b", "", s.keys.SharedKey(account, 1, 0), nil, 403},
		"a header added":             {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 1, 0), func(r *http.Request) { r.Header.Set("x-ms-lease-id", "x") }, 403},
		"a condition added":          {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 1, 0), func(r *http.Request) { r.Header.Set("If-Match", "x") }, 403},
		"a parameter added":          {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 1, 0), func(r *http.Request) { r.URL.RawQuery = "comp=metadata" }, 403},
		"another method":             {account, "/" + container + "/a%20b", at, s.keys.SharedKey(account, 1, 0), func(r *http.Request) { r.Method = "DELETE" }, 403},
		"a signature that is none":   {account, "/" + container + "/a%20b", at, nil, func(r *http.Request) { r.Header.Set("Authorization", "SharedKey "+account+":%%%") }, 403},
		"an account and nothing":     {account, "/" + container + "/a%20b", at, nil, func(r *http.Request) { r.Header.Set("Authorization", "SharedKey "+account) }, 403},
		"an account that is nothing": {account, "/" + container + "/a%20b", at, nil, func(r *http.Request) { r.Header.Set("Authorization", "SharedKey :") }, 403},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), "GET", s.srv.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			sign(r, tt.account, tt.date, "", tt.key)
			if tt.spoil != nil {
				tt.spoil(r)
			}
			resp, err := s.srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("%d %s, want %d", resp.StatusCode, resp.Header.Get("x-ms-error-code"), tt.status)
			}
		})
	}
}

// The account is said by the shared key alone where neither host nor path say it.
func TestASharedKeySaysTheAccount(t *testing.T) {
	t.Parallel()
	s := newAccounts(t, owners{})
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.srv.URL+"/?comp=list", nil)
	if err != nil {
		t.Fatal(err)
	}
	sign(r, account, now.Format(http.TimeFormat), "\ncomp:list", s.keys.SharedKey(account, 1, 0))
	if !storage.Matches(r) {
		t.Error("it is not taken for the Blob service's")
	}
	resp, err := s.srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct {
		Containers struct{ Container []struct{ Name string } }
	}
	if err := xml.NewDecoder(resp.Body).Decode(&doc); err != nil || len(doc.Containers.Container) != 1 || doc.Containers.Container[0].Name != container {
		t.Errorf("%+v, %v", doc, err)
	}
}

// delegated asks for a user delegation key and signs with it, as clients do.
func (s *site) delegated(sr, depth, path string, change ...string) url.Values {
	s.t.Helper()
	return s.delegatedIn(account, container, sr, depth, path, change...)
}

func (s *site) delegatedIn(account, container, sr, depth, path string, change ...string) url.Values {
	s.t.Helper()
	a := s.send("POST", "/"+account+"/?restype=service&comp=userdelegationkey", "<KeyInfo><Start>"+now.Format(time.RFC3339)+"</Start><Expiry>"+now.Add(time.Hour).Format(time.RFC3339)+"</Expiry></KeyInfo>", bearer, "Bearer user")
	var key struct {
		SignedOid, SignedTid, SignedStart, SignedExpiry, SignedService, SignedVersion string
		Value                                                                         string
	}
	if err := xml.Unmarshal([]byte(a.body), &key); err != nil || a.status != 200 || key.SignedOid != "oid" {
		s.t.Fatalf("%+v, %v", a, err)
	}
	q := url.Values{"sp": {"r"}, "se": {now.Add(time.Hour).Format("2006-01-02T15:04:05Z")}, "sv": {"2022-11-02"}, "sr": {sr}, "skoid": {key.SignedOid}, "sktid": {key.SignedTid},
		"skt": {key.SignedStart}, "ske": {key.SignedExpiry}, "sks": {key.SignedService}, "skv": {key.SignedVersion}}
	if depth != "" {
		q.Set("sdd", depth)
	}
	for i := 0; i < len(change); i += 2 {
		q.Set(change[i], change[i+1])
	}
	g := q.Get
	text := strings.Join([]string{g("sp"), g("st"), g("se"), "/blob/" + account + "/" + container + path, g("skoid"), g("sktid"), g("skt"), g("ske"), g("sks"), g("skv"), "", "", "", g("sip"), g("spr"), g("sv"), g("sr"), "", "", "", "", "", "", ""}, "\n")
	raw, err := base64.StdEncoding.DecodeString(key.Value)
	if err != nil {
		s.t.Fatal(err)
	}
	q.Set("sig", base64.StdEncoding.EncodeToString(token.MAC(raw, text)))
	return q
}

// TestADelegationEndsWithItsAccount: who had a user delegation key of an account has
// none of the next account of its name.
func TestADelegationEndsWithItsAccount(t *testing.T) {
	t.Parallel()
	var remade atomic.Int32
	s := newAccounts(t, owners{remade: &remade})
	furnish := func() {
		t.Helper()
		for _, path := range []string{"/record/box?restype=container", "/record/box/a"} {
			if a := s.send("PUT", path, "x", bearer, "Bearer user", "x-ms-blob-type", "BlockBlob"); a.status != 201 {
				t.Fatalf("%s: %+v", path, a)
			}
		}
	}
	furnish()
	q := s.delegatedIn("record", "box", "c", "", "")
	if a := s.send("GET", "/record/box/a?"+q.Encode(), ""); a.status != 200 {
		t.Fatalf("before: %+v", a)
	}
	remade.Add(1)
	furnish()
	if a := s.send("GET", "/record/box/a?"+q.Encode(), ""); a.code() != "AuthenticationFailed" {
		t.Errorf("in the next account of that name: %d %s", a.status, a.code())
	}
	if a := s.send("GET", "/record/box/a?"+s.delegatedIn("record", "box", "c", "", "").Encode(), ""); a.status != 200 {
		t.Errorf("with a key of its own: %d %s", a.status, a.code())
	}
}

func TestUserDelegations(t *testing.T) {
	t.Parallel()
	s := newAccounts(t, owners{})
	for _, name := range []string{"d/e/a", "d/b", "da"} {
		if a := s.send("PUT", "/"+container+"/"+name, "x", bearer, "Bearer user", "x-ms-blob-type", "BlockBlob"); a.status != 201 {
			t.Fatalf("%+v", a)
		}
	}
	for name, tt := range map[string]struct {
		q      url.Values
		blob   string
		status int
	}{
		"a container's":                  {s.delegated("c", "", ""), "da", 200},
		"a blob's":                       {s.delegated("b", "", "/d/b"), "d/b", 200},
		"a blob's for another":           {s.delegated("b", "", "/d/b"), "da", 403},
		"a folder's":                     {s.delegated("d", "1", "/d"), "d/e/a", 200},
		"a folder's, right in it":        {s.delegated("d", "1", "/d"), "d/b", 200},
		"a folder's, beside it":          {s.delegated("d", "1", "/d"), "da", 403},
		"a folder's of another depth":    {s.delegated("d", "2", "/d"), "d/e/a", 403},
		"a folder's of no depth":         {s.delegated("d", "x", "/d"), "d/e/a", 403},
		"a deeper folder's":              {s.delegated("d", "2", "/d/e"), "d/e/a", 200},
		"a deeper folder's, above":       {s.delegated("d", "2", "/d/e"), "d/b", 403},
		"of somebody else":               {s.delegated("c", "", "", "skoid", "somebody"), "da", 403},
		"with a key that lasts longer":   {s.delegated("c", "", "", "ske", "2099-01-01T00:00:00Z"), "da", 403},
		"of a queue's key":               {s.delegated("c", "", "", "sks", "q"), "da", 403},
		"expired itself":                 {s.delegated("c", "", "", "se", "2020-01-01T00:00:00Z"), "da", 403},
		"what it does not permit":        {s.delegated("c", "", "", "sp", "w"), "da", 403},
		"what it permits after a change": {s.delegated("c", "", "", "sp", "rl"), "da", 200},
	} {
		t.Run(name, func(t *testing.T) {
			if a := s.send("GET", "/"+container+"/"+tt.blob+"?"+tt.q.Encode(), ""); a.status != tt.status {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
	for name, tt := range map[string]struct{ auth, body, code string }{
		"a run gets no key":       {"Bearer run", "", "AuthorizationPermissionMismatch"},
		"no body":                 {"Bearer user", "", "InvalidXmlNodeValue"},
		"no XML":                  {"Bearer user", "{}", "InvalidXmlDocument"},
		"an expiry long after":    {"Bearer user", "<KeyInfo><Expiry>2099-01-01T00:00:00Z</Expiry></KeyInfo>", "InvalidXmlNodeValue"},
		"an expiry that is over":  {"Bearer user", "<KeyInfo><Expiry>2001-01-01T00:00:00Z</Expiry></KeyInfo>", "InvalidXmlNodeValue"},
		"a start after it":        {"Bearer user", "<KeyInfo><Start>2027-01-01T00:00:00Z</Start><Expiry>" + now.Add(time.Hour).Format(time.RFC3339) + "</Expiry></KeyInfo>", "InvalidXmlNodeValue"},
		"a shared key is no user": {fmt.Sprintf("SharedKey %s:AAAA", account), "", "AuthenticationFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			if a := s.send("POST", "/"+account+"/?restype=service&comp=userdelegationkey", tt.body, bearer, tt.auth); a.code() != tt.code {
				t.Errorf("%d %s, want %s", a.status, a.code(), tt.code)
			}
		})
	}
}

func TestContainersComeAndGo(t *testing.T) {
	t.Parallel()
	s := newAccounts(t, owners{})
	as := func(method, target, content string, headers ...string) answer {
		return s.send(method, target, content, append([]string{bearer, "Bearer user"}, headers...)...)
	}
	box := "/" + account + "/box"
	if a := as("PUT", box+"?restype=container", ""); a.status != 201 {
		t.Fatalf("%+v", a)
	}
	for i := range 3 {
		if a := as("PUT", fmt.Sprintf("%s/%d", box, i), "old", "x-ms-blob-type", "BlockBlob"); a.status != 201 {
			t.Fatalf("%+v", a)
		}
	}
	if a := as("PUT", box+"/staged?comp=block&blockid="+url.QueryEscape(id(1)), "old"); a.status != 201 {
		t.Fatalf("%+v", a)
	}
	if a := s.send("GET", "/record/box/0", "", bearer, "Bearer user"); a.code() != "ContainerNotFound" {
		t.Errorf("another account's container of the same name: %+v", a)
	}
	if a := as("DELETE", box+"?restype=container", ""); a.status != 202 {
		t.Fatalf("%+v", a)
	}
	if a := as("GET", box+"/0", ""); a.code() != "ContainerNotFound" {
		t.Errorf("after the deletion: %+v", a)
	}
	if a := as("PUT", box+"?restype=container", ""); a.status != 201 {
		t.Fatalf("%+v", a)
	}
	if a := as("GET", box+"/0", ""); a.code() != "BlobNotFound" {
		t.Errorf("an old blob in the new container: %+v", a)
	}
	if a := as("PUT", box+"/staged?comp=blocklist", blockList("Latest", id(1))); a.code() != "InvalidBlockList" {
		t.Errorf("an old block in the new container: %+v", a)
	}
	// A name that looks like one of a workspace's own is none.
	stray := "/" + account + "/x-" + workspace
	if a := as("PUT", stray+"/a", "x", "x-ms-blob-type", "BlockBlob"); a.code() != "ContainerNotFound" {
		t.Errorf("a blob in a container that nobody made: %d %s", a.status, a.code())
	}
	if a := as("GET", stray+"?restype=container", ""); a.code() != "ContainerNotFound" {
		t.Errorf("a container that nobody made: %d %s", a.status, a.code())
	}
	for _, step := range []string{stray + "?restype=container", stray + "/a"} {
		if a := as("PUT", step, "x", "x-ms-blob-type", "BlockBlob"); a.status != 201 {
			t.Errorf("PUT %s: %d %s", step, a.status, a.code())
		}
	}
	if a := as("DELETE", stray+"?restype=container", ""); a.status != 202 {
		t.Errorf("deleting it: %d %s", a.status, a.code())
	}
	// A workspace's own are there, and stay.
	own := "/" + account + "/" + container
	for name, tt := range map[string]struct {
		method, query string
		status        int
	}{
		"it is there": {"GET", "?restype=container", 200}, "it cannot be made": {"PUT", "?restype=container", 409},
		"it takes no metadata": {"PUT", "?restype=container&comp=metadata", 409}, "it stays": {"DELETE", "?restype=container", 409},
	} {
		if a := as(tt.method, own+tt.query, ""); a.status != tt.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestADeletionThatACrashBrokeOffIsEnded(t *testing.T) {
	t.Parallel()
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, metadata map[string]string) {
		if _, err := blobs.Put(t.Context(), key, strings.NewReader("x"), blob.Meta{Metadata: metadata}); err != nil {
			t.Fatal(err)
		}
	}
	// As deleteContainer leaves things when it stops after its first step, and its second.
	put("$containers/acct/first", map[string]string{":room": "r1"})
	put("$dead/acct.first.r1", map[string]string{"record": "$containers/acct/first"})
	put("acct.first.r1/a", nil)
	put("$containers/acct/second", map[string]string{":room": "r3"}) // made again meanwhile
	put("$dead/acct.second.r2", map[string]string{"record": "$containers/acct/second"})
	put("acct.second.r2/a", nil)
	put("acct.second.r3/a", nil)
	put("$containers/gone/box", map[string]string{":room": "r4"}) // whose account is no more
	put("gone.box.r4/a", nil)
	living := func(unique string) (bool, error) { return unique == "acct", nil }
	if err := storage.Tidy(t.Context(), blobs, living); err != nil {
		t.Fatal(err)
	}
	list, err := blobs.List(t.Context(), "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, b := range list {
		left = append(left, b.Key)
	}
	if got := strings.Join(left, " "); got != "$containers/acct/second acct.second.r3/a" {
		t.Errorf("left: %s", got)
	}
	if err := storage.Forget(t.Context(), blobs, "acct"); err != nil {
		t.Error(err)
	}
	if list, err := blobs.List(t.Context(), "", "", 0); err != nil || len(list) != 0 {
		t.Errorf("after the account was forgotten: %+v, %v", list, err)
	}
}
