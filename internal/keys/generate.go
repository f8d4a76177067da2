package keys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Generate makes the key directory of a new deployment. hosts are DNS names and
// addresses besides the domain that the TLS certificate is good for. An existing
// directory that holds an operator root is refused: keys are not overwritten.
func Generate(dir string, role Role, domain string, hosts []string, now time.Time) error {
	if !seal.ValidDomain(domain) {
		return fmt.Errorf("%q is not a lower-case domain with at least one dot", domain)
	}
	if _, err := os.Stat(filepath.Join(dir, "operator.key")); err == nil {
		return fmt.Errorf("%s holds keys already", dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	root, err := newAuthority(domain+" operator", append([]string{domain}, dnsNames(hosts)...), now)
	if err != nil {
		return err
	}
	if err := root.issueTLS(dir, domain, hosts, now); err != nil {
		return err
	}
	if err := root.issueIdentity(dir, domain, now); err != nil {
		return err
	}
	if role == Hub {
		if err := root.issueIdentityP256(dir, domain, now); err != nil {
			return err
		}
	}
	secret := primitive.NewSecret()
	if err := writePEM(filepath.Join(dir, "secret.pem"), pemSecret, secret.Bytes()); err != nil {
		return err
	}
	if role == Provider {
		clients, err := newAuthority(domain+" clients", nil, now)
		if err != nil {
			return err
		}
		if err := clients.save(filepath.Join(dir, "clients")); err != nil {
			return err
		}
		if err := writePEM(filepath.Join(dir, "public", "clients.pem"), pemCertificate, clients.cert.Raw); err != nil {
			return err
		}
	}
	if err := publish(dir, root); err != nil {
		return err
	}
	// Last: its presence says that the directory is complete.
	if err := root.save(filepath.Join(dir, "operator")); err != nil {
		return err
	}
	s, err := Load(dir, role, domain)
	if err != nil {
		return err
	}
	return s.Rotate(now)
}
