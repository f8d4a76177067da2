package suite

import "errors"

// ErrOpen is returned when a ciphertext does not authenticate. It is the same
// for every cause.
var ErrOpen = errors.New("suite: decryption failed")

// Seal encrypts with the suite's AEAD. Key and nonce must have the suite's
// sizes; anything else is ErrKey.
func (s *Suite) Seal(key, nonce Secret, aad, plaintext []byte) ([]byte, error) {
	if key.Len() != s.KeySize() || nonce.Len() != s.NonceSize() {
		return nil, ErrKey
	}
	a, err := s.aead.New(key.Bytes())
	if err != nil {
		return nil, ErrKey
	}
	return a.Seal(make([]byte, 0, len(plaintext)+a.Overhead()), nonce.Bytes(), plaintext, aad), nil
}

// Open decrypts what Seal made, or returns ErrOpen.
func (s *Suite) Open(key, nonce Secret, aad, ciphertext []byte) ([]byte, error) {
	if key.Len() != s.KeySize() || nonce.Len() != s.NonceSize() {
		return nil, ErrOpen
	}
	a, err := s.aead.New(key.Bytes())
	if err != nil {
		return nil, ErrOpen
	}
	plaintext, err := a.Open(nil, nonce.Bytes(), ciphertext, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}
