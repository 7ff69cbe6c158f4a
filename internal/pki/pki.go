// Package pki is the server's own certificate authority and its certificate.
//
// The authority is name-constrained: a client that trusts it trusts it for the
// names that "ebb exec" leads to the server, for this machine and for the names
// it listens on, and for nothing else; a stolen key cannot speak for a bank.
// Keys are ECDSA P-256. The server's certificate lives in memory and is made
// anew at every start and before it expires; only the authority is on disk.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // an identifier, as RFC 5280 §4.2.1.2 has it
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	caFile  = "ca.pem"
	keyFile = "ca.key"

	caLife    = 10 * 365 * 24 * time.Hour
	caSpare   = 2 * leafLife         // a CA with less life left is made anew, with the same key
	leafLife  = 397 * 24 * time.Hour // 13 months: the most that clients accept
	leafSpare = leafLife / 3         // renewed when less is left
	backdate  = 25 * time.Hour       // a clock that jumps a day back must not refuse what it made
)

// azureNames are where "ebb exec" takes over; each stands for what is below it
// too. It is the list of api/arm.IsAzureName.
var azureNames = []string{"management.azure.com", "login.microsoftonline.com", "graph.microsoft.com", "ml.azure.com", "api.azureml.ms", "blob.core.windows.net"}

// CA is a certificate authority and the server certificate it signed last.
// Its methods may be called at the same time.
type CA struct {
	path string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dns  []string // of the server's certificate
	ips  []net.IP
	now  func() time.Time

	mu   sync.Mutex
	leaf *tls.Certificate
}

// Ensure loads the authority of dir, or makes one. names are the host names and
// addresses clients use for the server besides localhost; when an authority of
// before does not permit one, its certificate is made anew with the same key.
// A crash at any moment leaves what a later Ensure can go on from.
func Ensure(dir string, names []string, now func() time.Time) (*CA, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the authority: %w", err)
	}
	ca := &CA{path: filepath.Join(dir, caFile), now: now}
	if err := ca.setNames(names); err != nil {
		return nil, err
	}
	var err error
	if ca.key, err = ensureKey(dir); err != nil {
		return nil, err
	}
	if ca.cert, err = ca.load(); err != nil {
		return nil, err
	}
	if ca.cert == nil || !ca.fits() {
		if err := ca.sign(); err != nil {
			return nil, err
		}
	}
	if _, err := ca.current(); err != nil {
		return nil, err
	}
	return ca, nil
}

func (ca *CA) setNames(names []string) error {
	ca.dns = []string{"localhost"}
	for _, n := range azureNames {
		ca.dns = append(ca.dns, n, "*."+n)
	}
	ca.ips = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	for _, n := range names {
		n = strings.TrimSuffix(strings.Trim(n, "[]"), ".")
		if a, err := netip.ParseAddr(n); err == nil {
			if !a.IsUnspecified() {
				ca.ips = append(ca.ips, net.IP(a.Unmap().WithZone("").AsSlice()))
			}
			continue
		}
		if !hostName(n) {
			return fmt.Errorf("%q is neither a host name nor an address", n)
		}
		ca.dns = append(ca.dns, strings.ToLower(n))
	}
	slices.Sort(ca.dns[1:])
	ca.dns = slices.Compact(ca.dns)
	return nil
}

func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
		})
		if bad || label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
	}
	return true
}

// ensureKey comes before the certificate, so that a crash between the two
// leaves a key without a certificate, which is gone on from.
func ensureKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, caFile)); err == nil {
			return nil, fmt.Errorf("%s is there without its key %s: put the key back, or remove both to make a new authority that clients must trust anew", caFile, path)
		}
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the authority: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM key", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an ECDSA key", path, k)
	}
	return key, nil
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the authority: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of the authority: %w", err)
	}
	return key, replace(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// load returns nil when there is no certificate yet.
func (ca *CA) load() (*x509.Certificate, error) {
	b, err := os.ReadFile(ca.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM certificate", ca.path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", ca.path, err)
	}
	if !ca.key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s was not made with the key beside it", ca.path)
	}
	return cert, nil
}

// fits reports whether the authority lives long enough and permits every name.
func (ca *CA) fits() bool {
	if ca.cert.NotAfter.Sub(ca.now()) < caSpare {
		return false
	}
	for _, n := range ca.dns {
		if !slices.ContainsFunc(ca.cert.PermittedDNSDomains, func(p string) bool { return n == p || strings.HasSuffix(n, "."+p) }) {
			return false
		}
	}
	for _, ip := range ca.ips {
		if !slices.ContainsFunc(ca.cert.PermittedIPRanges, func(p *net.IPNet) bool { return p.Contains(ip) }) {
			return false
		}
	}
	return true
}

// permitted returns what the authority may sign for: what is needed now, and
// what an authority of before permitted, which clients may still use.
func (ca *CA) permitted() (dns []string, ips []*net.IPNet) {
	for _, n := range ca.dns {
		if !strings.HasPrefix(n, "*.") {
			dns = append(dns, n)
		}
	}
	ips = []*net.IPNet{{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}}
	for _, ip := range ca.ips {
		if !ips[0].Contains(ip) {
			ips = append(ips, &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))})
		}
	}
	if ca.cert != nil {
		dns = append(dns, ca.cert.PermittedDNSDomains...)
		ips = append(ips, ca.cert.PermittedIPRanges...)
	}
	slices.Sort(dns)
	slices.SortFunc(ips, func(a, b *net.IPNet) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(dns), slices.CompactFunc(ips, func(a, b *net.IPNet) bool { return a.String() == b.String() })
}

func (ca *CA) sign() error {
	now := ca.now()
	spki, err := x509.MarshalPKIXPublicKey(&ca.key.PublicKey)
	if err != nil {
		return fmt.Errorf("encode the authority's key: %w", err)
	}
	id := sha1.Sum(spki) //nolint:gosec // as above
	dns, ips := ca.permitted()
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:                serial,
		Subject:                     pkix.Name{CommonName: fmt.Sprintf("Ebb local CA %x", id[:4]), Organization: []string{"Ebb"}},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(caLife),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		SubjectKeyId:                id[:],
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         dns,
		PermittedIPRanges:           ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		return fmt.Errorf("sign the authority: %w", err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("read the authority back: %w", err)
	}
	return replace(ca.path, ca.PEM(), 0o644)
}

func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// Path is where the authority's certificate is.
func (ca *CA) Path() string { return ca.path }

// PEM returns the authority's certificate.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// TLSConfig is the server's: its certificate renews itself.
func (ca *CA) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return ca.current() },
	}
}

// Pool holds the authority alone, for Ebb's own clients.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

func (ca *CA) current() (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	now := ca.now()
	if ca.leaf != nil && ca.leaf.Leaf.NotAfter.Sub(now) > leafSpare && now.After(ca.leaf.Leaf.NotBefore) {
		return ca.leaf, nil
	}
	leaf, err := ca.issue(now)
	if err != nil {
		return nil, err
	}
	ca.leaf = leaf
	return leaf, nil
}

func (ca *CA) issue(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server's key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(leafLife - backdate)
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Ebb", Organization: []string{"Ebb"}},
		NotBefore:    now.Add(-backdate),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     ca.dns,
		IPAddresses:  ca.ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the server's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate back: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
