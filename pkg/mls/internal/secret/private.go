package secret

import (
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Seal encrypts an encoded PrivateMessageContent into m, whose other fields are
// set, with a key that Tree.Next gave for the leaf, under a fresh reuse guard
// (RFC 9420 §6.3).
func Seal(s *suite.Suite, senderData suite.Secret, leaf wire.LeafIndex, key MessageKey, m *wire.PrivateMessage, content []byte) error {
	sd := wire.SenderData{Leaf: leaf, Generation: key.Generation}
	copy(sd.ReuseGuard[:], suite.RandomSecret(len(sd.ReuseGuard)).Bytes())
	nonce := guarded(key.Nonce, sd)
	defer nonce.Wipe()
	var err error
	if m.Ciphertext, err = s.Seal(key.Key, nonce, m.ContentAAD(nil), content); err != nil {
		return err
	}
	m.EncryptedSenderData, err = SealSenderData(s, senderData, sd, m)
	return err
}

// SealSenderData encrypts the sender data of a message whose ciphertext is set
// (RFC 9420 §6.3.2).
func SealSenderData(s *suite.Suite, senderData suite.Secret, sd wire.SenderData, m *wire.PrivateMessage) ([]byte, error) {
	key, nonce := SenderDataKey(s, senderData, m.Ciphertext)
	defer key.Wipe()
	defer nonce.Wipe()
	return s.Seal(key, nonce, m.SenderDataAAD(nil), sd.AppendTo(nil))
}

// OpenSenderData decrypts the sender data of a message. All failures are
// suite.ErrOpen.
func OpenSenderData(s *suite.Suite, senderData suite.Secret, m *wire.PrivateMessage) (wire.SenderData, error) {
	key, nonce := SenderDataKey(s, senderData, m.Ciphertext)
	defer key.Wipe()
	defer nonce.Wipe()
	plaintext, err := s.Open(key, nonce, m.SenderDataAAD(nil), m.EncryptedSenderData)
	if err != nil {
		return wire.SenderData{}, err
	}
	sd, err := wire.ParseSenderData(plaintext)
	if err != nil {
		return wire.SenderData{}, suite.ErrOpen
	}
	return sd, nil
}

// Open decrypts the content with the key that Tree.Take gave for the leaf and
// generation of sd. The caller adopts the tree only if this succeeds and the
// content proves authentic.
func Open(s *suite.Suite, sd wire.SenderData, key MessageKey, m *wire.PrivateMessage) ([]byte, error) {
	nonce := guarded(key.Nonce, sd)
	defer nonce.Wipe()
	return s.Open(key.Key, nonce, m.ContentAAD(nil), m.Ciphertext)
}

// guarded XORs the reuse guard into a nonce (RFC 9420 §6.3.1).
func guarded(nonce suite.Secret, sd wire.SenderData) suite.Secret {
	n := nonce.Clone()
	for i := range min(len(sd.ReuseGuard), n.Len()) {
		n.Bytes()[i] ^= sd.ReuseGuard[i]
	}
	return n
}

// SenderDataKey derives the key of the sender data from a sample of the
// ciphertext (RFC 9420 §6.3.2).
func SenderDataKey(s *suite.Suite, senderData suite.Secret, ciphertext []byte) (key, nonce suite.Secret) {
	sample := ciphertext[:min(len(ciphertext), s.HashSize())]
	return s.DeriveKey(senderData, "key", sample), s.DeriveNonce(senderData, "nonce", sample)
}

// WelcomeKey derives the key of a Welcome's GroupInfo (RFC 9420 §12.4.3.1).
func WelcomeKey(s *suite.Suite, welcome suite.Secret) (key, nonce suite.Secret) {
	return s.DeriveKey(welcome, "key", nil), s.DeriveNonce(welcome, "nonce", nil)
}
