package secret

import (
	"errors"
	"math"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// Errors of Take and Next.
var (
	// ErrUsed: the generation was used before, or fell out of the window.
	ErrUsed = errors.New("secret: generation used or too old")
	// ErrTooFar: the generation is further ahead than Limits allow.
	ErrTooFar = errors.New("secret: generation too far ahead")
	// ErrLeaf: no such leaf in the tree.
	ErrLeaf = errors.New("secret: leaf out of range")
)

// Limits bound what a sender can make others compute and keep (RFC 9420 §15.3).
type Limits struct {
	Jump    uint32 // Largest distance between the next generation and a received one.
	Skipped int    // Unused keys kept per ratchet; the oldest are dropped.
	Total   int    // Unused keys kept per tree.
}

// MessageKey encrypts one message. Its holder wipes it.
type MessageKey struct {
	Generation uint32
	Key, Nonce suite.Secret
}

// Wipe clears the key.
func (k MessageKey) Wipe() {
	k.Key.Wipe()
	k.Nonce.Wipe()
}

// ratchet is a hash ratchet (RFC 9420 §9.1) at its next unused generation,
// with the unused keys of earlier ones in ascending order. It is a value; skipped
// is never changed in place.
type ratchet struct {
	secret  suite.Secret // Not set once the last generation was used.
	next    uint32
	skipped []MessageKey
}

// step returns the key of the next generation and the ratchet behind it.
func (r ratchet) step(s *suite.Suite) (MessageKey, ratchet) {
	key := MessageKey{
		Generation: r.next,
		Key:        s.DeriveTreeSecret(r.secret, "key", r.next, s.KeySize()),
		Nonce:      s.DeriveTreeSecret(r.secret, "nonce", r.next, s.NonceSize()),
	}
	return key, r.advance(s)
}

// advance moves on without deriving the generation's key.
func (r ratchet) advance(s *suite.Suite) ratchet {
	n := ratchet{skipped: r.skipped}
	if r.next < math.MaxUint32 {
		n.secret = s.DeriveTreeSecret(r.secret, "secret", r.next, s.HashSize())
		n.next = r.next + 1
	}
	return n
}

// take returns the key of one generation and the ratchet without it. room is
// how many more unused keys the whole tree may hold.
func (r ratchet) take(s *suite.Suite, generation uint32, l Limits, room int) (MessageKey, ratchet, error) {
	if !r.secret.IsSet() || generation < r.next {
		return r.takeSkipped(generation)
	}
	// Checked before anything is derived.
	if generation-r.next > l.Jump {
		return MessageKey{}, ratchet{}, ErrTooFar
	}
	keep := min(l.Skipped, len(r.skipped)+room)
	skip := int(generation - r.next)
	cur := r
	cur.skipped = keepNewest(r.skipped, keep-skip)
	for cur.next < generation {
		var intermediate suite.Secret
		if cur.next != r.next {
			intermediate = cur.secret
		}
		if int(generation-cur.next) <= keep {
			var key MessageKey
			key, cur = cur.step(s)
			cur.skipped = append(cur.skipped, key) // keepNewest made the slice ours.
		} else {
			cur = cur.advance(s)
		}
		intermediate.Wipe()
	}
	key, after := cur.step(s)
	if cur.next != r.next {
		cur.secret.Wipe()
	}
	return key, after, nil
}

func (r ratchet) takeSkipped(generation uint32) (MessageKey, ratchet, error) {
	for i, k := range r.skipped {
		if k.Generation == generation {
			n := r
			n.skipped = append(append([]MessageKey(nil), r.skipped[:i]...), r.skipped[i+1:]...)
			// A copy, so that the caller wipes it like any other key.
			return MessageKey{generation, k.Key.Clone(), k.Nonce.Clone()}, n, nil
		}
	}
	return MessageKey{}, ratchet{}, ErrUsed
}

// keepNewest returns the last n keys in a slice of its own.
func keepNewest(keys []MessageKey, n int) []MessageKey {
	n = max(0, min(n, len(keys)))
	return append([]MessageKey(nil), keys[len(keys)-n:]...)
}

// secrets calls f for every secret of the ratchet.
func (r ratchet) secrets(f func(suite.Secret)) {
	f(r.secret)
	for _, k := range r.skipped {
		f(k.Key)
		f(k.Nonce)
	}
}
