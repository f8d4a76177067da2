package pseudonym

import (
	"encoding/binary"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// ConnectionResponse is Bob's answer, which travels in the authenticated data
// of his external commit (SPEC.md R-36).
type ConnectionResponse struct {
	ConnectionKey primitive.Secret // responder_connection_key
	Token         primitive.Secret // connection_token of the pool made for Alice
	KPProvider    string
	Chain         [][]byte // responder_credential
}

// SignedResponse is a response signed for one request, room and joining leaf.
type SignedResponse struct {
	ConnectionResponse
	Signature []byte
}

func (p *ConnectionResponse) appendTBS(b []byte) []byte {
	b = appendSecret(b, p.ConnectionKey)
	b = append(b, p.Token.Bytes()...)
	return codec.AppendVector(b, p.KPProvider)
}

func (p *ConnectionResponse) tbs(groupID []byte, requestHash, tbsHash [32]byte) []byte {
	b := codec.AppendVector(p.appendTBS(nil), groupID)
	b = append(b, requestHash[:]...)
	return append(b, tbsHash[:]...)
}

func (p *ConnectionResponse) valid() bool {
	return p.ConnectionKey.Present() && p.Token.Present() && validDomains(p.KPProvider) && len(p.Chain) >= 1 && len(p.Chain) <= 2
}

// Sign signs the response for the request of that hash and the leaf that joins.
func (p ConnectionResponse) Sign(groupID []byte, requestHash, tbsHash [32]byte, key primitive.Signer) (*SignedResponse, error) {
	if !p.valid() {
		return nil, mmrerr.Malformed
	}
	sig, err := key.SignWithLabel(labelResponse, p.tbs(groupID, requestHash, tbsHash))
	if err != nil {
		return nil, err
	}
	return &SignedResponse{ConnectionResponse: p, Signature: sig}, nil
}

// AppendBinary appends the serialized SignedResponse.
func (p *SignedResponse) AppendBinary(b []byte) ([]byte, error) {
	if !p.valid() {
		return b, mmrerr.Malformed
	}
	b = appendChain(p.appendTBS(b), p.Chain)
	return codec.AppendVector(b, p.Signature), nil
}

// ParseSignedResponse reads a serialized SignedResponse.
func ParseSignedResponse(b []byte) (*SignedResponse, error) {
	r := codec.NewReader(b)
	p := new(SignedResponse)
	p.ConnectionKey = readSecret(r, false)
	p.Token = readSecret32(r)
	p.KPProvider = string(r.Vector(maxURI))
	p.Chain = readChain(r)
	p.Signature = r.Vector(maxSignature)
	if r.Done() != nil || !p.valid() {
		return nil, mmrerr.Malformed
	}
	return p, nil
}

// Seal seals the response to connection_response_key for the epoch that the
// external commit is made in: the data of AADConnectionResponse.
func (p *SignedResponse) Seal(to primitive.KEMPublicKey, groupID []byte, epoch uint64, tbsHash [32]byte) ([]byte, error) {
	b, err := p.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return sealPadded(to, labelSealedResponse, responseContext(groupID, epoch, tbsHash), b)
}

// OpenResponse opens the data of AADConnectionResponse. It returns
// primitive.ErrOpen or mmr/malformed.
func OpenResponse(key *primitive.KEMPrivateKey, groupID []byte, epoch uint64, tbsHash [32]byte, sealed []byte) (*SignedResponse, error) {
	b, err := openPadded(key, labelSealedResponse, responseContext(groupID, epoch, tbsHash), sealed)
	if err != nil {
		return nil, err
	}
	return ParseSignedResponse(b)
}

// Verify makes the requester's checks of SPEC.md R-39 on the response: it was
// signed for this room, request and joined leaf by the user who was asked. That
// the leaf resolves to the same user is Reveal's to show. Failures are
// ErrUnverified.
func (p *SignedResponse) Verify(user Handle, groupID []byte, requestHash, tbsHash [32]byte, roots Roots, now time.Time) (Real, error) {
	return verifySigned(p.Chain, user, roots, now, labelResponse, p.tbs(groupID, requestHash, tbsHash), p.Signature)
}

// responseContext is {group_id<V>, uint64 epoch, opaque tbs_hash<V>} of R-36.
func responseContext(groupID []byte, epoch uint64, tbsHash [32]byte) []byte {
	b := codec.AppendVector(nil, groupID)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return codec.AppendVector(b, tbsHash[:])
}
