package primitive

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Algorithm names a signature algorithm by its TLS SignatureScheme value, as
// RFC 9420 §17.1 does.
type Algorithm uint16

// The signature algorithms of the profile.
const (
	ECDSAP256 Algorithm = 0x0403 // ECDSA over P-256 with SHA-256, DER signatures
	Ed25519   Algorithm = 0x0807
)

// String returns the algorithm's name.
func (a Algorithm) String() string {
	switch a {
	case ECDSAP256:
		return "ECDSA P-256"
	case Ed25519:
		return "Ed25519"
	}
	return "unknown"
}

// SuiteAlgorithm returns the signature algorithm of an MLS cipher suite that
// the profile admits: 0x0001 and 0x0003 have Ed25519, 0x0002 ECDSA P-256
// (SPEC.md §1).
func SuiteAlgorithm(suite uint16) (Algorithm, bool) {
	switch suite {
	case 1, 3:
		return Ed25519, true
	case 2:
		return ECDSAP256, true
	}
	return 0, false
}

// Signer signs with SWL, RFC 9420 §5.1.2. A SigningKey is one; a client whose
// leaf keys live in the MLS engine, or a daemon whose key lives in hardware,
// adapts its own.
type Signer interface {
	// Public returns the key that verifies.
	Public() PublicKey
	// SignWithLabel signs content under label, which comes without the
	// "MLS 1.0 " prefix.
	SignWithLabel(label string, content []byte) ([]byte, error)
}

// SignContent returns the bytes that SWL signs: the serialized SignContent of
// RFC 9420 §5.1.2 with the prefixed label.
func SignContent(label string, content []byte) []byte {
	b := make([]byte, 0, 1+len(labelPrefix)+len(label)+4+len(content))
	b = codec.AppendVector(b, labelPrefix+label)
	return codec.AppendVector(b, content)
}

// PublicKey is a signature verification key that has been checked to be one.
// It can be compared with ==; the zero PublicKey verifies nothing.
type PublicKey struct {
	alg Algorithm
	raw string
}

// ParsePublicKey reads a SignaturePublicKey (RFC 9420 §5.1.1): 32 bytes for
// Ed25519, the 65 bytes of an uncompressed point on the curve for P-256.
// Anything else is ErrMalformed.
func ParsePublicKey(alg Algorithm, raw []byte) (PublicKey, error) {
	switch alg {
	case Ed25519:
		if len(raw) != ed25519.PublicKeySize {
			return PublicKey{}, ErrMalformed
		}
	case ECDSAP256:
		if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw); err != nil {
			return PublicKey{}, ErrMalformed
		}
	default:
		return PublicKey{}, ErrMalformed
	}
	return PublicKey{alg: alg, raw: string(raw)}, nil
}

// PublicKeyOf converts a key of the standard library, such as the one of an
// X.509 certificate. Keys of other algorithms are ErrMalformed.
func PublicKeyOf(key crypto.PublicKey) (PublicKey, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ParsePublicKey(Ed25519, k)
	case *ecdsa.PublicKey:
		if k == nil || k.Curve != elliptic.P256() {
			return PublicKey{}, ErrMalformed
		}
		raw, err := k.Bytes()
		if err != nil {
			return PublicKey{}, ErrMalformed
		}
		return ParsePublicKey(ECDSAP256, raw)
	}
	return PublicKey{}, ErrMalformed
}

// Algorithm returns the key's algorithm, 0 for the zero PublicKey.
func (k PublicKey) Algorithm() Algorithm { return k.alg }

// String returns the algorithm's name: a key is an identifier and is not
// printed.
func (k PublicKey) String() string { return k.alg.String() + " key" }

// Bytes returns the SignaturePublicKey encoding that ParsePublicKey reads.
func (k PublicKey) Bytes() []byte { return []byte(k.raw) }

// Std returns the key as one of the standard library, for X.509; nil for the
// zero PublicKey.
func (k PublicKey) Std() crypto.PublicKey {
	switch k.alg {
	case Ed25519:
		return ed25519.PublicKey(k.raw)
	case ECDSAP256:
		if pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), []byte(k.raw)); err == nil {
			return pub
		}
	}
	return nil
}

// VerifyWithLabel checks an SWL signature over content and returns ErrVerify
// unless it is one by this key.
func (k PublicKey) VerifyWithLabel(label string, content, signature []byte) error {
	msg := SignContent(label, content)
	switch k.alg {
	case Ed25519:
		if ed25519.Verify(ed25519.PublicKey(k.raw), msg, signature) {
			return nil
		}
	case ECDSAP256:
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), []byte(k.raw))
		digest := sha256.Sum256(msg)
		if err == nil && ecdsa.VerifyASN1(pub, digest[:], signature) {
			return nil
		}
	}
	return ErrVerify
}
