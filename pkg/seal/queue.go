package seal

import (
	"encoding/binary"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// QueueConfigSize is the length of a serialized QueueConfig in bytes.
const QueueConfigSize = 96

const (
	queueConfigVersion = 1
	sealedQueueSize    = QueueConfigSize + primitive.TagSize
	labelQueueConfig   = "MMR QueueConfig"
)

// QueueConfig is what the provider finds in a sealed address (SPEC.md R-50).
type QueueConfig struct {
	QueueID     [16]byte // the client's queue, the same in all its leaves
	Handle      [16]byte // fresh per leaf; the client blocks one room by it
	NotAfterDay uint32   // last day of the queue key, in days since 1970-01-01 UTC
	Flags       uint8    // none defined; carried unread
	PushKey     [32]byte // for push notifications, or zeros
}

// Day returns the day of t in the unit of QueueConfig.NotAfterDay.
func Day(t time.Time) uint32 {
	return uint32(max(t.Unix(), 0) / 86400)
}

// AppendBinary appends the 96 bytes of the structure.
func (q QueueConfig) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, queueConfigVersion)
	b = append(b, q.QueueID[:]...)
	b = append(b, q.Handle[:]...)
	b = binary.BigEndian.AppendUint32(b, q.NotAfterDay)
	b = append(b, q.Flags)
	b = append(b, q.PushKey[:]...)
	return append(b, make([]byte, 26)...), nil
}

// ParseQueueConfig reads the structure; another version, length or a byte of
// zeros that is not zero is mmr/malformed.
func ParseQueueConfig(b []byte) (QueueConfig, error) {
	r := codec.NewReader(b)
	version := r.Uint8()
	var q QueueConfig
	r.Copy(q.QueueID[:])
	r.Copy(q.Handle[:])
	q.NotAfterDay = r.Uint32()
	q.Flags = r.Uint8()
	r.Copy(q.PushKey[:])
	var zeros [26]byte
	r.Copy(zeros[:])
	if r.Done() != nil || version != queueConfigVersion || zeros != [26]byte{} {
		return QueueConfig{}, mmrerr.Malformed
	}
	return q, nil
}

// SealQueue seals q to the provider's queue key of that id (SPEC.md R-50). The
// result is the serialized HPKECiphertext.
func SealQueue(key primitive.KEMPublicKey, domain string, keyID uint8, q QueueConfig) ([]byte, error) {
	pt, err := q.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	c, err := key.SealWithLabel(labelQueueConfig, queueContext(domain, keyID), pt)
	if err != nil {
		return nil, err
	}
	return c.Append(nil), nil
}

// OpenQueue opens a sealed address, a serialized HPKECiphertext. Everything
// that is wrong with it is primitive.ErrOpen: the hub must not learn more
// (SPEC.md R-52).
func OpenQueue(key *primitive.KEMPrivateKey, domain string, keyID uint8, sealed []byte) (QueueConfig, error) {
	r := codec.NewReader(sealed)
	c := primitive.ReadHPKECiphertext(r, sealedQueueSize)
	if r.Done() != nil {
		return QueueConfig{}, primitive.ErrOpen
	}
	pt, err := key.OpenWithLabel(labelQueueConfig, queueContext(domain, keyID), c)
	if err != nil {
		return QueueConfig{}, err
	}
	q, err := ParseQueueConfig(pt)
	if err != nil {
		return QueueConfig{}, primitive.ErrOpen
	}
	return q, nil
}

// CheckSealed checks the form of a sealed address, a serialized HPKECiphertext of
// a QueueConfig: all that somebody can check who does not open it. Anything else
// is mmr/queue-missing.
func CheckSealed(sealed []byte) error {
	r := codec.NewReader(sealed)
	c := primitive.ReadHPKECiphertext(r, sealedQueueSize)
	if r.Done() != nil || !validSealed(c) {
		return mmrerr.QueueMissing
	}
	return nil
}

func validSealed(c primitive.HPKECiphertext) bool {
	n := len(c.KEMOutput)
	return len(c.Ciphertext) == sealedQueueSize && (n == primitive.X25519.EncSize() || n == primitive.XWing.EncSize())
}

// queueContext is {opaque provider_domain<V>; uint8 key_id} of SPEC.md R-50.
func queueContext(domain string, keyID uint8) []byte {
	return append(codec.AppendVector(nil, domain), keyID)
}

// Delivery is MmrDelivery, the leaf extension 0xF0A4 (SPEC.md §11).
type Delivery struct {
	ProviderDomain string
	KeyID          uint8                    // which queue key Sealed is sealed to
	Sealed         primitive.HPKECiphertext // of a QueueConfig
	Key            primitive.KEMPublicKey   // delivery_key, for R-72
}

// NewDelivery makes the extension for one leaf: a fresh seal of q and the fresh
// delivery key key (SPEC.md R-50).
func NewDelivery(queueKey primitive.KEMPublicKey, domain string, keyID uint8, q QueueConfig, key primitive.KEMPublicKey) (Delivery, error) {
	if !ValidDomain(domain) || !key.KEM().Valid() {
		return Delivery{}, mmrerr.QueueMissing
	}
	sealed, err := SealQueue(queueKey, domain, keyID, q)
	if err != nil {
		return Delivery{}, err
	}
	c := primitive.ReadHPKECiphertext(codec.NewReader(sealed), sealedQueueSize)
	return Delivery{ProviderDomain: domain, KeyID: keyID, Sealed: c, Key: key}, nil
}

// SealedBytes returns the address as it travels to the provider: the serialized
// HPKECiphertext.
func (d Delivery) SealedBytes() []byte { return d.Sealed.Append(nil) }

// AppendBinary appends the extension's data.
func (d Delivery) AppendBinary(b []byte) ([]byte, error) {
	b = codec.AppendVector(b, d.ProviderDomain)
	b = append(b, d.KeyID)
	b = d.Sealed.Append(b)
	b = binary.BigEndian.AppendUint16(b, uint16(d.Key.KEM()))
	return codec.AppendVector(b, d.Key.Bytes()), nil
}

// ParseDelivery reads the extension's data. What is not well-formed is
// mmr/queue-missing (SPEC.md ): an invalid domain, a ciphertext that
// cannot be a QueueConfig, an unknown KEM, a delivery key that is none.
func ParseDelivery(b []byte) (Delivery, error) {
	r := codec.NewReader(b)
	var d Delivery
	d.ProviderDomain = string(r.Vector(maxDomain))
	d.KeyID = r.Uint8()
	d.Sealed = primitive.ReadHPKECiphertext(r, sealedQueueSize)
	kem := primitive.KEM(r.Uint16())
	raw := r.Vector(primitive.XWing.PublicKeySize())
	if r.Done() != nil || !ValidDomain(d.ProviderDomain) || !validSealed(d.Sealed) {
		return Delivery{}, mmrerr.QueueMissing
	}
	key, err := primitive.ParseKEMPublicKey(kem, raw)
	if err != nil {
		return Delivery{}, mmrerr.QueueMissing
	}
	d.Key = key
	return d, nil
}
