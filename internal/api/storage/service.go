package storage

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

// epoch is when what nobody made was made.
var epoch = time.Unix(0, 0).UTC()

// endpoint is the address of the service, as the client knows it.
func (c *call) endpoint() string {
	e := "https://" + c.r.Host + "/"
	if c.rooted {
		e += c.account + "/"
	}
	return e
}

// accountInfo answers Get Account Information.
func (c *call) accountInfo() error {
	h := c.w.Header()
	h.Set("x-ms-sku-name", "Standard_LRS") // one copy of the data, in one place
	h.Set("x-ms-account-kind", "StorageV2")
	h.Set("x-ms-is-hns-enabled", "false")
	h.Set("Content-Length", "0")
	return nil
}

// disabled is a feature of the service that is off.
type disabled struct {
	Version string `xml:",omitempty"`
	Delete  *bool
	Read    *bool
	Write   *bool
	Enabled *bool
	Retain  *disabled `xml:"RetentionPolicy"`
}

// serviceProperties answers Get Blob Service Properties: everything is off.
func (c *call) serviceProperties() error {
	no := false
	keep := &disabled{Enabled: &no}
	metrics := &disabled{Version: "1.0", Enabled: &no, Retain: keep}
	c.send(http.StatusOK, marshal(struct {
		XMLName xml.Name `xml:"StorageServiceProperties"`
		Logging *disabled
		Hour    *disabled `xml:"HourMetrics"`
		Minute  *disabled `xml:"MinuteMetrics"`
		Cors    string
		Deleted *disabled `xml:"DeleteRetentionPolicy"`
		Website *disabled `xml:"StaticWebsite"`
	}{
		Logging: &disabled{Version: "1.0", Delete: &no, Read: &no, Write: &no, Retain: keep},
		Hour:    metrics, Minute: metrics, Deleted: keep, Website: keep,
	}))
	return nil
}

// maxDelegation is how long a user delegation key may be good for.
const maxDelegation = 7 * 24 * time.Hour

// userDelegationKey answers Get User Delegation Key.
func (c *call) userDelegationKey() error {
	if c.cred.who.Kind == access.RunIdentity {
		return fault.Coded(fault.Forbidden, "AuthorizationPermissionMismatch", "", "The token of a run gives no user delegation keys, which would outlive the run.")
	}
	ask := struct {
		XMLName xml.Name `xml:"KeyInfo"`
		Start   string
		Expiry  string
	}{}
	if err := c.document(maxBlockList, &ask); err != nil {
		return err
	}
	now := c.Now()
	expiry, err := time.Parse(time.RFC3339, ask.Expiry)
	if err != nil || !expiry.After(now) || expiry.After(now.Add(maxDelegation)) {
		return badNode("Expiry", "it must be a time within seven days from now")
	}
	start := now
	if ask.Start != "" {
		if start, err = time.Parse(time.RFC3339, ask.Start); err != nil || !start.Before(expiry) || start.After(now.Add(maxDelegation)) {
			return badNode("Start", "it must be a time before the expiry")
		}
	}
	account, err := c.accountOf()
	if err != nil {
		return err
	}
	const form = "2006-01-02T15:04:05Z"
	d := token.Delegation{Object: c.cred.who.ID, Tenant: c.cred.who.Tenant, Start: start.UTC().Format(form), Expiry: expiry.UTC().Format(form), Service: "b", Version: c.w.Header().Get("x-ms-version")}
	c.send(http.StatusOK, marshal(struct {
		XMLName xml.Name `xml:"UserDelegationKey"`
		Oid     string   `xml:"SignedOid"`
		Tid     string   `xml:"SignedTid"`
		Start   string   `xml:"SignedStart"`
		Expiry  string   `xml:"SignedExpiry"`
		Service string   `xml:"SignedService"`
		Version string   `xml:"SignedVersion"`
		Value   string
	}{Oid: d.Object, Tid: d.Tenant, Start: d.Start, Expiry: d.Expiry, Service: d.Service, Version: d.Version,
		Value: base64.StdEncoding.EncodeToString(c.Keys.DelegationKey(account.Unique, d))}))
	return nil
}

func badNode(name, why string) error {
	return fault.Coded(fault.Invalid, "InvalidXmlNodeValue", "", "The value for one of the XML nodes is not in the correct format: %s: %s.", name, why)
}
