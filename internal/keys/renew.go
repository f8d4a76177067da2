package keys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Renew has the operator's root in the directory operator certify a deployment
// again: listeners with a new key, for the names they have and hosts besides;
// identities with the keys they have, since rooms keep those (SPEC.md R-111). A
// running daemon reads the listeners' certificate again by itself, and the
// identity when it starts. No certificate outlives the root.
func Renew(dir, operator string, role Role, domain string, hosts []string, now time.Time) error {
	root, err := loadAuthority(filepath.Join(operator, "operator"))
	if err != nil {
		return err
	}
	if !now.Before(root.cert.NotAfter) {
		return fmt.Errorf("%w: the operator's root has expired: make a new deployment", ErrExpired)
	}
	if _, err := Load(dir, role, domain); err != nil {
		return err
	}
	had, err := readCertificates(filepath.Join(dir, "tls.crt"))
	if err != nil {
		return err
	}
	// All is read and checked before anything is written.
	names := []string{"identity"}
	if _, err := os.Stat(filepath.Join(dir, identityP256+".key")); role == Hub && !errors.Is(err, os.ErrNotExist) {
		names = append(names, identityP256)
	}
	for _, name := range names {
		key, err := readKey(filepath.Join(dir, name+".key"))
		if err != nil {
			return err
		}
		if err := root.issueIdentityFor(filepath.Join(dir, name), domain, key, now); err != nil {
			return err
		}
	}
	for _, ip := range had[0].IPAddresses {
		hosts = append(hosts, ip.String())
	}
	hosts = append(hosts, had[0].DNSNames...)
	hosts = slices.DeleteFunc(hosts, func(h string) bool { return h == domain })
	slices.Sort(hosts)
	if err := root.issueTLS(dir, domain, slices.Compact(hosts), now); err != nil {
		return err
	}
	return publish(dir, root)
}

// publish copies what others need to public/.
func publish(dir string, root *authority) error {
	identity, err := readCertificates(filepath.Join(dir, "identity.crt"))
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, "public", "operator.pem"), pemCertificate, root.cert.Raw),
		writePEM(filepath.Join(dir, "public", "identity.pem"), pemCertificate, identity[0].Raw),
	)
}

// Expiry says when a certificate of a deployment ends.
type Expiry struct {
	Name     string // of its file, without .crt
	NotAfter time.Time
}

// Expiries lists the certificates in a key directory.
func (s *Set) Expiries() ([]Expiry, error) {
	var out []Expiry
	for _, name := range []string{"tls", "identity", identityP256, "clients", "operator"} {
		certs, err := readCertificates(filepath.Join(s.dir, name+".crt"))
		if errors.Is(err, os.ErrNotExist) {
			continue // a relay has one identity, a hub no clients, and the root may be elsewhere
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Expiry{name, certs[0].NotAfter})
	}
	return out, nil
}

// dnsNames are those of hosts that are no addresses.
func dnsNames(hosts []string) []string {
	return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return net.ParseIP(h) != nil })
}
