// Package token makes, issues and checks anonymous tokens: Privacy Pass type
// 0x0002, publicly verifiable blind RSA signatures (SPEC.md §10; RFC 9578 §6,
// RFC 9577 §2, RFC 9474 RSABSSA-SHA384-PSS-Deterministic with 2048 bits).
//
//	client                          issuer (own provider)        redeemer (any service)
//	NewRequest(key, challenge)
//	    ── blinded, 256 bytes ──▶   Issuer.Issue
//	    ◀── blind signature ──────
//	Request.Finalize ─▶ Token
//	    ── 354 bytes, later, through another way ──────────────▶ Verifier.Verify
//
// The issuer sees an account and a random-looking number; the redeemer sees a
// signature that the issuer cannot recognise. A token is bound to one service
// by the challenge inside it, so nobody but that service can redeem it. Not
// even together do issuer and redeemer learn which account spent a token,
// except by timing: clients fetch tokens ahead of need (SPEC.md R-86).
//
// Unlinkability rests on all accounts using one key per issuer and week. A
// client therefore compares what the issuer publishes with what the redeemer
// accepts before it redeems, see Consistent (SPEC.md R-83).
//
// The package keeps no state: which nonces are spent, and how many tokens an
// account was issued, is stored by the caller. Redemption.SpentKey and Expires
// say under what name and how long.
//
// Verification uses public data only. Signing and blinding go through a big
// integer library that is not constant-time; the signer blinds its own
// operation against timing.
package token

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// Sizes in bytes.
const (
	Size          = 2 + NonceSize + 32 + KeyIDSize + SignatureSize // 354
	NonceSize     = 32
	KeyIDSize     = 32
	SignatureSize = 256 // also of a blinded message
	RequestSize   = 2 + 1 + SignatureSize
)

// tokenType is "Blind RSA (2048-bit)" of RFC 9578 §8.2.2.
const tokenType = 2

var (
	// ErrMalformed reports bytes that are no key, request or signature of this
	// token type.
	ErrMalformed = errors.New("token: malformed input")
	// ErrSignature reports a blind signature that is not by the key of the
	// request.
	ErrSignature = errors.New("token: issuer's signature is not valid")
	// ErrUnknownKey reports a request for a key that the issuer does not sign
	// with now.
	ErrUnknownKey = errors.New("token: no such issuer key")
	// ErrInconsistent reports that issuer and redeemer name different keys: the
	// client must not redeem (SPEC.md R-83).
	ErrInconsistent = errors.New("token: issuer and redeemer disagree about the key")
)

// KeyID is token_key_id: SHA-256 of the key's SPKI (RFC 9578 §6.5).
type KeyID [KeyIDSize]byte

// Truncated returns the last byte, which a request names the key by.
func (id KeyID) Truncated() uint8 { return id[KeyIDSize-1] }

// Challenge says who issues a token and where it can be spent (SPEC.md R-80).
// The redemption context is always empty.
type Challenge struct {
	Issuer   string // issuer_name: the provider's domain, 1..65535 bytes
	Audience string // origin_info: the redeemer's audience, such as "hub:h.example"
}

// AppendBinary appends the TokenChallenge of RFC 9577 §2.1.1, whose vectors
// have lengths of two, one and two bytes.
func (c Challenge) AppendBinary(b []byte) ([]byte, error) {
	if len(c.Issuer) == 0 || len(c.Issuer) > 0xffff || len(c.Audience) > 0xffff {
		return b, ErrMalformed
	}
	b = binary.BigEndian.AppendUint16(b, tokenType)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Issuer)))
	b = append(b, c.Issuer...)
	b = append(b, 0) // redemption_context
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Audience)))
	return append(b, c.Audience...), nil
}

// Digest returns challenge_digest, SHA-256 of the TokenChallenge.
func (c Challenge) Digest() ([32]byte, error) {
	b, err := c.AppendBinary(nil)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(b), nil
}

// Token is what a client redeems (RFC 9577 §2.2). It is a bearer secret until
// it is spent.
type Token struct {
	Nonce           [NonceSize]byte
	ChallengeDigest [32]byte
	KeyID           KeyID
	Authenticator   [SignatureSize]byte // RSASSA-PSS signature over the fields before
}

// AppendBinary appends the 354 bytes of the token.
func (t Token) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, t.input()...)
	return append(b, t.Authenticator[:]...), nil
}

// Parse reads a token; another type or length is mmr/token-invalid (SPEC.md
//
func Parse(b []byte) (Token, error) {
	r := codec.NewReader(b)
	typ := r.Uint16()
	var t Token
	r.Copy(t.Nonce[:])
	r.Copy(t.ChallengeDigest[:])
	r.Copy(t.KeyID[:])
	r.Copy(t.Authenticator[:])
	if r.Done() != nil || typ != tokenType {
		return Token{}, mmrerr.TokenInvalid
	}
	return t, nil
}

// input is token_authenticator_input of RFC 9578 §6.4.
func (t Token) input() []byte {
	b := make([]byte, 0, Size)
	b = binary.BigEndian.AppendUint16(b, tokenType)
	b = append(b, t.Nonce[:]...)
	b = append(b, t.ChallengeDigest[:]...)
	return append(b, t.KeyID[:]...)
}
