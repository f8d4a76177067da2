package keys

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/url"
	"time"

	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Lifetimes of what a provider issues to its clients.
const (
	credentialLifetime = 180 * 24 * time.Hour
	sessionLifetime    = 90 * 24 * time.Hour
	maxCSR             = 4096
)

// ErrRequest reports a certificate request that is not well-formed, not signed
// by its own key, or for a key of another kind than Ed25519 or P-256.
var ErrRequest = errors.New("keys: certificate request refused")

// IssueCredential issues a client credential (SPEC.md §3): URI SANs
// mimi://{domain}/u/{user} and mimi://{domain}/d/{client}. Nothing of the
// request but its key is used. The chain is DER, leaf first, without the root,
// and of one size class for all clients (SPEC.md R-6).
func (s *Set) IssueCredential(csr []byte, user, client string, now time.Time) ([][]byte, error) {
	if len(csr) > maxCSR {
		return nil, ErrRequest
	}
	u, err := pseudonym.NewHandle(s.domain, pseudonym.User, user)
	if err != nil {
		return nil, err
	}
	c, err := pseudonym.NewHandle(s.domain, pseudonym.Client, client)
	if err != nil {
		return nil, err
	}
	return s.ca.IssueClient(csr, u, c, now, credentialLifetime)
}

// IssueSession issues the certificate of an account session: the same names,
// another key, good for TLS clients only.
func (s *Set) IssueSession(csr []byte, user, client string, now time.Time) ([][]byte, error) {
	return s.issueClient(csr, user, client, now, sessionLifetime, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
}

func (s *Set) issueClient(csr []byte, user, client string, now time.Time, lifetime time.Duration, usage []x509.ExtKeyUsage) ([][]byte, error) {
	if len(csr) > maxCSR {
		return nil, ErrRequest
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil || req.CheckSignature() != nil {
		return nil, ErrRequest
	}
	switch k := req.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, ErrRequest
		}
	default:
		return nil, ErrRequest
	}
	// Whole days: the second of a registration would be an identifier.
	day := now.UTC().Truncate(24 * time.Hour)
	t := &x509.Certificate{
		SerialNumber: serial(), NotBefore: day, NotAfter: day.Add(lifetime + 24*time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage, BasicConstraintsValid: true,
		URIs: []*url.URL{
			{Scheme: "mimi", Host: s.domain, Path: "/u/" + user},
			{Scheme: "mimi", Host: s.domain, Path: "/d/" + client},
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, s.clients.cert, req.PublicKey, s.clients.key)
	if err != nil {
		return nil, err
	}
	return [][]byte{der}, nil
}
