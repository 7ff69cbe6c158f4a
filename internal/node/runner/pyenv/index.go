package pyenv

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// further are pip options that name one more place to look for packages. SDK v1
// writes two of them, with the address of an index long moved, into every
// environment it makes; pip tries a place whose host is not known again and
// again for every package.
var further = []string{"--extra-index-url", "--find-links", "-f"}

// WithoutUnknown leaves out the further places whose host this machine does not
// know, and says which.
func WithoutUnknown(ctx context.Context, lines []string) (kept, left []string) {
	return withoutUnknown(ctx, lines, net.DefaultResolver.LookupHost)
}

// withoutUnknown leaves out the further places whose host this machine does not
// know, and says which. Where a proxy looks up names it leaves all in.
func withoutUnknown(ctx context.Context, lines []string, lookup func(context.Context, string) ([]string, error)) (kept, left []string) {
	if behindProxy() {
		return lines, nil
	}
	known := map[string]bool{}
	for _, line := range lines {
		host := furtherHost(line)
		if host == "" {
			kept = append(kept, line)
			continue
		}
		if _, seen := known[host]; !seen {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := lookup(ctx, host)
			cancel()
			var dns *net.DNSError
			known[host] = !errors.As(err, &dns) || !(dns.IsNotFound || dns.IsTimeout || dns.IsTemporary)
		}
		if known[host] {
			kept = append(kept, line)
		} else {
			left = append(left, line)
		}
	}
	return kept, left
}

// furtherHost returns the host that a requirement line adds as a place to look,
// or "".
func furtherHost(line string) string {
	for _, option := range further {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), option)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '=' {
			continue
		}
		u, err := url.Parse(strings.TrimLeft(rest, " ="))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || net.ParseIP(u.Hostname()) != nil {
			return ""
		}
		return u.Hostname()
	}
	return ""
}

func behindProxy() bool {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "PIP_PROXY"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}
