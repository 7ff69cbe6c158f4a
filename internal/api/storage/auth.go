package storage

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

// sasAny is every permission that a signature can give.
const sasAny = "racwdxyltmeopi"

// clockSkew is how old or new a signed request may be.
const clockSkew = 15 * time.Minute

// credential is what a request proved.
type credential struct {
	kind credentialKind
	who  access.Principal // of a bearer token
}

type credentialKind int

const (
	bySignature credentialKind = iota
	bySharedKey
	byToken
)

// authorise checks who asks, and whether they may do op.
func (c *call) authorise(op operation) error {
	header := c.r.Header.Get("Authorization")
	_, _, shared := sharedKeyOf(header)
	tok, bearer := strings.CutPrefix(header, "Bearer ")
	switch {
	case shared:
		c.cred.kind = bySharedKey
		if op.token {
			return denied("Only authentication scheme Bearer is supported.")
		}
		return c.checkSharedKey(header)
	case bearer:
		c.cred.kind = byToken
		return c.checkBearer(strings.TrimSpace(tok))
	case header != "":
		return fault.Coded(fault.Invalid, "InvalidAuthenticationInfo", "", "Authentication information is not given in the correct format. Check the value of Authorization header.")
	case c.q.Get("sig") == "":
		return fault.Coded(fault.Unauthorized, "NoAuthenticationInformation", "", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header: a shared access signature, a shared key or a bearer token is needed, and this request has none.")
	case op.token:
		return denied("Only authentication scheme Bearer is supported.")
	}
	return c.checkSAS(op)
}

func denied(format string, args ...any) error {
	return fault.Coded(fault.Forbidden, "AuthenticationFailed", "", "Server failed to authenticate the request. "+format, args...)
}

// checkSAS looks whether the signature allows op; of one that is for writing,
// whether it allows to replace what is there.
func (c *call) checkSAS(op operation) error {
	want := token.SASRequest{Account: c.account, Container: c.container, Blob: c.name, Need: op.need, AccountNeed: op.account, IP: c.who()}
	if c.q.Has("skoid") { // a user's, of the account as it is now, and not of one that had its name
		account, err := c.accountOf()
		if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
		want.Unique = account.Unique
	}
	check := func() error { return c.Keys.CheckSAS(want, c.q, c.Now()) }
	if op.need == "cw" {
		want.Need = "w"
	}
	err := check()
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Code == "AuthenticationFailed" {
		// It may be signed with a key that users have.
		account, aerr := c.accountOf()
		if aerr != nil && !errors.Is(aerr, fault.NotFound) {
			return aerr
		}
		if aerr == nil {
			want.Keys = c.keys(account)
			err = check()
		}
	}
	if f, ok := errors.AsType[*fault.Error](err); ok && op.need == "cw" && f.Code == "AuthorizationPermissionMismatch" {
		c.newOnly, want.Need = true, "c"
		return check()
	}
	return err
}

// accountOf finds the account that the request is for.
func (c *call) accountOf() (Account, error) {
	if c.owner != nil {
		return *c.owner, nil
	}
	if c.Accounts == nil {
		return Account{}, noAccount()
	}
	a, err := c.Accounts.Account(c.r.Context(), c.account)
	if errors.Is(err, fault.NotFound) {
		return Account{}, noAccount()
	}
	if err == nil {
		c.owner = &a
	}
	return a, err
}

func noAccount() error {
	return fault.Coded(fault.NotFound, "ResourceNotFound", "", "The specified resource does not exist: this server has no storage account of that name.")
}

func (c *call) keys(a Account) [][]byte {
	return [][]byte{c.Keys.SharedKey(a.Unique, 1, a.Generations[0]), c.Keys.SharedKey(a.Unique, 2, a.Generations[1])}
}

func (c *call) checkBearer(tok string) error {
	if c.Bearer == nil {
		return fault.Coded(fault.Unauthorized, "InvalidAuthenticationInfo", "", "Server failed to authenticate the request: bearer tokens are not taken here.")
	}
	p, err := c.Bearer(tok)
	if err != nil {
		f, ok := errors.AsType[*fault.Error](err)
		if !ok {
			return err
		}
		return fault.Coded(fault.Unauthorized, "InvalidAuthenticationInfo", "", "Server failed to authenticate the request. %s", f.Msg)
	}
	a, err := c.accountOf()
	if err != nil {
		return err
	}
	closed, err := c.closed()
	if err != nil {
		return err
	}
	if !p.May(a.Scope) || p.Kind == access.RunIdentity && closed {
		return fault.Coded(fault.Forbidden, "AuthorizationPermissionMismatch", "", "This request is not authorized to perform this operation using this permission.")
	}
	c.cred.who = p
	return nil
}

// closed reports whether a request would write where a run's token may only read:
// code and the files of runs are others' as well, who would run what a job had put
// there. A run writes its own files by the workspace's API.
func (c *call) closed() (bool, error) {
	reads := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead || c.r.Method == http.MethodPost // of a batch, each part is asked for itself
	if reads {
		return false, nil
	}
	own, err := c.own()
	return own && !strings.HasPrefix(c.container, openContainer), err
}

// sharedKeyOf takes apart "SharedKey account:signature", and the same of SharedKeyLite.
func sharedKeyOf(header string) (account, signature string, ok bool) {
	rest, ok := strings.CutPrefix(header, "SharedKey ")
	if !ok {
		if rest, ok = strings.CutPrefix(header, "SharedKeyLite "); !ok {
			return "", "", false
		}
	}
	account, signature, _ = strings.Cut(strings.TrimSpace(rest), ":")
	return account, signature, true
}

func (c *call) checkSharedKey(header string) error {
	name, given, _ := sharedKeyOf(header)
	signature, err := base64.StdEncoding.Strict().DecodeString(given)
	if err != nil || name != c.account {
		return denied("The MAC signature found in the HTTP request is not the same as any computed signature: it is none, or another account's.")
	}
	date := c.r.Header.Get("x-ms-date")
	if date == "" {
		date = c.r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if err != nil {
		return denied("The request has no date (x-ms-date), or none that can be read.")
	}
	if now := c.Now(); at.Before(now.Add(-clockSkew)) || at.After(now.Add(clockSkew)) {
		return denied("Request date header not in the right time frame: it says %s, and it is %s.", at.UTC().Format(http.TimeFormat), now.UTC().Format(http.TimeFormat))
	}
	account, err := c.accountOf()
	if err != nil {
		return err
	}
	for _, text := range stringsToSign(c.account, c.version, c.r, c.q, strings.HasPrefix(header, "SharedKeyLite ")) {
		for _, key := range c.keys(account) {
			if subtle.ConstantTimeCompare(token.MAC(key, text), signature) == 1 {
				return nil
			}
		}
	}
	return denied("The MAC signature found in the HTTP request is not the same as any computed signature.")
}

// signedHeaders are those of a shared key's string to sign, in its order.
var signedHeaders = []string{"Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
	"If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"}

// stringsToSign is what a client signs with a shared key, of version 2009-09-19
// and later: one for each order of headers that clients have.
// https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
func stringsToSign(account, version string, r *http.Request, q url.Values, lite bool) []string {
	var head strings.Builder
	head.WriteString(r.Method + "\n")
	for _, name := range signedHeaders {
		if lite && name != "Content-MD5" && name != "Content-Type" && name != "Date" {
			continue
		}
		v := r.Header.Get(name)
		switch {
		case name == "Content-Length" && r.ContentLength > 0:
			v = r.Header.Get("Content-Length")
			if v == "" { // Go's server takes it out
				v = strconv.FormatInt(r.ContentLength, 10)
			}
		case name == "Content-Length" && version >= "2015-02-21":
			v = ""
		case name == "Content-Length" && r.ContentLength == 0 && r.Method != http.MethodGet && r.Method != http.MethodHead:
			v = "0"
		case name == "Date" && r.Header.Get("x-ms-date") != "":
			v = ""
		}
		head.WriteString(v + "\n")
	}
	resource := "/" + account + r.URL.EscapedPath()
	if lite {
		if comp := q.Get("comp"); comp != "" {
			resource += "?comp=" + comp
		}
	} else {
		resource += canonicalQuery(q)
	}
	var out []string
	for _, order := range []func(a, b string) int{strings.Compare, likeWords} {
		out = append(out, head.String()+canonicalHeaders(r.Header, order)+resource)
	}
	return out
}

// canonicalHeaders are the x-ms- ones, in order.
func canonicalHeaders(h http.Header, order func(a, b string) int) string {
	var names []string
	for name := range h {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			names = append(names, lower)
		}
	}
	slices.SortFunc(names, order)
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name + ":" + strings.TrimSpace(strings.Join(h.Values(name), ",")) + "\n")
	}
	return b.String()
}

// likeWords is the order that Azure's own clients sort headers in: hyphens count
// only where nothing else differs, and "_" comes before letters and digits.
func likeWords(a, b string) int {
	plain := strings.NewReplacer("-", "", "_", "\x01")
	if c := strings.Compare(plain.Replace(a), plain.Replace(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// canonicalQuery is a line for each parameter.
func canonicalQuery(q url.Values) string {
	byName := map[string][]string{}
	for name, values := range q {
		lower := strings.ToLower(name)
		byName[lower] = append(byName[lower], values...)
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		values := byName[name]
		slices.Sort(values)
		b.WriteString("\n" + name + ":" + strings.Join(values, ","))
	}
	return b.String()
}
