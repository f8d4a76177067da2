package suite

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// labelPrefix precedes every label (RFC 9420 §5.1.2, §5.1.3, §8).
const labelPrefix = "MLS 1.0 "

// ErrLength is returned when an output longer than 255 times Nh or 65,535 bytes
// is asked of the KDF (RFC 9420 §8, RFC 5869 §2.3).
var ErrLength = errors.New("suite: output length out of range")

// ZeroSecret returns the all-zero string of Nh bytes that the key schedule
// writes as "0" (RFC 9420 §8).
func (s *Suite) ZeroSecret() Secret { return TakeSecret(make([]byte, s.HashSize())) }

// Extract is KDF.Extract (RFC 9420 §8). Both inputs must be set.
func (s *Suite) Extract(salt, ikm Secret) Secret {
	prk, err := hkdf.Extract(s.newHash(), held(ikm), held(salt))
	if err != nil {
		panic("suite: internal error: HKDF-Extract") // Only in a FIPS-only mode that forbids the hash.
	}
	return TakeSecret(prk)
}

// ExpandWithLabel derives n bytes (RFC 9420 §8). It fails only if n is out of
// the KDF's range.
func (s *Suite) ExpandWithLabel(secret Secret, label string, context []byte, n int) (Secret, error) {
	if n < 0 || n > 0xffff || n > 255*s.HashSize() {
		return Secret{}, ErrLength
	}
	return s.expand(secret, label, context, n), nil
}

// DeriveSecret derives Nh bytes with an empty context (RFC 9420 §8).
func (s *Suite) DeriveSecret(secret Secret, label string) Secret {
	return s.expand(secret, label, nil, s.HashSize())
}

// DeriveHash derives Nh bytes with a context.
func (s *Suite) DeriveHash(secret Secret, label string, context []byte) Secret {
	return s.expand(secret, label, context, s.HashSize())
}

// DeriveKey derives an AEAD key with a context.
func (s *Suite) DeriveKey(secret Secret, label string, context []byte) Secret {
	return s.expand(secret, label, context, s.KeySize())
}

// DeriveNonce derives an AEAD nonce with a context.
func (s *Suite) DeriveNonce(secret Secret, label string, context []byte) Secret {
	return s.expand(secret, label, context, s.NonceSize())
}

// DeriveTreeSecret derives n bytes for one generation of a ratchet (RFC 9420
// §9). n must be at most Nh.
func (s *Suite) DeriveTreeSecret(secret Secret, label string, generation uint32, n int) Secret {
	var context [4]byte
	binary.BigEndian.PutUint32(context[:], generation)
	return s.expand(secret, label, context[:], min(n, s.HashSize()))
}

// expand requires n to be in range.
func (s *Suite) expand(secret Secret, label string, context []byte, n int) Secret {
	info := make([]byte, 0, 2+2*4+len(labelPrefix)+len(label)+len(context))
	info = binary.BigEndian.AppendUint16(info, uint16(n))
	info = codec.AppendVector(info, labelPrefix+label)
	info = codec.AppendVector(info, context)
	out, err := hkdf.Expand(s.newHash(), held(secret), string(info), n)
	if err != nil {
		panic("suite: internal error: HKDF-Expand") // n was checked.
	}
	return TakeSecret(out)
}

// RefHash is the hash-based identifier of value (RFC 9420 §5.2).
func (s *Suite) RefHash(label string, value []byte) []byte {
	h := s.hash.New()
	h.Write(codec.AppendVector(nil, label))
	h.Write(codec.AppendLength(nil, len(value)))
	h.Write(value)
	return h.Sum(nil)
}

// KeyPackageRef is the identifier of an encoded KeyPackage (RFC 9420 §5.2).
func (s *Suite) KeyPackageRef(keyPackage []byte) []byte {
	return s.RefHash(labelPrefix+"KeyPackage Reference", keyPackage)
}

// ProposalRef is the identifier of an encoded AuthenticatedContent that holds a
// proposal (RFC 9420 §5.2).
func (s *Suite) ProposalRef(authenticatedContent []byte) []byte {
	return s.RefHash(labelPrefix+"Proposal Reference", authenticatedContent)
}

// MAC returns the HMAC of the concatenation of parts, Nh bytes (RFC 9420 §5.1).
func (s *Suite) MAC(key Secret, parts ...[]byte) []byte {
	m := hmac.New(s.newHash(), held(key))
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// VerifyMAC compares tag with the HMAC of message in constant time.
func (s *Suite) VerifyMAC(key Secret, message, tag []byte) bool {
	return s.VerifyMACParts(key, tag, message)
}

// VerifyMACParts is VerifyMAC for a long message that is at hand in parts.
func (s *Suite) VerifyMACParts(key Secret, tag []byte, parts ...[]byte) bool {
	return subtle.ConstantTimeCompare(s.MAC(key, parts...), tag) == 1
}

func (s *Suite) newHash() func() hash.Hash { return s.hash.New }

// held returns the bytes of a secret that must not have been wiped. Deriving
// from an empty string instead would give keys that anybody can compute, so a
// bug in the engine's deletion schedule must stop here. No input reaches this.
func held(s Secret) []byte {
	if !s.IsSet() {
		panic("suite: internal error: use of a wiped secret")
	}
	return s.Bytes()
}
