package client

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Trust is what a client believes: it comes with the software or from the
// user's provider, never from a hub (SPEC.md §3).
type Trust struct {
	// Operators are the roots of hubs and relays: their TLS certificates and the
	// identities that sign key configurations and receipts.
	Operators *x509.CertPool
	// Providers are the roots of users' credentials, by domain.
	Providers pseudonym.Roots
}

// LoadTrust reads a trust directory as 'mmr keygen trust' makes it:
// operators.pem, and providers/{domain}.pem for each provider.
func LoadTrust(dir string) (*Trust, error) {
	t := &Trust{Providers: make(pseudonym.Roots)}
	var err error
	if t.Operators, err = readPool(filepath.Join(dir, "operators.pem")); err != nil {
		return nil, fmt.Errorf("reading trust: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "providers", "*.pem"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		pool, err := readPool(f)
		if err != nil {
			return nil, fmt.Errorf("reading trust: %w", err)
		}
		t.Providers[strings.TrimSuffix(filepath.Base(f), ".pem")] = pool
	}
	if len(t.Providers) == 0 {
		return nil, errors.New("reading trust: no provider roots in providers/")
	}
	return t, nil
}

func readPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	n := 0
	for b, rest := pem.Decode(data); b != nil; b, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("%s: no certificate", filepath.Base(path))
	}
	return pool, nil
}
