package keys

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	return writeFile(filepath.Join(out, "operators.pem"), operators)
}
