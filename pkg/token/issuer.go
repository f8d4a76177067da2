package token

import (
	"fmt"
	"maps"
	"math/big"
	"time"

	"github.com/cloudflare/circl/blindsign/blindrsa"
)

// Issuer signs blinded messages with one key per epoch, the same for all
// accounts (SPEC.md R-82). It is safe for concurrent use. Allowances and
// idempotent answers are its caller's (SPEC.md R-81).
type Issuer struct{ keys map[Epoch]*IssuerKey }

// NewIssuer returns an issuer with the given keys; it copies the map.
func NewIssuer(keys map[Epoch]*IssuerKey) *Issuer {
	i := &Issuer{keys: make(map[Epoch]*IssuerKey, len(keys))}
	maps.Copy(i.keys, keys)
	return i
}

// Published returns the public keys of the current and the previous epoch, as
// far as there are any, the current one first.
func (i *Issuer) Published(now time.Time) []PublishedKey {
	var keys []PublishedKey
	c := EpochOf(now)
	for _, e := range []Epoch{c, c - 1} {
		if k, ok := i.keys[e]; ok && e <= c {
			keys = append(keys, PublishedKey{Epoch: e, Key: k.pub})
		}
	}
	return keys
}

// Issue signs a batch of blinded messages with the valid key whose id ends with
// truncated, the current one if both do. ErrUnknownKey says that there is none;
// a message that is not 256 bytes of a number below the modulus is
// ErrMalformed, and nothing is signed.
func (i *Issuer) Issue(now time.Time, truncated uint8, blinded [][]byte) ([][]byte, error) {
	for _, p := range i.Published(now) {
		if p.Key.id.Truncated() == truncated {
			return i.keys[p.Epoch].sign(blinded)
		}
	}
	return nil, ErrUnknownKey
}

func (k *IssuerKey) sign(blinded [][]byte) ([][]byte, error) {
	n := k.pub.rsa.N
	for _, m := range blinded {
		if len(m) != SignatureSize || new(big.Int).SetBytes(m).Cmp(n) >= 0 {
			return nil, ErrMalformed
		}
	}
	signer := blindrsa.NewSigner(*k.rsa)
	out := make([][]byte, 0, len(blinded))
	for _, m := range blinded {
		s, err := signer.BlindSign(m)
		if err != nil {
			return nil, fmt.Errorf("signing a blinded message: %w", err)
		}
		out = append(out, s)
	}
	return out, nil
}
