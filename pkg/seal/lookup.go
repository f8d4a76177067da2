package seal

import (
	"crypto/subtle"

	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// Lookup finds out whether an envelope of form 2 is under a key of the delivery
// ratchet or one of those that follow it (SPEC.md R-75). It keeps what is derived
// for that: a client asks for every envelope that it holds, in all of its rooms.
type Lookup struct {
	first DeliveryKey
	keys  []DeliveryKey
	hints []primitive.Secret
}

// NewLookup derives the keys: k and the later ones after it.
func NewLookup(k DeliveryKey, later int) *Lookup {
	l := &Lookup{first: k}
	for i := range later + 1 {
		if i > 0 {
			k = k.Next()
		}
		l.keys = append(l.keys, k)
		l.hints = append(l.hints, k.hintKey())
	}
	return l
}

// Begins reports whether it begins with this key.
func (l *Lookup) Begins(k DeliveryKey) bool {
	return l.first.epoch == k.epoch && l.first.k.Equal(k.k)
}

// Open opens an envelope under the key whose hint it has, if it is one of these.
func (l *Lookup) Open(envelope []byte) (event []byte, ok bool) {
	if f, err := EnvelopeForm(envelope); err != nil || f != FormRatchet {
		return nil, false
	}
	for i, k := range l.keys {
		hint := hintOf(l.hints[i], envelope[1:1+primitive.NonceSize])
		if subtle.ConstantTimeCompare(hint[:], envelope[1+primitive.NonceSize:ratchetHeader]) != 1 {
			continue
		}
		if event, err := OpenEnvelope(k, envelope); err == nil {
			return event, true
		}
	}
	return nil, false
}

// Wipe overwrites the keys but the first, which is not its own.
func (l *Lookup) Wipe() {
	for i := range l.keys {
		if i > 0 {
			l.keys[i].Wipe()
		}
		l.hints[i].Wipe()
	}
	l.keys, l.hints = nil, nil
}
