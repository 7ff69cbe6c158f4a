package storage

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
)

// blobHost is what follows the account in the name of a Blob service's host.
const blobHost = ".blob."

// hiddenContainers begin the names of those that hold job logs, which are served
// by the workspace API only.
const hiddenContainers = "logs-"

// openContainer begins the name of a workspace's container that its jobs write to:
// that of the default datastore.
const openContainer = "azureml-blobstore-"

// runFiles begins the name of a workspace's container of runs' files.
const runFiles = "azureml-"

// maxName is the most characters of a blob's name.
const maxName = 1024

var (
	accountName   = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	containerName = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)
)

// Matches reports whether a request is for this package. On a host that is a
// storage account's it is; on the server's own if its path begins with a container
// of a workspace, or with an account, and it is a storage client's: those, and no
// others, say the interface's version or show a signature.
func Matches(r *http.Request) bool {
	if _, ok := accountOfHost(r.Host); ok {
		return true
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if _, ok := armid.AccountOfContainer(first); ok {
		return true
	}
	_, _, shared := sharedKeyOf(r.Header.Get("Authorization"))
	if first == "" {
		return shared
	}
	return accountName.MatchString(first) && (shared || r.Header.Get("x-ms-version") != "" || strings.Contains(r.URL.RawQuery, "sv=") && strings.Contains(r.URL.RawQuery, "sig="))
}

// accountOfHost reads the account from a host like account.blob.core.windows.net.
func accountOfHost(host string) (string, bool) {
	account, _, ok := strings.Cut(strings.ToLower(host), blobHost)
	return account, ok
}

// place is where an address leads.
type place struct {
	account, container, name string
	rooted                   bool // the account is in the path
}

// placeOf reads account, container and blob from host and path.
func placeOf(host, path string) place {
	var p place
	path = strings.TrimPrefix(path, "/")
	var ok bool
	if p.account, ok = accountOfHost(host); !ok {
		first, rest, _ := strings.Cut(path, "/")
		if p.account, ok = armid.AccountOfContainer(first); !ok {
			p.account, p.rooted, path = first, true, rest
		}
	}
	p.container, p.name, _ = strings.Cut(path, "/")
	return p
}

func (c *call) address() error {
	p := placeOf(c.r.Host, c.r.URL.Path)
	if account, _, ok := sharedKeyOf(c.r.Header.Get("Authorization")); ok && p.account == "" {
		p.account, p.rooted = account, false // nothing else says whose service it is
	}
	c.account, c.container, c.name, c.rooted = p.account, p.container, p.name, p.rooted
	if !accountName.MatchString(c.account) {
		return fault.Coded(fault.Invalid, "InvalidUri", "", "The requested URI does not represent any resource on the server: it names no storage account.")
	}
	if utf8.RuneCountInString(c.name) > maxName {
		return fault.Coded(fault.Invalid, "InvalidResourceName", "", "The specified resource name contains invalid characters: a blob's has 1,024 at most.")
	}
	if strings.HasPrefix(c.container, hiddenContainers) {
		return noContainer()
	}
	return nil
}

func noContainer() error {
	return fault.Coded(fault.NotFound, "ContainerNotFound", "", "The specified container does not exist.")
}

// sourceOf reads the address of a blob to be copied: of this server, in the account
// that the request is for.
func (c *call) sourceOf(address string) (place, url.Values, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || len(address) > 2<<10 {
		return place{}, nil, headerValue("x-ms-copy-source")
	}
	p := placeOf(u.Host, u.Path)
	_, azure := accountOfHost(u.Host)
	if !azure && !strings.EqualFold(u.Host, c.r.Host) || p.account != c.account || strings.HasPrefix(p.container, hiddenContainers) {
		return place{}, nil, unsupported("copying from another account or server")
	}
	if p.container == "" || p.name == "" {
		return place{}, nil, headerValue("x-ms-copy-source")
	}
	return p, u.Query(), nil
}
