package primitive

import (
	"crypto/rand"

	"github.com/cloudflare/circl/hpke"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Identifiers of the only KDF and AEAD that the profile uses in HPKE.
const (
	KDFHKDFSHA256  = 1 // RFC 9180 §7.2
	AEADAES128GCM  = 1 // RFC 9180 §7.3
	maxExportBytes = 255 * HashSize
)

// HPKECiphertext is the structure of RFC 9420 §7.6.
type HPKECiphertext struct {
	KEMOutput  []byte // the encapsulated key, KEM.EncSize bytes
	Ciphertext []byte // 16 bytes longer than the plaintext
}

// Append appends the serialized structure, opaque kem_output<V> and opaque
// ciphertext<V>.
func (c HPKECiphertext) Append(b []byte) []byte {
	b = codec.AppendVector(b, c.KEMOutput)
	return codec.AppendVector(b, c.Ciphertext)
}

// ReadHPKECiphertext reads the structure with a ciphertext of at most limit
// bytes. Its slices alias the input. Failures are r's.
func ReadHPKECiphertext(r *codec.Reader, limit int) HPKECiphertext {
	return HPKECiphertext{KEMOutput: r.Vector(XWing.EncSize()), Ciphertext: r.Vector(limit)}
}

// SealWithLabel is HPKE-L of SPEC.md §1, RFC 9420 §5.1.3 EncryptWithLabel, with
// HKDF-SHA256 and AES-128-GCM. It fails with ErrMalformed for the zero key and
// for an X25519 key of small order.
func (p KEMPublicKey) SealWithLabel(label string, context, plaintext []byte) (HPKECiphertext, error) {
	enc, s, err := p.NewSender(encryptContext(label, context))
	if err != nil {
		return HPKECiphertext{}, err
	}
	return HPKECiphertext{KEMOutput: enc, Ciphertext: s.Seal(nil, plaintext)}, nil
}

// OpenWithLabel opens what SealWithLabel returned, or ErrOpen.
func (k *KEMPrivateKey) OpenWithLabel(label string, context []byte, c HPKECiphertext) ([]byte, error) {
	r, err := k.NewRecipient(encryptContext(label, context), c.KEMOutput)
	if err != nil {
		return nil, err
	}
	return r.Open(nil, c.Ciphertext)
}

// encryptContext is the serialized EncryptContext of RFC 9420 §5.1.3.
func encryptContext(label string, context []byte) []byte {
	b := make([]byte, 0, 1+len(labelPrefix)+len(label)+4+len(context))
	b = codec.AppendVector(b, labelPrefix+label)
	return codec.AppendVector(b, context)
}

// HPKESender is the sealing side of one HPKE base mode context (RFC 9180 §5).
// It seals one message.
type HPKESender struct{ ctx hpke.Sealer }

// HPKERecipient is the opening side of one HPKE base mode context. It opens one
// message.
type HPKERecipient struct{ ctx hpke.Opener }

// NewSender is SetupBaseS with HKDF-SHA256 and AES-128-GCM, for formats that
// bring their own info and export from the context (SPEC.md R-62). It fails
// with ErrMalformed for the zero key and for an X25519 key of small order.
func (p KEMPublicKey) NewSender(info []byte) (enc []byte, s *HPKESender, err error) {
	if !p.kem.Valid() {
		return nil, nil, ErrMalformed
	}
	pk, err := p.kem.scheme().UnmarshalBinaryPublicKey([]byte(p.raw))
	if err != nil {
		return nil, nil, ErrMalformed
	}
	sender, err := hpkeSuite(p.kem).NewSender(pk, info)
	if err != nil {
		return nil, nil, ErrMalformed
	}
	enc, ctx, err := sender.Setup(rand.Reader)
	if err != nil {
		return nil, nil, ErrMalformed
	}
	return enc, &HPKESender{ctx}, nil
}

// NewRecipient is SetupBaseR. An enc that the KEM refuses is ErrOpen.
func (k *KEMPrivateKey) NewRecipient(info, enc []byte) (*HPKERecipient, error) {
	sk, err := k.pub.kem.scheme().UnmarshalBinaryPrivateKey(k.raw.Bytes())
	if err != nil {
		return nil, ErrOpen
	}
	receiver, err := hpkeSuite(k.pub.kem).NewReceiver(sk, info)
	if err != nil {
		return nil, ErrOpen
	}
	ctx, err := receiver.Setup(enc)
	if err != nil {
		return nil, ErrOpen
	}
	return &HPKERecipient{ctx}, nil
}

// Seal encrypts the context's message.
func (s *HPKESender) Seal(aad, plaintext []byte) []byte {
	ct, err := s.ctx.Seal(plaintext, aad)
	if err != nil {
		panic("primitive: internal error: HPKE sequence")
	}
	return ct
}

// Export derives n bytes, 1..8160, from the context (RFC 9180 §5.3).
func (s *HPKESender) Export(context []byte, n int) []byte { return export(s.ctx, context, n) }

// Open decrypts the context's message, or ErrOpen.
func (r *HPKERecipient) Open(aad, ciphertext []byte) ([]byte, error) {
	plaintext, err := r.ctx.Open(ciphertext, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// Export derives n bytes, 1..8160, from the context (RFC 9180 §5.3).
func (r *HPKERecipient) Export(context []byte, n int) []byte { return export(r.ctx, context, n) }

func export(ctx hpke.Context, context []byte, n int) []byte {
	if n < 1 || n > maxExportBytes {
		panic("primitive: internal error: length of exported secret")
	}
	return ctx.Export(context, uint(n))
}

func hpkeSuite(k KEM) hpke.Suite {
	return hpke.NewSuite(hpke.KEM(k), hpke.KDF_HKDF_SHA256, hpke.AEAD_AES128GCM)
}
