package pseudonym

import (
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// ConnectionRequest is what Alice tells Bob in a SignedRequest: the structures
// ConnectionRequest and RequestExtras of SPEC.md §14.
type ConnectionRequest struct {
	Chain         [][]byte               // requester_client_credential
	RoomID        []byte                 // connection_room_id: the group_id
	WrapperKey    primitive.Secret       // static scheme; absent with treewrap
	ConnectionKey primitive.Secret       // requester_connection_key, for this connection only
	ResponseKey   primitive.KEMPublicKey // connection_response_key, X25519

	Token      primitive.Secret // connection_token of the pool made for Bob
	KPProvider string           // kp_provider: domain that has the pool
	HubDomain  string
	LinkID     [16]byte
	LinkSeed   primitive.Secret
}

// SignedRequest is a request signed for one recipient and package.
type SignedRequest struct {
	ConnectionRequest
	Signature []byte
}

func (q *ConnectionRequest) append(b []byte) []byte {
	b = appendChain(b, q.Chain)
	b = codec.AppendVector(b, q.RoomID)
	b = appendSecret(b, q.WrapperKey)
	b = appendSecret(b, q.ConnectionKey)
	b = codec.AppendVector(b, q.ResponseKey.Bytes())
	b = append(b, q.Token.Bytes()...)
	b = codec.AppendVector(b, q.KPProvider)
	b = codec.AppendVector(b, q.HubDomain)
	b = append(b, q.LinkID[:]...)
	return append(b, q.LinkSeed.Bytes()...)
}

func (q *ConnectionRequest) tbs(target Handle, packageHash [32]byte) []byte {
	b := codec.AppendVector(q.append(nil), target.uri)
	return append(b, packageHash[:]...)
}

func (q *ConnectionRequest) valid() bool {
	return len(q.Chain) >= 1 && len(q.Chain) <= 2 && len(q.RoomID) == GroupIDSize && q.ConnectionKey.Present() &&
		q.ResponseKey.KEM() == primitive.X25519 && q.Token.Present() && q.LinkSeed.Present() &&
		validDomains(q.KPProvider, q.HubDomain)
}

// Sign signs the request for the user and package it will be sent to; a
// recipient cannot pass it on as if meant for another (SPEC.md R-33). An
// incomplete request is mmr/malformed.
func (q ConnectionRequest) Sign(target Handle, packageHash [32]byte, key primitive.Signer) (*SignedRequest, error) {
	if !q.valid() {
		return nil, mmrerr.Malformed
	}
	sig, err := key.SignWithLabel(labelRequest, q.tbs(target, packageHash))
	if err != nil {
		return nil, err
	}
	return &SignedRequest{ConnectionRequest: q, Signature: sig}, nil
}

// AppendBinary appends the serialized SignedRequest.
func (q *SignedRequest) AppendBinary(b []byte) ([]byte, error) {
	if !q.valid() {
		return b, mmrerr.Malformed
	}
	return codec.AppendVector(q.append(b), q.Signature), nil
}

// Hash returns request_hash, H of the serialized SignedRequest, which the
// response is bound to.
func (q *SignedRequest) Hash() ([32]byte, error) {
	b, err := q.AppendBinary(nil)
	if err != nil {
		return [32]byte{}, err
	}
	return primitive.Hash(b), nil
}

// ParseSignedRequest reads a serialized SignedRequest.
func ParseSignedRequest(b []byte) (*SignedRequest, error) {
	r := codec.NewReader(b)
	q := new(SignedRequest)
	q.Chain = readChain(r)
	q.RoomID = r.Vector(maxGroupID)
	q.WrapperKey = readSecret(r, true)
	q.ConnectionKey = readSecret(r, false)
	raw := r.Vector(primitive.X25519.PublicKeySize())
	q.Token = readSecret32(r)
	q.KPProvider = string(r.Vector(maxURI))
	q.HubDomain = string(r.Vector(maxURI))
	r.Copy(q.LinkID[:])
	q.LinkSeed = readSecret32(r)
	q.Signature = r.Vector(maxSignature)
	if r.Done() != nil {
		return nil, mmrerr.Malformed
	}
	var err error
	if q.ResponseKey, err = primitive.ParseKEMPublicKey(primitive.X25519, raw); err != nil || !q.valid() {
		return nil, mmrerr.Malformed
	}
	return q, nil
}

// Seal seals the request to the package it was signed for: the serialized
// HPKECiphertext for provider.SendConnectionRequest (SPEC.md R-33).
func (q *SignedRequest) Seal(p *ConnectionPackage) ([]byte, error) {
	b, err := q.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	h := p.Hash()
	return sealPadded(p.Key, labelSealedRequest, h[:], b)
}

// OpenRequest opens a sealed request with the private key of the package of
// that hash. It returns primitive.ErrOpen or mmr/malformed.
func OpenRequest(key *primitive.KEMPrivateKey, packageHash [32]byte, sealed []byte) (*SignedRequest, error) {
	b, err := openPadded(key, labelSealedRequest, packageHash[:], sealed)
	if err != nil {
		return nil, err
	}
	return ParseSignedRequest(b)
}

// Verify makes the recipient's checks of SPEC.md R-35: the request was signed
// for this user and package by the key of its credential, which leads to the CA
// of the domain it names. It returns who asks, or ErrUnverified.
func (q *SignedRequest) Verify(self Handle, packageHash [32]byte, roots Roots, now time.Time) (Real, error) {
	user, err := claimedUser(q.Chain)
	if err != nil {
		return Real{}, err
	}
	return verifySigned(q.Chain, user, roots, now, labelRequest, q.tbs(self, packageHash), q.Signature)
}
