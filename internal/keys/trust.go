package keys

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MakeTrust makes or extends a trust directory for clients, and operators.pem
// for daemons, from the public parts of key directories:
//
//	operators.pem            roots of hubs and relays
//	providers/{domain}.pem   roots of users' credentials
func MakeTrust(out string, dirs []string) error {
	operators, err := os.ReadFile(filepath.Join(out, "operators.pem"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, d := range dirs {
		certs, err := readCertificates(filepath.Join(d, "public", "operator.pem"))
		if err != nil {
			return err
		}
		id, err := readCertificates(filepath.Join(d, "public", "identity.pem"))
		if err != nil {
			return err
		}
		if len(id[0].DNSNames) != 1 {
			return fmt.Errorf("%s: %w: no domain in identity.pem", d, ErrFile)
		}
		if domain := id[0].DNSNames[0]; !certs[0].PermittedDNSDomainsCritical || !slices.Contains(certs[0].PermittedDNSDomains, domain) {
			return fmt.Errorf("%s: operator.pem is not limited to %s: it could certify any operator's services", d, domain)
		}
		operators = append(operators, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: certs[0].Raw})...)
		clients, err := readCertificates(filepath.Join(d, "public", "clients.pem"))
		if errors.Is(err, os.ErrNotExist) {
			continue // a hub
		}
		if err != nil {
			return err
		}
		if err := writePEM(filepath.Join(out, "providers", id[0].DNSNames[0]+".pem"), pemCertificate, clients[0].Raw); err != nil {
			return err
		}
	}
	if err := disjoint(operators); err != nil {
		return err
	}
	return writeFile(filepath.Join(out, "operators.pem"), operators)
}

// disjoint makes sure that no operator's root is good for another's domain.
func disjoint(bundle []byte) error {
	var roots []*x509.Certificate
	for b, rest := pem.Decode(bundle); b != nil; b, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return ErrFile
		}
		roots = append(roots, c)
	}
	for _, a := range roots {
		for _, b := range roots {
			for _, p := range a.PermittedDNSDomains {
				if len(b.PermittedDNSDomains) == 0 || a.PermittedDNSDomains[0] == b.PermittedDNSDomains[0] {
					continue
				}
				if own := b.PermittedDNSDomains[0]; own == p || strings.HasSuffix(own, "."+strings.TrimPrefix(p, ".")) {
					return fmt.Errorf("the root of %s is good for %s, too", a.PermittedDNSDomains[0], own)
				}
			}
		}
	}
	return nil
}
