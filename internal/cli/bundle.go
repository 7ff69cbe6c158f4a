package cli

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ebb-compute/ebb/client"
)

// systemRoots are where Linux distributions keep the CAs they trust; the
// first that is there counts.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch, Alpine
	"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
	"/etc/ssl/ca-bundle.pem",                            // openSUSE
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7
	"/etc/ssl/cert.pem",                                 // Alpine, macOS
}

// bundleVariables name the CA files of the clients there are: requests,
// OpenSSL and Go, curl, Node.
var bundleVariables = []string{"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}

// writeBundle writes one PEM file with the system's roots, the user's own
// bundles, and the server's CA, each certificate once.
func writeBundle(path string, f client.File, getenv func(string) string) error {
	var sources []string
	for _, root := range systemRoots {
		if _, err := os.Stat(root); err == nil {
			sources = append(sources, root)
			break
		}
	}
	for _, name := range bundleVariables {
		if own := getenv(name); own != "" {
			sources = append(sources, own)
		}
	}
	var out bytes.Buffer
	seen := map[string]bool{}
	for _, source := range sources {
		// A bundle of the user's that is not there helped nobody before either.
		for _, file := range filesOf(source) {
			if b, err := os.ReadFile(file); err == nil {
				addCerts(&out, seen, b)
			}
		}
	}
	if f.CA != "" {
		b, err := os.ReadFile(f.CA)
		if err != nil {
			return fmt.Errorf("read the server's CA: %w", err)
		}
		addCerts(&out, seen, b)
	}
	return os.WriteFile(path, out.Bytes(), 0o600)
}

// filesOf lists the files of a folder of certificates, which requests takes too.
func filesOf(path string) []string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{path}
	}
	files := make([]string, len(entries))
	for i, e := range entries {
		files[i] = filepath.Join(path, e.Name())
	}
	return files
}

func addCerts(out *bytes.Buffer, seen map[string]bool, b []byte) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return
		}
		if block.Type == "CERTIFICATE" && !seen[string(block.Bytes)] {
			seen[string(block.Bytes)] = true
			_ = pem.Encode(out, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // a Buffer takes everything
		}
	}
}
