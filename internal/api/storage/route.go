package storage

import (
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

// operation is one that is built.
type operation struct {
	do func(c *call) error
	// need lists permissions of a signature for a blob or container of which any one is
	// enough. Empty: no such signature suffices.
	need string
	// account is the same for a signature of an account. Empty: need.
	account string
	// makes: the container need not be there.
	makes bool
	// token: a bearer token is needed.
	token bool
}

// operations are found by level, method and the parameters restype and comp.
var operations = map[string]operation{
	"service GET list":                       {do: (*call).listContainers, account: "l"},
	"service GET service properties":         {do: (*call).serviceProperties, account: "r"},
	"service POST service userdelegationkey": {do: (*call).userDelegationKey, token: true},
	"service POST batch":                     {do: (*call).batch, account: sasAny},
	"service GET account properties":         {do: (*call).accountInfo, account: sasAny},
	"container GET account properties":       {do: (*call).accountInfo, need: "r", account: sasAny},
	"blob GET account properties":            {do: (*call).accountInfo, need: "r", account: sasAny},

	"container PUT container":          {do: (*call).createContainer, account: "cw", makes: true},
	"container GET container":          {do: (*call).containerProperties, account: "r"},
	"container GET container metadata": {do: (*call).containerProperties, account: "r"},
	"container PUT container metadata": {do: (*call).setContainerMetadata, account: "w"},
	"container DELETE container":       {do: (*call).deleteContainer, account: "d"},
	"container GET container list":     {do: (*call).listBlobs, need: "l"},
	"container GET container acl":      {do: (*call).accessPolicy},
	"container POST container batch":   {do: (*call).batch, need: sasAny},

	"blob GET":             {do: (*call).get, need: "r"},
	"blob GET metadata":    {do: (*call).get, need: "r"},
	"blob PUT":             {do: (*call).put, need: "cw"},
	"blob DELETE":          {do: (*call).delete, need: "d"},
	"blob PUT block":       {do: (*call).putBlock, need: "cw"},
	"blob PUT blocklist":   {do: (*call).putBlockList, need: "cw"},
	"blob GET blocklist":   {do: (*call).getBlockList, need: "r"},
	"blob PUT metadata":    {do: (*call).setMetadata, need: "w"},
	"blob PUT properties":  {do: (*call).setProperties, need: "w"},
	"blob PUT appendblock": {do: (*call).appendBlock, need: "aw"},
}

// notBuilt are the names of what Azure has besides, by comp.
var notBuilt = map[string]string{
	"lease": "leases", "snapshot": "blob snapshots", "tags": "blob index tags", "blobs": "finding blobs by tags", "tier": "access tiers", "page": "page blobs", "pagelist": "page blobs",
	"undelete": "undeleting", "copy": "aborting a copy, since all have ended", "incrementalcopy": "page blobs", "seal": "sealing append blobs", "query": "queries of a blob's content",
	"expiry": "expiry of blobs", "immutabilityPolicies": "immutability policies", "legalhold": "legal holds", "acl": "public access and stored access policies", "rename": "renaming",
	"stats": "a secondary location", "properties": "properties of the service to be set",
}

// refused are headers of features that are not built.
var refused = map[string]string{
	"x-ms-encryption-key": "keys of the customer", "x-ms-encryption-scope": "encryption scopes", "x-ms-if-tags": "conditions on tags", "x-ms-tags": "blob index tags",
	"x-ms-legal-hold": "legal holds", "x-ms-immutability-policy-until-date": "immutability policies", "x-ms-structured-body": "structured bodies", "x-ms-source-range": "parts of a copy's source",
	"x-ms-file-request-intent": "file shares as a copy's source", "x-ms-blob-public-access": "public access",
}

// methods are those of the interface; of them HEAD is GET without the body.
const methods = " GET HEAD PUT POST DELETE "

func (c *call) route() (operation, error) {
	level := "blob"
	switch {
	case c.container == "":
		level = "service"
	case c.name == "":
		level = "container"
	}
	verb := c.r.Method
	switch {
	case verb == http.MethodOptions:
		return operation{}, fault.Coded(fault.Forbidden, "CorsPreflightFailure", "", "CORS not enabled or no matching rule found for this request.")
	case !strings.Contains(methods, " "+verb+" "):
		return operation{}, fault.Coded(fault.Invalid, "UnsupportedHttpVerb", "", "The resource doesn't support the specified HTTP verb.")
	case verb == http.MethodHead:
		verb = http.MethodGet
	}
	restype, comp := strings.ToLower(c.q.Get("restype")), strings.ToLower(c.q.Get("comp"))
	if c.q.Get("snapshot") != "" || c.q.Get("versionid") != "" {
		return operation{}, unsupported("blob snapshots and versions")
	}
	words := []string{level, verb}
	for _, w := range []string{restype, comp} {
		if w != "" {
			words = append(words, w)
		}
	}
	op, ok := operations[strings.Join(words, " ")]
	if ok {
		return op, nil
	}
	if feature, ok := notBuilt[comp]; ok {
		return operation{}, unsupported(feature)
	}
	for name := range c.q {
		if strings.EqualFold(name, "comp") || strings.EqualFold(name, "restype") {
			return operation{}, fault.Coded(fault.Invalid, "InvalidQueryParameterValue", "", "Value for one of the query parameters specified in the request URI is invalid: no operation of this server has this method with restype '%.40s' and comp '%.40s'.", restype, comp)
		}
	}
	return operation{}, fault.Coded(fault.Invalid, "InvalidUri", "", "The requested URI does not represent any resource on the server.")
}

// known refuses headers whose feature is not built: to pass them by would change
// what the client is promised.
func (c *call) known() error {
	for name, feature := range refused {
		if c.r.Header.Get(name) != "" {
			return unsupported(feature)
		}
	}
	if t := c.r.Header.Get("x-ms-access-tier"); t != "" && !strings.EqualFold(t, "Hot") {
		return unsupported("access tiers")
	}
	if c.r.Header.Get("x-ms-lease-id") == "" && c.r.Header.Get("x-ms-source-lease-id") == "" {
		return nil
	}
	if c.name == "" {
		return fault.Coded(fault.Precondition, "LeaseNotPresentWithContainerOperation", "", "There is currently no lease on the container: this server gives no leases.")
	}
	return fault.Coded(fault.Precondition, "LeaseNotPresentWithBlobOperation", "", "There is currently no lease on the blob: this server gives no leases.")
}
