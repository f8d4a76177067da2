package seal

import (
	"crypto/hmac"
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

const labelFranking = "FrankingIntegrityTBS"

// FrankSaltSize is the length of the salt inside a franked message in bytes.
const FrankSaltSize = 16

// FrankContext is what a hub attests beside a franking tag (SPEC.md R-130). A
// receiver rebuilds it from the message's sender and room.
type FrankContext struct {
	SenderURI  string // user pseudonym of the leaf that sent the message
	RoomURI    string
	AcceptedMS uint64 // Event.AcceptedMS of the message
}

// Frank is the hub's attestation that a message with a certain tag passed it.
// It says nothing to somebody who does not hold the message.
type Frank struct {
	ServerFrank [32]byte
	Suite       uint16 // MLS cipher suite whose signature scheme made Signature
	Signature   []byte
}

// FrankingTag returns the tag that the sender puts into the frank item of the
// authenticated data: a commitment to applicationData under the salt inside it.
func FrankingTag(salt [FrankSaltSize]byte, applicationData []byte) [32]byte {
	return primitive.HMAC(salt[:], applicationData)
}

// NewFrank makes the attestation with the hub's franking key, and signs it with
// the key of external_senders[0].
func NewFrank(frankKey primitive.Secret, hub primitive.Signer, suite uint16, tag [32]byte, c FrankContext) (*Frank, error) {
	f := &Frank{ServerFrank: serverFrank(frankKey, tag, c), Suite: suite}
	sig, err := hub.SignWithLabel(labelFranking, f.tbs(c))
	if err != nil {
		return nil, err
	}
	f.Signature = sig
	return f, nil
}

// Verify checks the hub's signature over f and the context, as every receiver
// does, or returns primitive.ErrVerify.
func (f *Frank) Verify(hub primitive.PublicKey, c FrankContext) error {
	return hub.VerifyWithLabel(labelFranking, f.tbs(c), f.Signature)
}

// Recompute checks on behalf of a report that f attests tag and context
// (SPEC.md R-131), which only the hub can, or returns primitive.ErrVerify.
func (f *Frank) Recompute(frankKey primitive.Secret, tag [32]byte, c FrankContext) error {
	want := serverFrank(frankKey, tag, c)
	if !hmac.Equal(want[:], f.ServerFrank[:]) {
		return primitive.ErrVerify
	}
	return nil
}

func serverFrank(key primitive.Secret, tag [32]byte, c FrankContext) [32]byte {
	return primitive.HMAC(key.Bytes(), tag[:], c.append(nil))
}

func (c FrankContext) append(b []byte) []byte {
	b = codec.AppendVector(b, c.SenderURI)
	b = codec.AppendVector(b, c.RoomURI)
	return binary.BigEndian.AppendUint64(b, c.AcceptedMS)
}

// tbs is {server_frank, cipher suite, context} of SPEC.md R-130.
func (f *Frank) tbs(c FrankContext) []byte {
	b := append([]byte(nil), f.ServerFrank[:]...)
	b = binary.BigEndian.AppendUint16(b, f.Suite)
	return c.append(b)
}

// append appends the structure {opaque server_frank[32]; uint16 cipher_suite;
// opaque signature<V>}.
func (f *Frank) append(b []byte) []byte {
	b = append(b, f.ServerFrank[:]...)
	b = binary.BigEndian.AppendUint16(b, f.Suite)
	return codec.AppendVector(b, f.Signature)
}

// AppendBinary appends the serialized Frank.
func (f *Frank) AppendBinary(b []byte) ([]byte, error) { return f.append(b), nil }

// ParseFrank reads a serialized Frank.
func ParseFrank(b []byte) (*Frank, error) {
	r := codec.NewReader(b)
	f := readFrank(r)
	if r.Done() != nil {
		return nil, mmrerr.Malformed
	}
	return f, nil
}

func readFrank(r *codec.Reader) *Frank {
	f := new(Frank)
	r.Copy(f.ServerFrank[:])
	f.Suite = r.Uint16()
	f.Signature = r.Vector(maxSignature)
	return f
}
