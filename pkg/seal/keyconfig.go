package seal

import (
	"encoding/binary"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

const labelKeyConfig = "MmrKeyConfigTBS"

// MaxKeyConfig is the longest serialized KeyConfig in bytes.
const MaxKeyConfig = 2048

// KeyConfig is MmrKeyConfig (SPEC.md R-61): an HPKE key that a hub or provider
// publishes, for requests (audience "hub:..." or "provider:...") or for sealed
// queue ids ("queue:...").
type KeyConfig struct {
	Audience  string
	ID        uint8
	Key       primitive.KEMPublicKey
	NotBefore uint64 // Unix seconds, inclusive
	NotAfter  uint64 // Unix seconds, inclusive
}

// AppendBinary appends the serialized MmrKeyConfig, which is what is signed and
// what is published.
func (c KeyConfig) AppendBinary(b []byte) ([]byte, error) {
	b = codec.AppendVector(b, c.Audience)
	b = append(b, c.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(c.Key.KEM()))
	b = codec.AppendVector(b, c.Key.Bytes())
	b = binary.BigEndian.AppendUint16(b, primitive.KDFHKDFSHA256)
	b = binary.BigEndian.AppendUint16(b, primitive.AEADAES128GCM)
	b = binary.BigEndian.AppendUint64(b, c.NotBefore)
	return binary.BigEndian.AppendUint64(b, c.NotAfter), nil
}

// ParseKeyConfig reads a serialized MmrKeyConfig. It checks no signature and no
// time: see VerifyKeyConfig.
func ParseKeyConfig(b []byte) (KeyConfig, error) {
	r := codec.NewReader(b)
	var c KeyConfig
	c.Audience = string(r.Vector(maxAudience))
	c.ID = r.Uint8()
	kem := primitive.KEM(r.Uint16())
	raw := r.Vector(primitive.XWing.PublicKeySize())
	kdf, aead := r.Uint16(), r.Uint16()
	c.NotBefore = r.Uint64()
	c.NotAfter = r.Uint64()
	if r.Done() != nil || len(b) > MaxKeyConfig || kdf != primitive.KDFHKDFSHA256 || aead != primitive.AEADAES128GCM ||
		!ValidAudience(c.Audience) || c.NotBefore > c.NotAfter {
		return KeyConfig{}, mmrerr.Malformed
	}
	key, err := primitive.ParseKEMPublicKey(kem, raw)
	if err != nil {
		return KeyConfig{}, mmrerr.Malformed
	}
	c.Key = key
	return c, nil
}

// Sign returns the serialized configuration and its signature by the service's
// x509 identity key.
func (c KeyConfig) Sign(service primitive.Signer) (config, signature []byte, err error) {
	config, err = c.AppendBinary(nil)
	if err != nil {
		return nil, nil, err
	}
	signature, err = service.SignWithLabel(labelKeyConfig, config)
	if err != nil {
		return nil, nil, err
	}
	return config, signature, nil
}

// VerifyKeyConfig reads a published configuration and checks, as R-61 asks of a
// client, that service signed it (primitive.ErrVerify), that it is for the
// audience (mmr/audience), and that it is valid at now (mmr/stale).
func VerifyKeyConfig(config, signature []byte, service primitive.PublicKey, audience string, now time.Time) (KeyConfig, error) {
	c, err := ParseKeyConfig(config)
	if err != nil {
		return KeyConfig{}, err
	}
	if err := service.VerifyWithLabel(labelKeyConfig, config, signature); err != nil {
		return KeyConfig{}, err
	}
	if c.Audience != audience {
		return KeyConfig{}, mmrerr.Audience
	}
	if !c.ValidAt(now) {
		return KeyConfig{}, mmrerr.Stale
	}
	return c, nil
}

// ValidAt reports whether now is within the configuration's validity.
func (c KeyConfig) ValidAt(now time.Time) bool {
	s := now.Unix()
	return s >= 0 && uint64(s) >= c.NotBefore && uint64(s) <= c.NotAfter
}

// BestKeyConfig returns the configuration of the strongest KEM that is valid at
// now; among equals, the one that is valid longest. It reports false if none is
// valid.
func BestKeyConfig(configs []KeyConfig, now time.Time) (KeyConfig, bool) {
	var best KeyConfig
	found := false
	for _, c := range configs {
		if !c.ValidAt(now) {
			continue
		}
		stronger := c.Key.KEM() == primitive.XWing && best.Key.KEM() != primitive.XWing
		longer := c.Key.KEM() == best.Key.KEM() && c.NotAfter > best.NotAfter
		if !found || stronger || longer {
			best, found = c, true
		}
	}
	return best, found
}
