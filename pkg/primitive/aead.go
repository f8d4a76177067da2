package primitive

import (
	"crypto/aes"
	"crypto/cipher"
)

// Sizes of the AEADs in bytes.
const (
	NonceSize = 12
	TagSize   = 16
)

// Nonce is an AEAD nonce.
type Nonce [NonceSize]byte

// NewNonce returns 12 random bytes.
func NewNonce() Nonce {
	var n Nonce
	fill(n[:])
	return n
}

// SealAES128 encrypts with AEAD128 under a fresh nonce and returns
// nonce || ciphertext, 28 bytes longer than the plaintext.
func SealAES128(key Key128, aad, plaintext []byte) []byte {
	return seal(key.Bytes(), aad, plaintext)
}

// OpenAES128 opens what SealAES128 returned, or ErrOpen.
func OpenAES128(key Key128, aad, sealed []byte) ([]byte, error) {
	return open(key.Bytes(), aad, sealed)
}

// SealAES256 is SealAES128 with AEAD256.
func SealAES256(key Secret, aad, plaintext []byte) []byte {
	return seal(key.Bytes(), aad, plaintext)
}

// OpenAES256 opens what SealAES256 returned, or ErrOpen.
func OpenAES256(key Secret, aad, sealed []byte) ([]byte, error) {
	return open(key.Bytes(), aad, sealed)
}

// AppendAES128 appends the ciphertext of plaintext, 16 bytes longer, to dst.
// nonce must be fresh from NewNonce; the caller's format carries it.
func AppendAES128(dst []byte, key Key128, nonce Nonce, aad, plaintext []byte) []byte {
	return gcm(key.Bytes()).Seal(dst, nonce[:], plaintext, aad)
}

// OpenAES128At opens a ciphertext whose nonce the caller's format carries.
func OpenAES128At(key Key128, nonce Nonce, aad, ciphertext []byte) ([]byte, error) {
	plaintext, err := gcm(key.Bytes()).Open(nil, nonce[:], ciphertext, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

func seal(key, aad, plaintext []byte) []byte {
	n := NewNonce()
	out := make([]byte, NonceSize, NonceSize+len(plaintext)+TagSize)
	copy(out, n[:])
	return gcm(key).Seal(out, n[:], plaintext, aad)
}

func open(key, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < NonceSize+TagSize {
		return nil, ErrOpen
	}
	plaintext, err := gcm(key).Open(nil, sealed[:NonceSize], sealed[NonceSize:], aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// gcm panics for no reachable input: the key types have AES key sizes.
func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("primitive: internal error: AES key size")
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic("primitive: internal error: GCM")
	}
	return g
}
