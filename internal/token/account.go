package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"strings"
	"time"
)

// SharedKey returns key 1 or 2 of a storage account, as users get them. Each has a
// generation, so that it can be made anew; the keys before it then count no more.
// What this server itself signs ([Keys.SAS]) is signed with [Keys.AccountKey],
// which nobody gets, and outlives that.
func (k *Keys) SharedKey(account string, n, generation int) []byte {
	mac := hmac.New(sha512.New, k.accounts)
	fmt.Fprintf(mac, "storage account key\n%s\n%d\n%d", strings.ToLower(account), n, generation)
	return mac.Sum(nil)
}

// Delegation is what a user delegation key says of itself.
type Delegation struct {
	Object, Tenant string // of the principal that asked for it
	Start, Expiry  string // moments, as they were written
	Service        string // "b"
	Version        string // of the interface
}

// fields are in the order of delegation.
func (d *Delegation) fields() []*string {
	return []*string{&d.Object, &d.Tenant, &d.Start, &d.Expiry, &d.Service, &d.Version}
}

// DelegationKey returns the key that signs on behalf of a user, for one account, which
// is given by what is never another's: a name may be. The key is derived from what it says of itself: change a word, and it is another key.
func (k *Keys) DelegationKey(unique string, d Delegation) []byte {
	mac := hmac.New(sha256.New, k.accounts)
	fmt.Fprintf(mac, "user delegation key\n%s", strings.ToLower(unique))
	for _, f := range d.fields() {
		fmt.Fprintf(mac, "\n%d %s", len(*f), *f)
	}
	return mac.Sum(nil)
}

func (d *Delegation) inTime(now time.Time) error {
	from, ok1 := sasMoment(d.Start)
	to, ok2 := sasMoment(d.Expiry)
	switch {
	case d.Service != "b":
		return denied("The signed key service (sks) is not 'b'.")
	case !ok1 || !ok2:
		return denied("The signed key start (skt) or expiry (ske) is no time.")
	case from.After(now.Add(Skew)) || !now.Before(to):
		return denied("The user delegation key is not valid in the specified time frame: Start [%s] - Expiry [%s] - Current [%s].",
			from.Format(time.RFC1123), to.Format(time.RFC1123), now.UTC().Format(time.RFC1123))
	}
	return nil
}
