package suite

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"

	"github.com/cloudflare/circl/sign/ed448"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// signature is one signature scheme. Private keys are seeds (Ed25519, Ed448)
// or big-endian scalars of the curve's size; public keys are as in RFC 9420
// §5.1.1: raw, or uncompressed points. Signatures are raw or DER (§5.1.2).
type signature interface {
	generate() (public []byte, private Secret, err error)
	public(private Secret) ([]byte, error)
	check(public []byte) error
	sign(private Secret, message []byte) ([]byte, error)
	verify(public, message, signature []byte) bool
}

// SignContent encodes SignContent (RFC 9420 §5.1.2), which is what a signer
// outside of this package signs. The content is the concatenation of parts.
func SignContent(label string, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, len(labelPrefix)+len(label)+n+8)
	b = codec.AppendVector(b, labelPrefix+label)
	b = codec.AppendLength(b, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// GenerateSignatureKey returns a fresh signature key pair.
func (s *Suite) GenerateSignatureKey() (public []byte, private Secret, err error) {
	return s.signature.generate()
}

// SignaturePublicKey returns the public key of a signature private key.
func (s *Suite) SignaturePublicKey(private Secret) ([]byte, error) {
	return s.signature.public(private)
}

// CheckSignatureKey returns ErrKey unless public has the form of a public key
// of the suite's signature scheme (RFC 9420 §5.1.1).
func (s *Suite) CheckSignatureKey(public []byte) error { return s.signature.check(public) }

// Sign signs a message without a label; the message is usually a SignContent.
func (s *Suite) Sign(private Secret, message []byte) ([]byte, error) {
	counted(OpSign)
	return s.signature.sign(private, message)
}

// SignWithLabel signs content (RFC 9420 §5.1.2).
func (s *Suite) SignWithLabel(private Secret, label string, content []byte) ([]byte, error) {
	return s.Sign(private, SignContent(label, content))
}

// VerifyWithLabel reports whether sig is a signature of content by public
// (RFC 9420 §5.1.2). Bad keys and malformed signatures are simply not valid.
func (s *Suite) VerifyWithLabel(public []byte, label string, content, sig []byte) bool {
	return s.VerifyParts(public, label, sig, content)
}

// VerifyParts is VerifyWithLabel for a long content that is at hand in parts.
func (s *Suite) VerifyParts(public []byte, label string, sig []byte, parts ...[]byte) bool {
	counted(OpVerify)
	return s.signature.verify(public, SignContent(label, parts...), sig)
}

type ed25519Scheme struct{}

func (ed25519Scheme) generate() ([]byte, Secret, error) {
	seed := RandomSecret(ed25519.SeedSize)
	public, err := ed25519Scheme{}.public(seed)
	return public, seed, err
}

func (ed25519Scheme) public(private Secret) ([]byte, error) {
	if private.Len() != ed25519.SeedSize {
		return nil, ErrKey
	}
	return ed25519.NewKeyFromSeed(private.Bytes()).Public().(ed25519.PublicKey), nil
}

func (ed25519Scheme) check(public []byte) error {
	if len(public) != ed25519.PublicKeySize {
		return ErrKey
	}
	return nil
}

func (ed25519Scheme) sign(private Secret, message []byte) ([]byte, error) {
	if private.Len() != ed25519.SeedSize {
		return nil, ErrKey
	}
	return ed25519.Sign(ed25519.NewKeyFromSeed(private.Bytes()), message), nil
}

func (ed25519Scheme) verify(public, message, sig []byte) bool {
	return len(public) == ed25519.PublicKeySize && ed25519.Verify(public, message, sig)
}

type ed448Scheme struct{}

func (ed448Scheme) generate() ([]byte, Secret, error) {
	seed := RandomSecret(ed448.SeedSize)
	public, err := ed448Scheme{}.public(seed)
	return public, seed, err
}

func (ed448Scheme) public(private Secret) ([]byte, error) {
	if private.Len() != ed448.SeedSize {
		return nil, ErrKey
	}
	return ed448.NewKeyFromSeed(private.Bytes()).Public().(ed448.PublicKey), nil
}

func (ed448Scheme) check(public []byte) error {
	if len(public) != ed448.PublicKeySize {
		return ErrKey
	}
	return nil
}

func (ed448Scheme) sign(private Secret, message []byte) ([]byte, error) {
	if private.Len() != ed448.SeedSize {
		return nil, ErrKey
	}
	return ed448.Sign(ed448.NewKeyFromSeed(private.Bytes()), message, ""), nil
}

func (ed448Scheme) verify(public, message, sig []byte) bool {
	return len(public) == ed448.PublicKeySize && ed448.Verify(public, message, sig, "")
}

// ecdsaScheme is ECDSA on a NIST curve. Verification is crypto/ecdsa's: strict
// DER, r and s in range.
type ecdsaScheme struct {
	curve elliptic.Curve
	hash  crypto.Hash
}

var (
	ecdsaP256 = ecdsaScheme{elliptic.P256(), crypto.SHA256}
	ecdsaP384 = ecdsaScheme{elliptic.P384(), crypto.SHA384}
	ecdsaP521 = ecdsaScheme{elliptic.P521(), crypto.SHA512}
)

func (e ecdsaScheme) generate() ([]byte, Secret, error) {
	key, err := ecdsa.GenerateKey(e.curve, rand.Reader)
	if err != nil {
		return nil, Secret{}, ErrKey
	}
	private, err := key.Bytes()
	if err != nil {
		return nil, Secret{}, ErrKey
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, Secret{}, ErrKey
	}
	return public, TakeSecret(private), nil
}

func (e ecdsaScheme) public(private Secret) ([]byte, error) {
	key, err := ecdsa.ParseRawPrivateKey(e.curve, private.Bytes())
	if err != nil {
		return nil, ErrKey
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, ErrKey
	}
	return public, nil
}

func (e ecdsaScheme) check(public []byte) error {
	if _, err := ecdsa.ParseUncompressedPublicKey(e.curve, public); err != nil {
		return ErrKey
	}
	return nil
}

func (e ecdsaScheme) sign(private Secret, message []byte) ([]byte, error) {
	key, err := ecdsa.ParseRawPrivateKey(e.curve, private.Bytes())
	if err != nil {
		return nil, ErrKey
	}
	sig, err := ecdsa.SignASN1(rand.Reader, key, e.digest(message))
	if err != nil {
		return nil, ErrKey
	}
	return sig, nil
}

func (e ecdsaScheme) verify(public, message, sig []byte) bool {
	key, err := ecdsa.ParseUncompressedPublicKey(e.curve, public)
	return err == nil && ecdsa.VerifyASN1(key, e.digest(message), sig)
}

func (e ecdsaScheme) digest(message []byte) []byte {
	h := e.hash.New()
	h.Write(message)
	return h.Sum(nil)
}
