// Package suite holds the seven cipher suites of RFC 9420 §17.1 as rows of one
// table, and every cryptographic operation that depends on them: hashes, key
// derivation with labels, MACs, AEAD, HPKE and signatures.
//
// It is the only package of the engine that imports circl and crypto/*, so that
// a review of the engine's use of cryptography is a review of this package.
//
//	suite  KEM     AEAD              hash     signature
//	1      X25519  AES-128-GCM       SHA-256  Ed25519
//	2      P-256   AES-128-GCM       SHA-256  ECDSA P-256
//	3      X25519  ChaCha20Poly1305  SHA-256  Ed25519
//	4      X448    AES-256-GCM       SHA-512  Ed448
//	5      P-521   AES-256-GCM       SHA-512  ECDSA P-521
//	6      X448    ChaCha20Poly1305  SHA-512  Ed448
//	7      P-384   AES-256-GCM       SHA-384  ECDSA P-384
//
// Secrets are values of type Secret, which redacts itself when printed. Public
// values (hashes, tags, public keys, ciphertexts) are byte slices. Randomness
// is crypto/rand's and cannot be replaced. Errors are constants and tell
// nothing about their inputs; no input makes a function panic.
//
// A *Suite is immutable and may be used by many goroutines.
package suite

import (
	"crypto"
	"hash"

	_ "crypto/sha256" // SHA-256 of suites 1, 2 and 3.
	_ "crypto/sha512" // SHA-384 and SHA-512 of suites 4 to 7.

	"github.com/cloudflare/circl/hpke"
)

// ID is a cipher suite's number (RFC 9420 §17.1).
type ID uint16

// The suites of RFC 9420 §17.1.
const (
	X25519AES128SHA256Ed25519 ID = iota + 1
	P256AES128SHA256P256
	X25519ChaChaSHA256Ed25519
	X448AES256SHA512Ed448
	P521AES256SHA512P521
	X448ChaChaSHA512Ed448
	P384AES256SHA384P384
)

// Suite is one row of the table. Get returns the only instances.
type Suite struct {
	id        ID
	hash      crypto.Hash
	kem       hpke.KEM
	kdf       hpke.KDF
	aead      hpke.AEAD
	signature signature
}

// suites is indexed by ID-1.
var suites = [...]Suite{
	{X25519AES128SHA256Ed25519, crypto.SHA256, hpke.KEM_X25519_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES128GCM, ed25519Scheme{}},
	{P256AES128SHA256P256, crypto.SHA256, hpke.KEM_P256_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES128GCM, ecdsaP256},
	{X25519ChaChaSHA256Ed25519, crypto.SHA256, hpke.KEM_X25519_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_ChaCha20Poly1305, ed25519Scheme{}},
	{X448AES256SHA512Ed448, crypto.SHA512, hpke.KEM_X448_HKDF_SHA512, hpke.KDF_HKDF_SHA512, hpke.AEAD_AES256GCM, ed448Scheme{}},
	{P521AES256SHA512P521, crypto.SHA512, hpke.KEM_P521_HKDF_SHA512, hpke.KDF_HKDF_SHA512, hpke.AEAD_AES256GCM, ecdsaP521},
	{X448ChaChaSHA512Ed448, crypto.SHA512, hpke.KEM_X448_HKDF_SHA512, hpke.KDF_HKDF_SHA512, hpke.AEAD_ChaCha20Poly1305, ed448Scheme{}},
	{P384AES256SHA384P384, crypto.SHA384, hpke.KEM_P384_HKDF_SHA384, hpke.KDF_HKDF_SHA384, hpke.AEAD_AES256GCM, ecdsaP384},
}

// Get returns the suite with the given number, or nil if there is none.
func Get(id ID) *Suite {
	if id < 1 || int(id) > len(suites) {
		return nil
	}
	return &suites[id-1]
}

// IDs lists the numbers of all suites in ascending order.
func IDs() []ID {
	ids := make([]ID, len(suites))
	for i := range suites {
		ids[i] = suites[i].id
	}
	return ids
}

// ID returns the suite's number.
func (s *Suite) ID() ID { return s.id }

// HashSize returns Nh, the size of hashes, tags and most secrets, in bytes.
func (s *Suite) HashSize() int { return s.hash.Size() }

// KeySize returns the AEAD's key size in bytes.
func (s *Suite) KeySize() int { return int(s.aead.KeySize()) }

// NonceSize returns the AEAD's nonce size in bytes.
func (s *Suite) NonceSize() int { return int(s.aead.NonceSize()) }

// TagSize is by how many bytes every AEAD of the table expands a plaintext.
const TagSize = 16

// NewHash returns a new instance of the suite's hash.
func (s *Suite) NewHash() hash.Hash { return s.hash.New() }

// Hash returns the hash of the concatenation of parts.
func (s *Suite) Hash(parts ...[]byte) []byte {
	counted(OpHash)
	h := s.hash.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
