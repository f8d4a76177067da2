package pseudonym

import (
	"crypto/x509"
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// Real is who a leaf verifiably belongs to.
type Real struct {
	User   Handle
	Client Handle
	Key    primitive.PublicKey // of the client credential
}

// Roots are the CA certificates of provider domains. They reach clients with
// the software or in their own provider's signed trust list; hubs play no part
// (SPEC.md §3).
type Roots map[string]*x509.CertPool

// Reveal opens and verifies the credential of a leaf: the checks of SPEC.md R-4
// that concern one leaf. Every failure is ErrUnverified. Conflicts makes those
// that concern all leaves.
func (c Credential) Reveal(linkKey primitive.Secret, roots Roots, now time.Time) (Real, error) {
	l, err := c.Open(linkKey)
	if err != nil {
		return Real{}, err
	}
	return l.Verify(c.TBS, roots, now)
}

// Verify checks that l is a link for t, which the caller rebuilt from the leaf:
// the chain leads to the CA of the pseudonym's host and is valid at now, the
// SANs name that domain, and the certified key signed t. Every failure is
// ErrUnverified.
func (l Link) Verify(t TBS, roots Roots, now time.Time) (Real, error) {
	host := t.User.Host()
	if t.Client.Host() != host {
		return Real{}, unverified("pseudonyms of two hosts")
	}
	real, err := VerifyChain(l.Chain, host, roots, now)
	if err != nil {
		return Real{}, err
	}
	if err := real.Key.VerifyWithLabel(labelCredential, t.Bytes(), l.Signature); err != nil {
		return Real{}, unverified("signature")
	}
	return real, nil
}

// VerifyChain checks a real client credential of a provider domain: one or two
// certificates that lead to a CA of the domain, valid at now, with exactly two
// URI SANs, one user's and one client's, both of the domain, and an Ed25519 or
// P-256 key (SPEC.md §3). Every failure is ErrUnverified.
func VerifyChain(chain [][]byte, domain string, roots Roots, now time.Time) (Real, error) {
	leaf, err := verifyPath(chain, roots[domain], now)
	if err != nil {
		return Real{}, err
	}
	user, client, err := handlesOf(leaf)
	if err != nil {
		return Real{}, err
	}
	if user.Domain() != domain || client.Domain() != domain {
		return Real{}, unverified("domain of the certificate")
	}
	key, err := primitive.PublicKeyOf(leaf.PublicKey)
	if err != nil {
		return Real{}, unverified("key algorithm")
	}
	return Real{User: user, Client: client, Key: key}, nil
}

// VerifyService checks the x509 identity of a hub or provider: at most two
// certificates that lead to a root in pool, valid at now, with the one DNS SAN
// domain. It returns the key that signs receipts, key configurations and franks
// (SPEC.md §3), or ErrUnverified.
func VerifyService(chain [][]byte, domain string, pool *x509.CertPool, now time.Time) (primitive.PublicKey, error) {
	leaf, err := verifyPath(chain, pool, now)
	if err != nil {
		return primitive.PublicKey{}, err
	}
	names, err := subjectAltNames(leaf)
	if err != nil || len(names) != 1 || names[0].tag != sanDNS || names[0].value != domain {
		return primitive.PublicKey{}, unverified("domain of the certificate")
	}
	key, err := primitive.PublicKeyOf(leaf.PublicKey)
	if err != nil {
		return primitive.PublicKey{}, unverified("key algorithm")
	}
	return key, nil
}

func verifyPath(chain [][]byte, pool *x509.CertPool, now time.Time) (*x509.Certificate, error) {
	// Without a pool the library would ask the operating system's.
	if pool == nil || len(chain) < 1 || len(chain) > 2 {
		return nil, unverified("no CA for the domain")
	}
	certs := make([]*x509.Certificate, 0, 2)
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, unverified("certificate does not parse")
		}
		certs = append(certs, c)
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil || certs[0].IsCA || certs[0].KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, unverified("certificate path")
	}
	return certs[0], nil
}

// GeneralName tags of RFC 5280 §4.2.1.6.
const (
	sanDNS = 2
	sanURI = 6
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

type generalName struct {
	tag   int
	value string
}

// subjectAltNames reads the names as the certificate writes them: the library's
// parsed URLs may print differently from what was signed.
func subjectAltNames(c *x509.Certificate) ([]generalName, error) {
	var names []generalName
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		der := cryptobyte.String(ext.Value)
		var seq cryptobyte.String
		if !der.ReadASN1(&seq, cryptobyte_asn1.SEQUENCE) || !der.Empty() {
			return nil, unverified("names do not parse")
		}
		for !seq.Empty() {
			var v cryptobyte.String
			var tag cryptobyte_asn1.Tag
			if !seq.ReadAnyASN1(&v, &tag) || tag&0xc0 != 0x80 {
				return nil, unverified("names do not parse")
			}
			names = append(names, generalName{tag: int(tag & 0x1f), value: string(v)})
		}
	}
	return names, nil
}

func handlesOf(c *x509.Certificate) (user, client Handle, err error) {
	names, err := subjectAltNames(c)
	if err != nil {
		return Handle{}, Handle{}, err
	}
	if len(names) != 2 {
		return Handle{}, Handle{}, unverified("names of the certificate")
	}
	for _, n := range names {
		h, err := ParseHandle(n.value)
		if err != nil || n.tag != sanURI {
			return Handle{}, Handle{}, unverified("names of the certificate")
		}
		if h.Kind() == User {
			user = h
		} else {
			client = h
		}
	}
	if user == (Handle{}) || client == (Handle{}) {
		return Handle{}, Handle{}, unverified("names of the certificate")
	}
	return user, client, nil
}

// Resolved is what a member knows of one leaf.
type Resolved struct {
	User ID     // user_pseudonym of the leaf
	Real Handle // the real user, zero if the leaf is unverified
}

// Conflicts makes the checks of SPEC.md R-4 across leaves. Split lists user
// pseudonyms whose leaves resolve to different real users: all leaves of such a
// pseudonym are unverified. Shared lists pseudonyms that resolve to a real user
// whom another pseudonym resolves to as well: they are to be flagged. Both are
// in the order of first appearance.
func Conflicts(leaves []Resolved) (split, shared []ID) {
	var order []ID
	realOf := map[ID]Handle{}
	isSplit := map[ID]bool{}
	for _, l := range leaves {
		if l.Real == (Handle{}) {
			continue
		}
		real, seen := realOf[l.User]
		if !seen {
			realOf[l.User] = l.Real
			order = append(order, l.User)
		} else if real != l.Real {
			isSplit[l.User] = true
		}
	}
	count := map[Handle]int{}
	for _, id := range order {
		if !isSplit[id] {
			count[realOf[id]]++
		}
	}
	for _, id := range order {
		switch {
		case isSplit[id]:
			split = append(split, id)
		case count[realOf[id]] > 1:
			shared = append(shared, id)
		}
	}
	return split, shared
}
