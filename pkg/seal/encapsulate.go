package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"

	"golang.org/x/crypto/hkdf"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// The encapsulation is RFC 9458 §4.3 and §4.4 with other labels (SPEC.md R-62):
//
//	hdr      = key_id(1) || kem_id(2) || kdf_id(2) || aead_id(2)
//	request  = hdr || enc || HPKE.Seal("", Padded(MmrRequest, bucket - 7 - |enc| - 16))
//	response = response_nonce(16) || AEAD.Seal("", Padded(MmrResponse, bucket - 32))

const (
	encapsulationHeader = 7
	responseNonceSize   = primitive.Key128Size // max(Nn, Nk)
	responseOverhead    = responseNonceSize + primitive.TagSize
)

// mediaLabels stand where RFC 9458 has "message/bhttp request" and "...
// response"; they are a parameter so that its test vectors apply.
type mediaLabels struct{ request, response string }

var mmrLabels = mediaLabels{"mmr request", "mmr response"}

// GatewayKey is one private key of a gateway with its published id.
type GatewayKey struct {
	ID  uint8
	Key *primitive.KEMPrivateKey
}

// Encapsulate seals a serialized Request to a gateway's key. The result has a
// length in B; a request that no bucket holds is mmr/too-large.
func Encapsulate(to KeyConfig, request []byte) ([]byte, *ResponseOpener, error) {
	pt, err := pad(request, encapsulationHeader+to.Key.KEM().EncSize()+primitive.TagSize)
	if err != nil {
		return nil, nil, err
	}
	return mmrLabels.seal(to.ID, to.Key, pt)
}

// Encapsulated is a request that has arrived at a gateway, not yet opened.
type Encapsulated struct {
	hdr, enc, ct []byte
	keyID        uint8
	kem          primitive.KEM
}

// ParseEncapsulated checks the outer length, mmr/padding-bucket or
// mmr/too-large, and the header, mmr/malformed, in the order of SPEC.md R-69.
func ParseEncapsulated(b []byte) (Encapsulated, error) {
	if err := checkBucket(len(b)); err != nil {
		return Encapsulated{}, err
	}
	return splitEncapsulated(b)
}

func splitEncapsulated(b []byte) (Encapsulated, error) {
	if len(b) < encapsulationHeader {
		return Encapsulated{}, mmrerr.Malformed
	}
	kem := primitive.KEM(binary.BigEndian.Uint16(b[1:]))
	n := encapsulationHeader + kem.EncSize()
	if !kem.Valid() || binary.BigEndian.Uint16(b[3:]) != primitive.KDFHKDFSHA256 ||
		binary.BigEndian.Uint16(b[5:]) != primitive.AEADAES128GCM || len(b) < n {
		return Encapsulated{}, mmrerr.Malformed
	}
	return Encapsulated{hdr: b[:encapsulationHeader], enc: b[encapsulationHeader:n], ct: b[n:], keyID: b[0], kem: kem}, nil
}

// KeyID returns the id of the key the request is sealed to.
func (e Encapsulated) KeyID() uint8 { return e.keyID }

// KEM returns the KEM of the key the request is sealed to.
func (e Encapsulated) KEM() primitive.KEM { return e.kem }

// ReplayKey returns H(enc)[0..16), under which the gateway remembers the
// request after it has decapsulated it (SPEC.md R-65).
func (e Encapsulated) ReplayKey() [16]byte {
	h := primitive.Hash(e.enc)
	return [16]byte(h[:16])
}

// Open decapsulates and returns the serialized Request and what seals its
// response. A key of another id or KEM, or a request that does not open, is
// primitive.ErrOpen; one that is not padded with zeros is mmr/malformed, and
// comes with the ResponseSealer that can say so.
func (e Encapsulated) Open(key GatewayKey) (request []byte, to *ResponseSealer, err error) {
	pt, to, err := mmrLabels.open(e, key)
	if err != nil {
		return nil, nil, err
	}
	request, err = unpad(pt)
	return request, to, err
}

// ResponseOpener opens the response to one encapsulated request. It is a
// client's; it can be tried on more than one response.
type ResponseOpener struct {
	enc    []byte
	secret primitive.Key128
}

// ResponseSealer seals the response to one encapsulated request. It is a
// gateway's.
type ResponseSealer struct {
	enc    []byte
	secret primitive.Key128
}

// Seal encapsulates a serialized Response. The result has a length in B; a
// response that no bucket holds is mmr/too-large.
func (s *ResponseSealer) Seal(response []byte) ([]byte, error) {
	pt, err := pad(response, responseOverhead)
	if err != nil {
		return nil, err
	}
	var nonce [responseNonceSize]byte
	fresh := primitive.NewSecret()
	copy(nonce[:], fresh.Bytes())
	return s.sealAt(nonce, pt), nil
}

func (s *ResponseSealer) sealAt(nonce [responseNonceSize]byte, pt []byte) []byte {
	key, n := responseKey(s.secret, s.enc, nonce[:])
	defer key.Wipe()
	return primitive.AppendAES128(nonce[:], key, n, nil, pt)
}

// Open opens an encapsulated response and returns the serialized Response.
// Lengths outside B are mmr/padding-bucket or mmr/too-large, what does not open
// is primitive.ErrOpen.
func (o *ResponseOpener) Open(encapsulated []byte) ([]byte, error) {
	if err := checkBucket(len(encapsulated)); err != nil {
		return nil, err
	}
	pt, err := o.openRaw(encapsulated)
	if err != nil {
		return nil, err
	}
	return unpad(pt)
}

func (o *ResponseOpener) openRaw(b []byte) ([]byte, error) {
	if len(b) < responseOverhead {
		return nil, primitive.ErrOpen
	}
	key, n := responseKey(o.secret, o.enc, b[:responseNonceSize])
	defer key.Wipe()
	return primitive.OpenAES128At(key, n, nil, b[responseNonceSize:])
}

// seal is RFC 9458 §4.3 without the padding.
func (l mediaLabels) seal(keyID uint8, key primitive.KEMPublicKey, pt []byte) ([]byte, *ResponseOpener, error) {
	hdr := encapsulationHdr(keyID, key.KEM())
	enc, s, err := key.NewSender(l.info(hdr))
	if err != nil {
		return nil, nil, err
	}
	secret, err := primitive.ParseKey128(s.Export([]byte(l.response), responseNonceSize))
	if err != nil {
		return nil, nil, err
	}
	b := slices.Concat(hdr, enc, s.Seal(nil, pt))
	return b, &ResponseOpener{enc: enc, secret: secret}, nil
}

// open is RFC 9458 §4.3 without the padding.
func (l mediaLabels) open(e Encapsulated, key GatewayKey) ([]byte, *ResponseSealer, error) {
	if e.keyID != key.ID || e.kem != key.Key.Public().KEM() {
		return nil, nil, primitive.ErrOpen
	}
	r, err := key.Key.NewRecipient(l.info(e.hdr), e.enc)
	if err != nil {
		return nil, nil, err
	}
	pt, err := r.Open(nil, e.ct)
	if err != nil {
		return nil, nil, err
	}
	secret, err := primitive.ParseKey128(r.Export([]byte(l.response), responseNonceSize))
	if err != nil {
		return nil, nil, err
	}
	return pt, &ResponseSealer{enc: e.enc, secret: secret}, nil
}

func (l mediaLabels) info(hdr []byte) []byte {
	b := append([]byte(l.request), 0)
	return append(b, hdr...)
}

func encapsulationHdr(keyID uint8, kem primitive.KEM) []byte {
	b := []byte{keyID}
	b = binary.BigEndian.AppendUint16(b, uint16(kem))
	b = binary.BigEndian.AppendUint16(b, primitive.KDFHKDFSHA256)
	return binary.BigEndian.AppendUint16(b, primitive.AEADAES128GCM)
}

// responseKey is the derivation of RFC 9458 §4.4.
func responseKey(secret primitive.Key128, enc, nonce []byte) (primitive.Key128, primitive.Nonce) {
	salt := append(append([]byte(nil), enc...), nonce...)
	prk := hkdf.Extract(sha256.New, secret.Bytes(), salt)
	raw := make([]byte, primitive.Key128Size)
	var n primitive.Nonce
	_, err1 := io.ReadFull(hkdf.Expand(sha256.New, prk, []byte("key")), raw)
	_, err2 := io.ReadFull(hkdf.Expand(sha256.New, prk, []byte("nonce")), n[:])
	key, err3 := primitive.ParseKey128(raw)
	if err1 != nil || err2 != nil || err3 != nil {
		panic("seal: internal error: HKDF of constant size")
	}
	clear(raw)
	clear(prk)
	return key, n
}
