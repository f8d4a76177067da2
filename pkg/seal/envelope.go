package seal

import (
	"crypto/subtle"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// Form is the first byte of an envelope.
type Form uint8

// The forms of an envelope.
const (
	FormFirst   Form = 1 // to a leaf added by Welcome, sealed to its delivery key (SPEC.md R-72)
	FormRatchet Form = 2 // everything else, under the delivery ratchet (SPEC.md R-71)
)

const (
	hintSize          = 4
	ratchetHeader     = 1 + primitive.NonceSize + hintSize
	ratchetOverhead   = ratchetHeader + primitive.TagSize // 33
	firstOverhead     = 1 + primitive.TagSize             // 17, without enc
	labelFirstContact = "mmr first contact"
)

// EnvelopeForm checks what a relay checks of an envelope (SPEC.md R-52): its
// length is in B, else mmr/padding-bucket or, above the largest bucket,
// mmr/too-large; its form byte is known, else mmr/malformed.
func EnvelopeForm(envelope []byte) (Form, error) {
	if err := checkBucket(len(envelope)); err != nil {
		return 0, err
	}
	switch f := Form(envelope[0]); f {
	case FormFirst, FormRatchet:
		return f, nil
	}
	return 0, mmrerr.Malformed
}

// SealEnvelope makes an envelope of form 2 of a serialized Event. An event that
// no bucket holds is mmr/too-large.
func SealEnvelope(k DeliveryKey, event []byte) ([]byte, error) {
	return sealEnvelope(k, primitive.NewNonce(), event)
}

// SealEnvelopeAs is SealEnvelope for an envelope that shall be as long as others
// beside it: of size bytes, a bucket, or the smallest bucket above that holds the
// event.
func SealEnvelopeAs(k DeliveryKey, event []byte, size int) ([]byte, error) {
	if size > ratchetOverhead && primitive.IsBucket(size) {
		if padded, ok := primitive.AppendPadded(nil, event, size-ratchetOverhead); ok {
			return sealPadded(k, primitive.NewNonce(), padded), nil
		}
	}
	return SealEnvelope(k, event)
}

func sealEnvelope(k DeliveryKey, nonce primitive.Nonce, event []byte) ([]byte, error) {
	padded, err := pad(event, ratchetOverhead)
	if err != nil {
		return nil, err
	}
	return sealPadded(k, nonce, padded), nil
}

func sealPadded(k DeliveryKey, nonce primitive.Nonce, padded []byte) []byte {
	hint := k.hint(nonce[:])
	b := make([]byte, 0, len(padded)+ratchetOverhead)
	b = append(b, byte(FormRatchet))
	b = append(b, nonce[:]...)
	b = append(b, hint[:]...)
	key := k.envelopeKey()
	defer key.Wipe()
	return primitive.AppendAES128(b, key, nonce, b, padded)
}

// Hints reports whether the hint of an envelope of form 2 is that of this key.
// One in 2^32 envelopes under another key hints too: opening decides (SPEC.md
//
func (k DeliveryKey) Hints(envelope []byte) bool {
	if f, err := EnvelopeForm(envelope); err != nil || f != FormRatchet {
		return false
	}
	hint := k.hint(envelope[1 : 1+primitive.NonceSize])
	return subtle.ConstantTimeCompare(hint[:], envelope[1+primitive.NonceSize:ratchetHeader]) == 1
}

// OpenEnvelope opens an envelope of form 2 and returns the serialized Event, or
// primitive.ErrOpen. An envelope that opens but is not padded with zeros is
// mmr/malformed.
func OpenEnvelope(k DeliveryKey, envelope []byte) ([]byte, error) {
	f, err := EnvelopeForm(envelope)
	if err != nil {
		return nil, err
	}
	if f != FormRatchet {
		return nil, primitive.ErrOpen
	}
	key := k.envelopeKey()
	defer key.Wipe()
	nonce := primitive.Nonce(envelope[1 : 1+primitive.NonceSize])
	padded, err := primitive.OpenAES128At(key, nonce, envelope[:ratchetHeader], envelope[ratchetHeader:])
	if err != nil {
		return nil, err
	}
	return unpad(padded)
}

// SealFirst makes an envelope of form 1 of a serialized Event for the leaf that
// was added with the key package of reference keyPackageRef (RFC 9420 §5.2) and
// whose delivery key is key.
func SealFirst(key primitive.KEMPublicKey, keyPackageRef, event []byte) ([]byte, error) {
	padded, err := pad(event, firstOverhead+key.KEM().EncSize())
	if err != nil {
		return nil, err
	}
	c, err := key.SealWithLabel(labelFirstContact, keyPackageRef, padded)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 1+len(c.KEMOutput)+len(c.Ciphertext))
	b = append(b, byte(FormFirst))
	b = append(b, c.KEMOutput...)
	return append(b, c.Ciphertext...), nil
}

// OpenFirst opens an envelope of form 1 with the private half of a delivery key
// and the reference of its key package, and returns the serialized Event, or
// primitive.ErrOpen: the client tries the next outstanding key package.
func OpenFirst(key *primitive.KEMPrivateKey, keyPackageRef, envelope []byte) ([]byte, error) {
	f, err := EnvelopeForm(envelope)
	if err != nil {
		return nil, err
	}
	enc := key.Public().KEM().EncSize()
	if f != FormFirst || len(envelope) < firstOverhead+enc {
		return nil, primitive.ErrOpen
	}
	c := primitive.HPKECiphertext{KEMOutput: envelope[1 : 1+enc], Ciphertext: envelope[1+enc:]}
	padded, err := key.OpenWithLabel(labelFirstContact, keyPackageRef, c)
	if err != nil {
		return nil, err
	}
	return unpad(padded)
}
