package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	sasVersion = "2022-11-02" // of the signatures made here
	// oldestSAS is the first version whose string-to-sign has today's fields but
	// one; encryptionScope came with scopeSAS.
	oldestSAS = "2018-11-09"
	scopeSAS  = "2020-12-06"
	// agentSAS brought the agents of a user delegation, delegatedSAS whom it is for.
	agentSAS     = "2020-02-10"
	delegatedSAS = "2025-07-05"
	// oldestAccountSAS is the first version that had signatures for accounts.
	oldestAccountSAS = "2015-04-05"
	sasTime          = "2006-01-02T15:04:05Z"
	// sasLetters are the permissions of the Blob service.
	sasLetters = "racwdxyltmeopi"
)

// sasFields are the parameters that the signature covers.
var sasFields = []string{"sp", "st", "se", "si", "sip", "spr", "sv", "sr", "sdd", "ss", "srt", "ses", "skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "skdutid", "sduoid", "rscc", "rscd", "rsce", "rscl", "rsct", "sig"}

// SAS returns the query of a service shared access signature for a blob, or for
// a whole container where blob is empty. permissions are letters: r(ead),
// a(dd), c(reate), w(rite), d(elete), l(ist).
func (k *Keys) SAS(account, container, blob, permissions string, expiry time.Time) url.Values {
	q := url.Values{"sv": {sasVersion}, "sr": {"b"}, "sp": {permissions}, "se": {expiry.UTC().Format(sasTime)}, "spr": {"https"}}
	if blob == "" {
		q.Set("sr", "c")
	}
	q.Set("sig", base64.StdEncoding.EncodeToString(SASSignature(k.AccountKey(account), account, container, blob, q)))
	return q
}

// SASSignature signs the parameters of q for a blob with an account's key, by
// https://learn.microsoft.com/rest/api/storageservices/create-service-sas,
// "Version 2020-12-06 and later"; with a user delegation key where q has one's
// fields, by create-user-delegation-sas.
func SASSignature(key []byte, account, container, blob string, q url.Values) []byte {
	resource := "/blob/" + account + "/" + container
	switch q.Get("sr") {
	case "b":
		resource += "/" + blob
	case "d":
		resource += "/" + directory(blob, q.Get("sdd"))
	}
	sv := q.Get("sv")
	lines := []string{q.Get("sp"), q.Get("st"), q.Get("se"), resource}
	if q.Has("skoid") {
		for _, f := range delegation {
			lines = append(lines, q.Get(f))
		}
		if sv >= agentSAS {
			lines = append(lines, q.Get("saoid"), q.Get("suoid"), q.Get("scid"))
		}
		if sv >= delegatedSAS {
			lines = append(lines, q.Get("skdutid"), q.Get("sduoid"))
		}
	} else {
		lines = append(lines, q.Get("si"))
	}
	lines = append(lines, q.Get("sip"), q.Get("spr"), sv, q.Get("sr"), "") // the last: a snapshot's time
	if sv >= scopeSAS {
		lines = append(lines, q.Get("ses"))
	}
	lines = append(lines, q.Get("rscc"), q.Get("rscd"), q.Get("rsce"), q.Get("rscl"), q.Get("rsct"))
	return MAC(key, strings.Join(lines, "\n"))
}

// delegation are the fields of a user delegation key, in the order in which they are signed.
var delegation = []string{"skoid", "sktid", "skt", "ske", "sks", "skv"}

// directory is the part of a blob's name that a signature for a directory covers:
// as many segments as depth says. One that has fewer is covered by none.
func directory(blob, depth string) string {
	n, err := strconv.Atoi(depth)
	segments := strings.Split(blob, "/")
	if err != nil || n < 0 || n > len(segments) {
		return "\x00" // no path
	}
	return strings.Join(segments[:n], "/")
}

// MAC is how everything is signed with a key of a storage account.
func MAC(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// AccountSASSignature signs the parameters of q for an account, by create-account-sas.
func AccountSASSignature(key []byte, account string, q url.Values) []byte {
	lines := []string{account, q.Get("sp"), q.Get("ss"), q.Get("srt"), q.Get("st"), q.Get("se"), q.Get("sip"), q.Get("spr"), q.Get("sv")}
	if q.Get("sv") >= scopeSAS {
		lines = append(lines, q.Get("ses"))
	}
	return MAC(key, strings.Join(lines, "\n")+"\n")
}

// SASRequest is what somebody with a signature wants.
type SASRequest struct {
	Account, Container string
	Unique             string     // what tells the account from others that had its name: whose user delegation keys count; empty: none does
	Blob               string     // empty: the container itself
	Need               string     // letters, of which any one is enough: "cw" to put a blob; "" is what no signature of a container or blob permits
	AccountNeed        string     // the same for the signature of an account; empty: Need
	IP                 netip.Addr // who is asking; zero: unknown, and a signature bound to addresses is refused
	Keys               [][]byte   // keys that may have signed, besides this server's own
}

// VerifySAS checks the signature in q for a blob, or for a container where blob
// is empty. need lists letters of which any one is enough.
func (k *Keys) VerifySAS(account, container, blob, need string, q url.Values, now time.Time) error {
	return k.CheckSAS(SASRequest{Account: account, Container: container, Blob: blob, Need: need}, q, now)
}

// CheckSAS checks the signature in q. The signature comes first, so that
// nothing is said about one that is not ours. Parameters that it does not cover
// are ignored.
func (k *Keys) CheckSAS(want SASRequest, q url.Values, now time.Time) error {
	for _, f := range sasFields {
		if len(q[f]) > 1 || strings.ContainsAny(q.Get(f), "\n\r") {
			return denied("The parameter '%s' is given more than once, or has a line end in it.", f)
		}
	}
	ofAccount := q.Has("ss") || q.Has("srt")
	oldest := oldestSAS
	if ofAccount {
		oldest = oldestAccountSAS
	}
	if sv := q.Get("sv"); !versionLike(sv) || sv < oldest {
		return denied("sv is not the date of a version from %s on.", oldest)
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(q.Get("sig"))
	if err != nil || strings.ContainsAny(q.Get("sig"), "\r\n") {
		return denied("Signature did not match.")
	}
	need := want.Need
	if ofAccount {
		if want.AccountNeed != "" {
			need = want.AccountNeed
		}
		err = k.checkAccountSAS(want, q, sig)
	} else {
		err = k.checkServiceSAS(want, q, sig, now)
	}
	if err != nil {
		return err
	}
	if err := sasInTime(q, now); err != nil {
		return err
	}
	if spr := q.Get("spr"); spr != "" && spr != "https" && spr != "https,http" {
		return denied("The signed protocol (spr) is neither 'https' nor 'https,http'.")
	}
	if sip := q.Get("sip"); sip != "" && !ipWithin(sip, want.IP) {
		return fault.Coded(fault.Forbidden, "AuthorizationSourceIPMismatch", "", "This request is not authorized to perform this operation using this source IP.")
	}
	sp := q.Get("sp")
	if strings.Trim(sp, sasLetters) != "" {
		return denied("The signed permissions (sp) are not letters of '%s'.", sasLetters)
	}
	if !strings.ContainsAny(sp, need) {
		return fault.Coded(fault.Forbidden, "AuthorizationPermissionMismatch", "", "This request is not authorized to perform this operation using this permission.")
	}
	return nil
}

// checkAccountSAS checks who signed for an account, and what for.
func (k *Keys) checkAccountSAS(want SASRequest, q url.Values, sig []byte) error {
	if !k.signed(want, sig, func(key []byte) []byte { return AccountSASSignature(key, want.Account, q) }) {
		return denied("Signature did not match.")
	}
	if !strings.Contains(q.Get("ss"), "b") {
		return fault.Coded(fault.Forbidden, "AuthorizationServiceMismatch", "", "This request is not authorized to perform this operation using this service: the signed services (ss) lack 'b'.")
	}
	level := "o"
	switch {
	case want.Container == "":
		level = "s"
	case want.Blob == "":
		level = "c"
	}
	if !strings.Contains(q.Get("srt"), level) {
		return fault.Coded(fault.Forbidden, "AuthorizationResourceTypeMismatch", "", "This request is not authorized to perform this operation using this resource type: the signed resource types (srt) lack '%s'.", level)
	}
	return nil
}

// checkServiceSAS checks who signed for a container, a directory or a blob.
func (k *Keys) checkServiceSAS(want SASRequest, q url.Values, sig []byte, now time.Time) error {
	switch sr := q.Get("sr"); {
	case want.Container == "",
		sr != "c" && want.Blob == "",
		sr != "c" && sr != "b" && sr != "d":
		return denied("The signed resource (sr) does not cover what is asked for.")
	}
	sign := func(key []byte) []byte { return SASSignature(key, want.Account, want.Container, want.Blob, q) }
	if !q.Has("skoid") {
		if !k.signed(want, sig, sign) {
			return denied("Signature did not match.")
		}
		if q.Get("si") != "" {
			return denied("The signed identifier (si) names a stored access policy, and there is none: this server keeps no stored access policies.")
		}
		return nil
	}
	d := Delegation{}
	for i, f := range delegation {
		*d.fields()[i] = q.Get(f)
	}
	if want.Unique == "" || subtle.ConstantTimeCompare(sig, sign(k.DelegationKey(want.Unique, d))) != 1 {
		return denied("Signature did not match.")
	}
	return d.inTime(now)
}

// signed reports whether sig is what one of the account's keys signs.
func (k *Keys) signed(want SASRequest, sig []byte, sign func(key []byte) []byte) bool {
	for _, key := range append([][]byte{k.AccountKey(want.Account)}, want.Keys...) {
		if subtle.ConstantTimeCompare(sig, sign(key)) == 1 {
			return true
		}
	}
	return false
}

func denied(format string, args ...any) error {
	return fault.Coded(fault.Forbidden, "AuthenticationFailed", "", "Server failed to authenticate the request. "+format, args...)
}

func versionLike(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

func sasInTime(q url.Values, now time.Time) error {
	se, ok := sasMoment(q.Get("se"))
	if !ok {
		return denied("The signed expiry (se) is missing or is no time.")
	}
	if !now.Before(se) {
		return denied("Signature not valid in the specified time frame: Expiry [%s] - Current [%s].", se.Format(time.RFC1123), now.UTC().Format(time.RFC1123))
	}
	if q.Get("st") == "" {
		return nil
	}
	st, ok := sasMoment(q.Get("st"))
	if !ok {
		return denied("The signed start (st) is no time.")
	}
	if st.After(now.Add(Skew)) {
		return denied("Signature not valid in the specified time frame: Start [%s] - Current [%s].", st.Format(time.RFC1123), now.UTC().Format(time.RFC1123))
	}
	return nil
}

// sasMoment reads the forms of ISO 8601 that Azure takes.
func sasMoment(s string) (time.Time, bool) {
	for _, layout := range []string{sasTime, time.RFC3339, "2006-01-02T15:04:05.9999999Z", "2006-01-02T15:04Z", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// ipWithin reports whether ip is the address, or in the range, of a sip.
func ipWithin(sip string, ip netip.Addr) bool {
	first, last, isRange := strings.Cut(sip, "-")
	if !isRange {
		last = first
	}
	from, err := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	ip = ip.Unmap()
	return err == nil && err2 == nil && ip.IsValid() && slices.IsSortedFunc([]netip.Addr{from, ip, to}, netip.Addr.Compare) && from.BitLen() == ip.BitLen()
}
