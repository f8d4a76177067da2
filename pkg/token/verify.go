package token

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha512"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// TrustedKey is a key of an issuer whose tokens a service accepts.
type TrustedKey struct {
	Issuer string // provider domain
	Epoch  Epoch
	Key    *PublicKey
}

// Verifier checks tokens for one audience. It does not change after NewVerifier
// and is safe for concurrent use; when keys rotate, the caller makes another.
type Verifier struct{ keys map[KeyID]verifierKey }

type verifierKey struct {
	TrustedKey
	digest [32]byte
}

// NewVerifier returns a verifier for the service with that audience, such as
// "hub:h.example". A key that is listed twice with different issuers or epochs
// is ErrMalformed: it would let an epoch's tokens live on.
func NewVerifier(audience string, keys []TrustedKey) (*Verifier, error) {
	v := &Verifier{keys: make(map[KeyID]verifierKey, len(keys))}
	for _, k := range keys {
		digest, err := Challenge{Issuer: k.Issuer, Audience: audience}.Digest()
		if err != nil || k.Key == nil {
			return nil, ErrMalformed
		}
		if old, ok := v.keys[k.Key.id]; ok && (old.Issuer != k.Issuer || old.Epoch != k.Epoch) {
			return nil, ErrMalformed
		}
		v.keys[k.Key.id] = verifierKey{TrustedKey: k, digest: digest}
	}
	return v, nil
}

// Accepted returns the ids of the keys that are valid at now, in a fixed order,
// for publication (SPEC.md R-83).
func (v *Verifier) Accepted(now time.Time) []KeyID {
	var ids []KeyID
	for id, k := range v.keys {
		if k.Epoch.ValidAt(now) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b KeyID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// Redemption is a token that has been verified and not yet been recorded as
// spent.
type Redemption struct {
	Issuer string // domain of the provider that issued it (SPEC.md R-85)
	Epoch  Epoch  // spent keys of an epoch can be dropped at Epoch.Expires
	// SpentKey names the token in the spent set, which the caller must enter
	// durably before it processes the request (SPEC.md R-84).
	SpentKey [32]byte
}

// Verify checks a serialized token as SPEC.md R-84 says: issuer trusted, key of
// the current or previous epoch, challenge of this audience, signature. Every
// failure is mmr/token-invalid. That its nonce is not spent is the caller's to
// check.
func (v *Verifier) Verify(token []byte, now time.Time) (Redemption, error) {
	t, err := Parse(token)
	if err != nil {
		return Redemption{}, err
	}
	k, ok := v.keys[t.KeyID]
	if !ok || !k.Epoch.ValidAt(now) || t.ChallengeDigest != k.digest || !k.Key.verify(t) {
		return Redemption{}, mmrerr.TokenInvalid
	}
	return Redemption{
		Issuer:   k.Issuer,
		Epoch:    k.Epoch,
		SpentKey: primitive.Hash([]byte("mmr-r/1 spent"), t.KeyID[:], t.Nonce[:]),
	}, nil
}

// verify is RSASSA-PSS-VERIFY with SHA-384 and a salt of 48 bytes (RFC 9578
// §6.4).
func (k *PublicKey) verify(t Token) bool {
	digest := sha512.Sum384(t.input())
	opts := &rsa.PSSOptions{SaltLength: sha512.Size384, Hash: crypto.SHA384}
	return rsa.VerifyPSS(k.rsa, crypto.SHA384, digest[:], t.Authenticator[:], opts) == nil
}
