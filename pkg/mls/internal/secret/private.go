package secret

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// Header is the part of a PrivateMessage that travels in the clear and is
// authenticated by its ciphertexts (RFC 9420 §6.3).
type Header struct {
	GroupID     []byte
	Epoch       uint64
	ContentType uint8
	AAD         []byte
}

// SenderData says which key a PrivateMessage uses (RFC 9420 §6.3.2).
type SenderData struct {
	Leaf       uint32
	Generation uint32
	Guard      [4]byte
}

// senderDataSize is the size of an encoded SenderData.
const senderDataSize = 12

// senderDataAAD and contentAAD are the structures of RFC 9420 §6.3.2 and §6.3.1.
func (h Header) senderDataAAD() []byte {
	b := codec.AppendVector(nil, h.GroupID)
	b = binary.BigEndian.AppendUint64(b, h.Epoch)
	return append(b, h.ContentType)
}

func (h Header) contentAAD() []byte { return codec.AppendVector(h.senderDataAAD(), h.AAD) }

// Seal encrypts an encoded PrivateMessageContent with a key that Tree.Next gave
// for the leaf, under a fresh reuse guard.
func (h Header) Seal(s *suite.Suite, senderDataSecret suite.Secret, leaf uint32, key MessageKey, content []byte) (encryptedSenderData, ciphertext []byte, err error) {
	sd := SenderData{Leaf: leaf, Generation: key.Generation}
	copy(sd.Guard[:], suite.RandomSecret(len(sd.Guard)).Bytes())
	nonce := sd.guarded(key.Nonce)
	defer nonce.Wipe()
	ciphertext, err = s.Seal(key.Key, nonce, h.contentAAD(), content)
	if err != nil {
		return nil, nil, err
	}
	encryptedSenderData, err = h.SealSenderData(s, senderDataSecret, sd, ciphertext)
	if err != nil {
		return nil, nil, err
	}
	return encryptedSenderData, ciphertext, nil
}

// SealSenderData encrypts the sender data of a ciphertext.
func (h Header) SealSenderData(s *suite.Suite, senderDataSecret suite.Secret, sd SenderData, ciphertext []byte) ([]byte, error) {
	plaintext := binary.BigEndian.AppendUint32(make([]byte, 0, senderDataSize), sd.Leaf)
	plaintext = binary.BigEndian.AppendUint32(plaintext, sd.Generation)
	plaintext = append(plaintext, sd.Guard[:]...)
	key, nonce := SenderDataKey(s, senderDataSecret, ciphertext)
	defer key.Wipe()
	defer nonce.Wipe()
	return s.Seal(key, nonce, h.senderDataAAD(), plaintext)
}

// OpenSenderData decrypts the sender data of a ciphertext. All failures are
// suite.ErrOpen.
func (h Header) OpenSenderData(s *suite.Suite, senderDataSecret suite.Secret, encryptedSenderData, ciphertext []byte) (SenderData, error) {
	key, nonce := SenderDataKey(s, senderDataSecret, ciphertext)
	defer key.Wipe()
	defer nonce.Wipe()
	plaintext, err := s.Open(key, nonce, h.senderDataAAD(), encryptedSenderData)
	if err != nil {
		return SenderData{}, err
	}
	var sd SenderData
	r := codec.NewReader(plaintext)
	sd.Leaf, sd.Generation = r.Uint32(), r.Uint32()
	r.Copy(sd.Guard[:])
	if r.Done() != nil {
		return SenderData{}, suite.ErrOpen
	}
	return sd, nil
}

// Open decrypts the content with the key that Tree.Take gave for the leaf and
// generation of sd. The caller adopts the tree only if this succeeds and the
// content proves authentic.
func (h Header) Open(s *suite.Suite, sd SenderData, key MessageKey, ciphertext []byte) ([]byte, error) {
	nonce := sd.guarded(key.Nonce)
	defer nonce.Wipe()
	return s.Open(key.Key, nonce, h.contentAAD(), ciphertext)
}

// guarded XORs the reuse guard into a nonce (RFC 9420 §6.3.1).
func (sd SenderData) guarded(nonce suite.Secret) suite.Secret {
	n := nonce.Clone()
	for i := range min(len(sd.Guard), n.Len()) {
		n.Bytes()[i] ^= sd.Guard[i]
	}
	return n
}

// SenderDataKey derives the key of the sender data from a sample of the
// ciphertext (RFC 9420 §6.3.2).
func SenderDataKey(s *suite.Suite, senderDataSecret suite.Secret, ciphertext []byte) (key, nonce suite.Secret) {
	sample := ciphertext[:min(len(ciphertext), s.HashSize())]
	return s.DeriveKey(senderDataSecret, "key", sample), s.DeriveNonce(senderDataSecret, "nonce", sample)
}

// WelcomeKey derives the key of a Welcome's GroupInfo (RFC 9420 §12.4.3.1).
func WelcomeKey(s *suite.Suite, welcome suite.Secret) (key, nonce suite.Secret) {
	return s.DeriveKey(welcome, "key", nil), s.DeriveNonce(welcome, "nonce", nil)
}
