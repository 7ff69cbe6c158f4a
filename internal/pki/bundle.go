package pki

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// systemRoots are the files where systems keep the authorities they trust, as
// crypto/x509 looks for them.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/pki/tls/certs/ca-bundle.crt",                  // older RHEL
	"/etc/ssl/ca-bundle.pem",                            // SUSE
	"/etc/pki/tls/cacert.pem",
	"/etc/ssl/cert.pem", // Alpine, BSD, macOS
}

// Bundle writes the authorities that the system trusts, and this one after
// them, to path: Python's requests takes one file and forgets its own. The
// user's SSL_CERT_FILE stands for the system's where it is set. A system
// without any gives a bundle of this authority alone.
func (ca *CA) Bundle(path string) error {
	roots, err := readRoots()
	if err != nil {
		return err
	}
	return replace(path, append(roots, ca.PEM()...), 0o644)
}

func readRoots() ([]byte, error) {
	if f := os.Getenv("SSL_CERT_FILE"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read the authorities that SSL_CERT_FILE names: %w", err)
		}
		return certificates(b), nil
	}
	for _, f := range systemRoots {
		if b, err := os.ReadFile(f); err == nil {
			if certs := certificates(b); len(certs) > 0 {
				return certs, nil
			}
		}
	}
	return nil, nil
}

// certificates drops all but certificates: a bundle is handed around, and must
// not spread a key that somebody kept in the same file.
func certificates(b []byte) []byte {
	var out bytes.Buffer
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return out.Bytes()
		}
		if block.Type == "CERTIFICATE" {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
}

// replace puts a file in place so that a crash leaves the old one or the new
// one, whole and on disk.
func replace(path string, b []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return errors.Join(f.Close(), syncFolder(filepath.Dir(path)))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
