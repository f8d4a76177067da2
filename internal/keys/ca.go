package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"path/filepath"
	"time"
)

// Lifetimes of what keygen issues. Rooms keep the identity of their hub (SPEC.md
// R-111), and nobody can come to a room any more when that has expired: it lasts
// as long as the root.
const (
	rootLifetime     = 10 * 365 * 24 * time.Hour
	tlsLifetime      = 397 * 24 * time.Hour
	identityLifetime = rootLifetime
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // crypto/rand does not fail
	return n
}

// newAuthority makes a self-signed root. An operator's root is good for its own
// names only: peers and clients trust the roots of all operators, and without
// the constraint each could certify a service of another's domain.
func newAuthority(name string, names []string, now time.Time) (*authority, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(rootLifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	if len(names) > 0 {
		t.PermittedDNSDomainsCritical, t.PermittedDNSDomains = true, names
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert, key}, nil
}

func loadAuthority(base string) (*authority, error) {
	certs, err := readCertificates(base + ".crt")
	if err != nil {
		return nil, err
	}
	key, err := readKey(base + ".key")
	if err != nil {
		return nil, err
	}
	return &authority{certs[0], key}, nil
}

func (a *authority) save(base string) error {
	if err := writeKey(base+".key", a.key); err != nil {
		return err
	}
	return writePEM(base+".crt", pemCertificate, a.cert.Raw)
}

// issue signs a certificate for a key and saves both. It does not outlive the
// authority's own.
func (a *authority) issue(base string, t *x509.Certificate, key crypto.Signer) error {
	t.SerialNumber = serial()
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	if err := writeKey(base+".key", key); err != nil {
		return err
	}
	return writePEM(base+".crt", pemCertificate, der)
}

// issueTLS issues the certificate of a daemon's listeners and outgoing calls.
// Its first DNS name is the domain; hosts are further names and addresses.
func (a *authority) issueTLS(dir, domain string, hosts []string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: domain}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(tlsLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{domain},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.issue(filepath.Join(dir, "tls"), t, key)
}

// issueIdentity issues the x509 identity that signs key configurations,
// receipts and franks: another key than the TLS key (SPEC.md §3).
func (a *authority) issueIdentity(dir, domain string, now time.Time) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	return a.issueIdentityFor(filepath.Join(dir, "identity"), domain, key, now)
}

// issueIdentityP256 issues a hub's identity for rooms whose suite signs with
// P-256: an external sender signs with the scheme of the room (SPEC.md §3).
func (a *authority) issueIdentityP256(dir, domain string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return a.issueIdentityFor(filepath.Join(dir, identityP256), domain, key, now)
}

func (a *authority) issueIdentityFor(base, domain string, key crypto.Signer, now time.Time) error {
	return a.issue(base, &x509.Certificate{
		Subject: pkix.Name{CommonName: domain}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(identityLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{domain},
	}, key)
}
