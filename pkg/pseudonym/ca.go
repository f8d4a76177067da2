package pseudonym

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const (
	backdate = time.Hour // clocks differ

	// maxTBESignature is the longest signature of a real key: ECDSA P-256, DER.
	maxTBESignature = 72
	// tbeOverhead is what IdentityLinkTBE and Padded add to the certificates.
	tbeOverhead = 4 + 2 + maxTBESignature + 2
	// certSlack covers what lengths of times and P-256 signatures vary by.
	certSlack = 16
)

// oidFiller is an extension without meaning, under the arc for UUIDs (2.25):
// it makes all client certificates of a provider about equally long.
var oidFiller = asn1.ObjectIdentifier{2, 25, 1903142531}

// CA issues the real credentials of one provider domain. All its clients' links
// have the same size (SPEC.md R-6): a certificate that would make a link
// shorter than that class carries filler. It is safe for concurrent use.
type CA struct {
	domain       string
	cert         *x509.Certificate
	der          []byte
	intermediate bool
	key          crypto.Signer
	size         int // n of R-6
	floor        int // shortest serialized chain
}

// NewRoot returns a self-signed CA certificate of a domain, for CA roots that
// clients trust and for NewCA.
func NewRoot(domain string, key *primitive.SigningKey, notBefore time.Time, lifetime time.Duration) ([]byte, error) {
	if !seal.ValidDomain(domain) {
		return nil, mmrerr.Malformed
	}
	tmpl, err := caTemplate(domain+" mmr root", key, notBefore, lifetime)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Std().Public(), key.Std())
}

// NewIntermediate returns the certificate of an intermediate CA signed by a
// root.
func NewIntermediate(domain string, root []byte, rootKey, key *primitive.SigningKey, notBefore time.Time, lifetime time.Duration) ([]byte, error) {
	parent, err := x509.ParseCertificate(root)
	if err != nil || !seal.ValidDomain(domain) {
		return nil, mmrerr.Malformed
	}
	tmpl, err := caTemplate(domain+" mmr clients", key, notBefore, lifetime)
	if err != nil {
		return nil, err
	}
	tmpl.MaxPathLenZero = true
	return x509.CreateCertificate(rand.Reader, tmpl, parent, key.Std().Public(), rootKey.Std())
}

func caTemplate(name string, key *primitive.SigningKey, notBefore time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(key.Public().Bytes())
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: truncate(name, 64)},
		NotBefore:             notBefore,
		NotAfter:              notBefore.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          id[:20],
	}, nil
}

// NewCA returns the CA of a domain with its certificate, a root or an
// intermediate, and its key. Intermediates become part of every chain. It fails
// if the longest client certificate does not fit the largest size of R-6.
func NewCA(domain string, cert []byte, key *primitive.SigningKey) (*CA, error) {
	parsed, err := x509.ParseCertificate(cert)
	if err != nil || !parsed.IsCA || !seal.ValidDomain(domain) {
		return nil, mmrerr.Malformed
	}
	if pub, err := primitive.PublicKeyOf(parsed.PublicKey); err != nil || pub != key.Public() {
		return nil, errors.New("pseudonym: CA certificate and key do not belong together")
	}
	ca := &CA{domain: domain, cert: parsed, der: cert, key: key.Std(), intermediate: parsed.CheckSignatureFrom(parsed) != nil}
	longest, err := ca.longestChain()
	if err != nil {
		return nil, err
	}
	for i, n := range linkSizes {
		if longest+tbeOverhead > n {
			continue
		}
		ca.size = n
		if i > 0 {
			ca.floor = linkSizes[i-1]
		}
		return ca, nil
	}
	return nil, errors.New("pseudonym: certificates of the domain do not fit a link")
}

// longestChain issues a certificate with the longest names and key.
func (ca *CA) longestChain() (int, error) {
	key, err := primitive.GenerateSigningKey(primitive.ECDSAP256)
	if err != nil {
		return 0, err
	}
	user, err1 := NewHandle(ca.domain, User, strings.Repeat("x", 64))
	client, err2 := NewHandle(ca.domain, Client, strings.Repeat("x", 64))
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	chain, err := ca.sign(key.Std().Public(), []string{user.uri, client.uri}, "", ca.cert.NotBefore, ca.cert.NotAfter, 0)
	if err != nil {
		return 0, err
	}
	return len(AppendCertificates(nil, chain)) + certSlack, nil
}

// LinkSize returns n of SPEC.md R-6, the plaintext size of all its clients'
// links.
func (ca *CA) LinkSize() int { return ca.size }

// IssueClient signs the credential of a client for the key in a PKCS #10
// request, valid from a little before now. Names in the request are ignored.
// Handles of another domain or kind, and requests that are not well-formed and
// self-signed with an Ed25519 or P-256 key, are mmr/malformed. The chain is DER,
// end entity first.
func (ca *CA) IssueClient(csr []byte, user, client Handle, now time.Time, lifetime time.Duration) ([][]byte, error) {
	if user.Kind() != User || client.Kind() != Client || user.Domain() != ca.domain || client.Domain() != ca.domain {
		return nil, mmrerr.Malformed
	}
	key, err := ParseCSR(csr)
	if err != nil {
		return nil, err
	}
	std := key.Std()
	names := []string{user.uri, client.uri}
	notBefore, notAfter := now.Add(-backdate), now.Add(lifetime)
	chain, err := ca.sign(std, names, "", notBefore, notAfter, 0)
	if err != nil {
		return nil, err
	}
	if missing := ca.floor - len(AppendCertificates(nil, chain)); missing > 0 {
		return ca.sign(std, names, "", notBefore, notAfter, missing+certSlack)
	}
	return chain, nil
}

// IssueService signs the x509 identity of a hub or provider with the DNS SAN
// domain.
func (ca *CA) IssueService(key primitive.PublicKey, domain string, now time.Time, lifetime time.Duration) ([][]byte, error) {
	if key.Algorithm() == 0 || !seal.ValidDomain(domain) {
		return nil, mmrerr.Malformed
	}
	return ca.sign(key.Std(), nil, domain, now.Add(-backdate), now.Add(lifetime), 0)
}

func (ca *CA) sign(pub crypto.PublicKey, uris []string, dns string, notBefore, notAfter time.Time, filler int) ([][]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    notBefore,
		NotAfter:     earlier(notAfter, ca.cert.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			return nil, mmrerr.Malformed
		}
		tmpl.URIs = append(tmpl.URIs, u)
	}
	if dns != "" {
		tmpl.DNSNames = []string{dns}
	}
	if filler > 0 {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oidFiller, Value: make([]byte, filler)}}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	if ca.intermediate {
		return [][]byte{der, ca.der}, nil
	}
	return [][]byte{der}, nil
}

// NewCSR returns a PKCS #10 request, DER, without names, for a client's real
// key.
func NewCSR(key *primitive.SigningKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key.Std())
}

// ParseCSR checks a PKCS #10 request's own signature and returns its key, or
// mmr/malformed.
func ParseCSR(der []byte) (primitive.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		return primitive.PublicKey{}, mmrerr.Malformed
	}
	key, err := primitive.PublicKeyOf(csr.PublicKey)
	if err != nil {
		return primitive.PublicKey{}, mmrerr.Malformed
	}
	return key, nil
}

// newSerial returns a positive number whose encoding always has 16 bytes.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func truncate(s string, n int) string { return s[:min(len(s), n)] }
