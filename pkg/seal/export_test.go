package seal

import "github.com/mmrelay/mmrelay/pkg/primitive"

// Doors for the test vectors, which fix nonces and labels.

// SealEnvelopeAt is SealEnvelope with a nonce.
var SealEnvelopeAt = sealEnvelope

// EnvelopeKey returns the key that seals envelopes.
func (k DeliveryKey) EnvelopeKey() primitive.Key128 { return k.envelopeKey() }

// BlobKey returns the key of one row.
func (k EARKey) BlobKey(name string, version uint64) primitive.Secret {
	return primitive.DeriveSecret(k.key, "mmr ear blob", k.rowContext(name, version))
}

var bhttp = mediaLabels{"message/bhttp request", "message/bhttp response"}

// OpenOHTTP opens an RFC 9458 request.
func OpenOHTTP(b []byte, key GatewayKey) ([]byte, *ResponseSealer, error) {
	e, err := splitEncapsulated(b)
	if err != nil {
		return nil, nil, err
	}
	return bhttp.open(e, key)
}

// SealOHTTP makes an RFC 9458 request.
func SealOHTTP(id uint8, key primitive.KEMPublicKey, pt []byte) ([]byte, *ResponseOpener, error) {
	return bhttp.seal(id, key, pt)
}

// SealAt is Seal without padding and with a nonce.
func (s *ResponseSealer) SealAt(nonce [16]byte, pt []byte) []byte { return s.sealAt(nonce, pt) }

// Secret is the secret exported from the HPKE context.
func (s *ResponseSealer) Secret() primitive.Key128 { return s.secret }

// Keys are the response's key and nonce.
func (s *ResponseSealer) Keys(nonce []byte) (primitive.Key128, primitive.Nonce) {
	return responseKey(s.secret, s.enc, nonce)
}

// OpenRaw is Open without padding.
func (o *ResponseOpener) OpenRaw(b []byte) ([]byte, error) { return o.openRaw(b) }
