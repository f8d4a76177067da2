package pseudonym

import (
	"crypto/x509"
	"encoding/binary"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const (
	labelPackage  = "ConnectionPackageTBS"
	labelRequest  = "ConnectionRequestTBS"
	labelResponse = "ConnectionResponseTBS"

	labelSealedRequest  = "ConnectionRequest"
	labelSealedResponse = "ConnectionResponse"

	// sealedSize is the length of a padded SignedRequest or SignedResponse.
	sealedSize = 4096
	// MaxConnectionPackage is the longest serialized ConnectionPackage in bytes.
	MaxConnectionPackage = 8192
	// packageValidity is the longest validity of a package (SPEC.md R-30).
	packageValidity = 30 * 86400
)

// ConnectionPackage is a signed HPKE key by which strangers can send a user one
// connection request (SPEC.md §14, R-30).
type ConnectionPackage struct {
	Key        primitive.KEMPublicKey // encryption_key
	NotBefore  uint64                 // Unix seconds, inclusive
	NotAfter   uint64                 // Unix seconds, inclusive
	LastResort bool                   // served again and again when no other is left
	Chain      [][]byte               // client_credential, DER certificates
	Signature  []byte
}

// NewConnectionPackage signs a package for a fresh key.
func NewConnectionPackage(key primitive.KEMPublicKey, notBefore, notAfter uint64, lastResort bool, real RealIdentity) (*ConnectionPackage, error) {
	p := &ConnectionPackage{Key: key, NotBefore: notBefore, NotAfter: notAfter, LastResort: lastResort, Chain: real.Chain}
	if !p.valid() {
		return nil, mmrerr.Malformed
	}
	var err error
	p.Signature, err = real.Key.SignWithLabel(labelPackage, p.tbs())
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *ConnectionPackage) tbs() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(p.Key.KEM()))
	b = codec.AppendVector(b, p.Key.Bytes())
	b = binary.BigEndian.AppendUint64(b, p.NotBefore)
	b = binary.BigEndian.AppendUint64(b, p.NotAfter)
	last := uint8(0)
	if p.LastResort {
		last = 1
	}
	return appendChain(append(b, last), p.Chain)
}

func (p *ConnectionPackage) valid() bool {
	return p.Key.KEM().Valid() && p.NotAfter >= p.NotBefore && p.NotAfter-p.NotBefore <= packageValidity &&
		len(p.Chain) >= 1 && len(p.Chain) <= 2
}

// AppendBinary appends the serialized package.
func (p *ConnectionPackage) AppendBinary(b []byte) ([]byte, error) {
	return codec.AppendVector(append(b, p.tbs()...), p.Signature), nil
}

// Hash returns package_hash, H of the serialized package, which is also the
// package_ref that requests to it are filed under.
func (p *ConnectionPackage) Hash() [32]byte {
	b, _ := p.AppendBinary(nil)
	return primitive.Hash(b)
}

// ParseConnectionPackage reads a serialized package. A validity above 30 days
// is mmr/malformed.
func ParseConnectionPackage(b []byte) (*ConnectionPackage, error) {
	r := codec.NewReader(b)
	kem := primitive.KEM(r.Uint16())
	raw := r.Vector(primitive.XWing.PublicKeySize())
	p := &ConnectionPackage{NotBefore: r.Uint64(), NotAfter: r.Uint64()}
	last := r.Uint8()
	p.LastResort = last == 1
	p.Chain = readChain(r)
	p.Signature = r.Vector(maxSignature)
	if r.Done() != nil || last > 1 || len(b) > MaxConnectionPackage {
		return nil, mmrerr.Malformed
	}
	var err error
	if p.Key, err = primitive.ParseKEMPublicKey(kem, raw); err != nil || !p.valid() {
		return nil, mmrerr.Malformed
	}
	return p, nil
}

// Verify makes the fetcher's checks of SPEC.md R-30: the package is valid at
// now, its credential leads to the CA of user's domain and names user, and the
// certified key signed it. Failures are ErrUnverified.
func (p *ConnectionPackage) Verify(user Handle, roots Roots, now time.Time) (Real, error) {
	if s := now.Unix(); s < 0 || uint64(s) < p.NotBefore || uint64(s) > p.NotAfter {
		return Real{}, unverified("package is not valid now")
	}
	return verifySigned(p.Chain, user, roots, now, labelPackage, p.tbs(), p.Signature)
}

// verifySigned checks a chain, that it names user, and a signature by its key.
func verifySigned(chain [][]byte, user Handle, roots Roots, now time.Time, label string, tbs, signature []byte) (Real, error) {
	real, err := VerifyChain(chain, user.Domain(), roots, now)
	if err != nil {
		return Real{}, err
	}
	if user.Kind() != User || real.User != user {
		return Real{}, unverified("another user")
	}
	if err := real.Key.VerifyWithLabel(label, tbs, signature); err != nil {
		return Real{}, unverified("signature")
	}
	return real, nil
}

// claimedUser returns the user that a chain claims to belong to.
func claimedUser(chain [][]byte) (Handle, error) {
	if len(chain) == 0 {
		return Handle{}, unverified("no certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return Handle{}, unverified("certificate does not parse")
	}
	user, _, err := handlesOf(leaf)
	return user, err
}

// sealPadded is HPKE-L of Padded(b, 4096), serialized.
func sealPadded(to primitive.KEMPublicKey, label string, context, b []byte) ([]byte, error) {
	padded, ok := primitive.AppendPadded(nil, b, sealedSize)
	if !ok {
		return nil, mmrerr.TooLarge
	}
	c, err := to.SealWithLabel(label, context, padded)
	if err != nil {
		return nil, err
	}
	return c.Append(nil), nil
}

func openPadded(key *primitive.KEMPrivateKey, label string, context, sealed []byte) ([]byte, error) {
	r := codec.NewReader(sealed)
	c := primitive.ReadHPKECiphertext(r, sealedSize+primitive.TagSize)
	if r.Done() != nil || len(c.Ciphertext) != sealedSize+primitive.TagSize {
		return nil, mmrerr.Malformed
	}
	padded, err := key.OpenWithLabel(label, context, c)
	if err != nil {
		return nil, err
	}
	b, err := primitive.ParsePadded(padded)
	if err != nil {
		return nil, mmrerr.Malformed
	}
	return b, nil
}

func validDomains(domains ...string) bool {
	for _, d := range domains {
		if !seal.ValidDomain(d) {
			return false
		}
	}
	return true
}
