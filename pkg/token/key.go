package token

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
)

const (
	modulusBits = 2048
	exponent    = 65537 // the only one accepted (decision)
)

var (
	oidRSASSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSHA384    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
)

// subjectPublicKeyInfo is the SPKI of RFC 9578 §6.5.
type subjectPublicKeyInfo struct {
	Algorithm pssAlgorithm
	PublicKey asn1.BitString
}

type pssAlgorithm struct {
	OID    asn1.ObjectIdentifier
	Params pssParams
}

type pssParams struct {
	Hash       pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
	MGF        mgfAlgorithm             `asn1:"explicit,tag:1"`
	SaltLength int                      `asn1:"explicit,tag:2"`
}

type mgfAlgorithm struct {
	OID  asn1.ObjectIdentifier
	Hash pkix.AlgorithmIdentifier
}

type rsaPublicKey struct {
	N *big.Int
	E int
}

// PublicKey is an issuer's public key. It is safe for concurrent use.
type PublicKey struct {
	rsa  *rsa.PublicKey
	spki []byte
	id   KeyID
}

// ParsePublicKey reads an issuer's SPKI. Only the encoding of RFC 9578 §6.5 is
// accepted, with a modulus of 2048 bits (SPEC.md R-83) and the exponent 65537;
// anything else is ErrMalformed.
func ParsePublicKey(spki []byte) (*PublicKey, error) {
	var info subjectPublicKeyInfo
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) != 0 {
		return nil, ErrMalformed
	}
	var raw rsaPublicKey
	if rest, err := asn1.Unmarshal(info.PublicKey.RightAlign(), &raw); err != nil || len(rest) != 0 {
		return nil, ErrMalformed
	}
	key, err := newPublicKey(&rsa.PublicKey{N: raw.N, E: raw.E})
	if err != nil {
		return nil, err
	}
	// One key has one encoding: whatever the parsers above put up with is gone
	// in ours.
	if !bytes.Equal(key.spki, spki) {
		return nil, ErrMalformed
	}
	return key, nil
}

func newPublicKey(key *rsa.PublicKey) (*PublicKey, error) {
	if key.N == nil || key.N.Sign() <= 0 || key.N.BitLen() != modulusBits || key.N.Bit(0) == 0 || key.E != exponent {
		return nil, ErrMalformed
	}
	raw, err := asn1.Marshal(rsaPublicKey{N: key.N, E: key.E})
	if err != nil {
		return nil, ErrMalformed
	}
	sha384 := pkix.AlgorithmIdentifier{Algorithm: oidSHA384}
	spki, err := asn1.Marshal(subjectPublicKeyInfo{
		Algorithm: pssAlgorithm{OID: oidRSASSAPSS, Params: pssParams{
			Hash: sha384, MGF: mgfAlgorithm{OID: oidMGF1, Hash: sha384}, SaltLength: 48,
		}},
		PublicKey: asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)},
	})
	if err != nil {
		return nil, ErrMalformed
	}
	return &PublicKey{rsa: key, spki: spki, id: sha256.Sum256(spki)}, nil
}

// SPKI returns the encoding that ParsePublicKey reads.
func (k *PublicKey) SPKI() []byte { return bytes.Clone(k.spki) }

// ID returns token_key_id.
func (k *PublicKey) ID() KeyID { return k.id }

// IssuerKey is an issuer's private key. It is safe for concurrent use, and does
// not print itself.
type IssuerKey struct {
	pub *PublicKey
	rsa **rsa.PrivateKey // out of fmt's reach
}

// GenerateIssuerKey returns a fresh key.
func GenerateIssuerKey() (*IssuerKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, modulusBits)
	if err != nil {
		return nil, fmt.Errorf("generating issuer key: %w", err)
	}
	return newIssuerKey(key)
}

// ParseIssuerKey reads a PKCS #8 private key, DER.
func ParseIssuerKey(der []byte) (*IssuerKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, ErrMalformed
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || len(key.Primes) != 2 || key.Validate() != nil {
		return nil, ErrMalformed
	}
	return newIssuerKey(key)
}

func newIssuerKey(key *rsa.PrivateKey) (*IssuerKey, error) {
	pub, err := newPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &IssuerKey{pub: pub, rsa: &key}, nil
}

// Public returns the public half.
func (k *IssuerKey) Public() *PublicKey { return k.pub }

// PKCS8 returns the private key in the form that ParseIssuerKey reads.
func (k *IssuerKey) PKCS8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(*k.rsa) }

// String returns "[redacted]".
func (*IssuerKey) String() string { return "[redacted]" }

// GoString returns "[redacted]".
func (*IssuerKey) GoString() string { return "[redacted]" }

// Format writes "[redacted]" for every verb.
func (*IssuerKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// MarshalText returns "[redacted]".
func (*IssuerKey) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
