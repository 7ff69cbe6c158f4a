package data

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// nobody asks on signed addresses: the signature alone says what may be read.
var nobody access.Principal

// signingAccount is a name that no storage account can have (it has a space),
// so that its key signs nothing else.
const signingAccount = "ebb addresses"

func (h *server) mac(path, expiry string) string {
	m := hmac.New(sha256.New, h.Keys.AccountKey(signingAccount))
	m.Write([]byte(path + "\n" + expiry))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// sign makes an address of ours that anybody may read until it expires.
func (h *server) sign(base, path string) string {
	expiry := strconv.FormatInt(h.Now().Add(downloadFor).Unix(), 10)
	return base + (&url.URL{Path: path}).EscapedPath() + "?se=" + expiry + "&sig=" + h.mac(path, expiry)
}

// checkSigned refuses an address that sign did not make, or not lately.
func (h *server) checkSigned(r *http.Request) error {
	q := r.URL.Query()
	want := h.mac(r.URL.Path, q.Get("se"))
	if !hmac.Equal([]byte(want), []byte(q.Get("sig"))) {
		return fault.Coded(fault.Forbidden, "AuthenticationFailed", "", "The signature of this address is not valid.")
	}
	at, err := strconv.ParseInt(q.Get("se"), 10, 64)
	if err != nil || h.Now().After(time.Unix(at, 0)) {
		return fault.Coded(fault.Forbidden, "AuthenticationFailed", "", "This address has expired; ask for the run's details again.")
	}
	return nil
}

// workspaceOf is the ARM id of the workspace that an address names.
func workspaceOf(r *http.Request) string {
	return strings.ToLower(armid.Workspace(r.PathValue("sub"), r.PathValue("rg"), r.PathValue("ws")))
}
