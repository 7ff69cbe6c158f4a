package arm_test

import (
	"net/http/httptest"
	"testing"

	"github.com/ebb-compute/ebb/internal/api/arm"
)

func TestHostsFollowTheClient(t *testing.T) {
	t.Parallel()
	type urls struct{ own, arm, login, data, studio, blob string }
	azure := urls{"", "https://management.azure.com", "https://login.microsoftonline.com", "https://westus.api.azureml.ms", "https://ml.azure.com", "https://acct.blob.core.windows.net"}
	owned := func(host string) urls {
		b := "https://" + host
		return urls{host, b, b, b, b, "https://acct.blob.x@" + host}
	}
	for host, want := range map[string]urls{
		"management.azure.com":               azure,
		"Management.Azure.com:443":           azure,
		"westus2.management.azure.com":       azure,
		"login.microsoftonline.com":          azure,
		"westus2.api.azureml.ms":             azure,
		"ebb0123.blob.core.windows.net:443":  azure,
		"localhost:8443":                     owned("localhost:8443"),
		"EBB.example.org":                    owned("ebb.example.org"),
		"[::1]:8443":                         owned("[::1]:8443"),
		"management.azure.com.evil.org":      owned("management.azure.com.evil.org"),
		"notmanagement.azure.com":            owned("notmanagement.azure.com"),
		"portal.azure.com":                   owned("portal.azure.com"),
		"evilblob.core.windows.net":          owned("evilblob.core.windows.net"),
		"management.azure.com@evil.org:8443": owned("management.azure.com@evil.org:8443"),
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		h := arm.HostsOf(r)
		if got := (urls{h.Own(), h.ARM(), h.Login(), h.Data("westus"), h.Studio(), h.Blob("acct")}); got != want {
			t.Errorf("by %s the URLs are %+v, want %+v", host, got, want)
		}
	}
}
