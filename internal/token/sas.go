package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/netip"
	"net/url"
	"slices"
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
	sasTime   = "2006-01-02T15:04:05Z"
	// sasLetters are the permissions of the Blob service.
	sasLetters = "racwdxyltmeopi"
)

// sasFields are the parameters that the signature covers.
var sasFields = []string{"sp", "st", "se", "si", "sip", "spr", "sv", "sr", "ses", "rscc", "rscd", "rsce", "rscl", "rsct", "sig"}

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
// "Version 2020-12-06 and later".
func SASSignature(key []byte, account, container, blob string, q url.Values) []byte {
	resource := "/blob/" + account + "/" + container
	if q.Get("sr") == "b" {
		resource += "/" + blob
	}
	lines := []string{q.Get("sp"), q.Get("st"), q.Get("se"), resource, q.Get("si"), q.Get("sip"), q.Get("spr"), q.Get("sv"), q.Get("sr"), ""} // the last: a snapshot's time
	if q.Get("sv") >= scopeSAS {
		lines = append(lines, q.Get("ses"))
	}
	lines = append(lines, q.Get("rscc"), q.Get("rscd"), q.Get("rsce"), q.Get("rscl"), q.Get("rsct"))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(strings.Join(lines, "\n")))
	return mac.Sum(nil)
}

// SASRequest is what somebody with a signature wants.
type SASRequest struct {
	Account, Container string
	Blob               string     // empty: the container itself
	Need               string     // letters, of which any one is enough: "cw" to put a blob
	IP                 netip.Addr // who is asking; zero: unknown, and a signature bound to addresses is refused
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
	if sv := q.Get("sv"); !versionLike(sv) || sv < oldestSAS {
		return denied("sv is not the date of a version from %s on.", oldestSAS)
	}
	if sr := q.Get("sr"); sr != "c" && (sr != "b" || want.Blob == "") {
		return denied("The signed resource (sr) does not cover what is asked for.")
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(q.Get("sig"))
	if err != nil || strings.ContainsAny(q.Get("sig"), "\r\n") || subtle.ConstantTimeCompare(sig, SASSignature(k.AccountKey(want.Account), want.Account, want.Container, want.Blob, q)) != 1 {
		return denied("Signature did not match.")
	}
	if q.Get("si") != "" {
		return denied("The signed identifier (si) names a stored access policy, and there is none.")
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
	if !strings.ContainsAny(sp, want.Need) {
		return fault.Coded(fault.Forbidden, "AuthorizationPermissionMismatch", "", "This request is not authorized to perform this operation using this permission.")
	}
	return nil
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
	for _, layout := range []string{sasTime, "2006-01-02T15:04:05.9999999Z", "2006-01-02T15:04Z", time.DateOnly} {
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
