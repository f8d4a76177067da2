package seal

import (
	"encoding/binary"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

const (
	requestVersion = 1
	labelRequest   = "MmrRequestTBS"
)

// Times of SPEC.md R-65 in seconds.
const (
	TimestampStep = 30  // timestamps are multiples of it
	MaxSkew       = 120 // largest difference to the gateway's clock
	ReplayMemory  = 300 // how long a gateway remembers ReplayKey
)

// AuthKind says whose key signs a request.
type AuthKind uint8

// The kinds of authentication (SPEC.md ).
const (
	AuthNone    AuthKind = 1 // no signature
	AuthLeaf    AuthKind = 2 // the key of a leaf in the room's current tree
	AuthNewLeaf AuthKind = 3 // the key of the leaf inside the body
	AuthPool    AuthKind = 4 // a KeyPackage pool's upload key
	AuthQueue   AuthKind = 5 // a mailbox's read key
)

// RequestAuth is how a request is authenticated.
type RequestAuth struct {
	Kind      AuthKind
	LeafIndex uint32 // with AuthLeaf; otherwise 0
	Signature []byte // empty with AuthNone
}

// Request is MmrRequest, what is inside an encapsulated request (SPEC.md R-63).
type Request struct {
	Audience  string
	Method    string // one of the Method constants
	Timestamp uint64 // see Timestamp
	RequestID [16]byte
	GroupID   []byte           // empty for provider methods
	Token     []byte           // a Privacy Pass token, or empty
	EARKey    primitive.Secret // the room's key, or absent
	Body      []byte           // protobuf of the method
	Auth      RequestAuth
}

// Timestamp returns t in Unix seconds, rounded down to a multiple of 30: a
// finer clock would tell a device apart across rooms (SPEC.md R-65).
func Timestamp(t time.Time) uint64 {
	s := uint64(max(t.Unix(), 0))
	return s - s%TimestampStep
}

// Fresh reports whether a timestamp is within MaxSkew of now.
func Fresh(timestamp uint64, now time.Time) bool {
	s := uint64(max(now.Unix(), 0))
	return max(s, timestamp)-min(s, timestamp) <= MaxSkew
}

// Sign authenticates the request with signer's key. leafIndex is that of the
// signing leaf with AuthLeaf and 0 otherwise. Everything else must be set
// before and not change after.
func (q *Request) Sign(kind AuthKind, leafIndex uint32, signer primitive.Signer) error {
	sig, err := signer.SignWithLabel(labelRequest, q.tbs(leafIndex))
	if err != nil {
		return err
	}
	q.Auth = RequestAuth{Kind: kind, LeafIndex: leafIndex, Signature: sig}
	return nil
}

// Verify checks the signature with the key that the request's kind calls for,
// or returns primitive.ErrVerify. A request of kind AuthNone never verifies.
func (q *Request) Verify(key primitive.PublicKey) error {
	if q.Auth.Kind == AuthNone {
		return primitive.ErrVerify
	}
	return key.VerifyWithLabel(labelRequest, q.tbs(q.Auth.LeafIndex), q.Auth.Signature)
}

// tbs is MmrRequestTBS. The EAR key is not in it: whoever can present it can
// derive it.
func (q *Request) tbs(leafIndex uint32) []byte {
	token, body := primitive.Hash(q.Token), primitive.Hash(q.Body)
	b := codec.AppendVector(nil, q.Audience)
	b = codec.AppendVector(b, q.Method)
	b = binary.BigEndian.AppendUint64(b, q.Timestamp)
	b = append(b, q.RequestID[:]...)
	b = codec.AppendVector(b, q.GroupID)
	b = binary.BigEndian.AppendUint32(b, leafIndex)
	b = append(b, token[:]...)
	return append(b, body[:]...)
}

// AppendBinary appends the serialized MmrRequest. A request that ParseRequest
// would refuse is mmr/malformed, and nothing is appended.
func (q *Request) AppendBinary(b []byte) ([]byte, error) {
	if !q.valid() {
		return b, mmrerr.Malformed
	}
	b = append(b, requestVersion)
	b = codec.AppendVector(b, q.Audience)
	b = codec.AppendVector(b, q.Method)
	b = binary.BigEndian.AppendUint64(b, q.Timestamp)
	b = append(b, q.RequestID[:]...)
	b = codec.AppendVector(b, q.GroupID)
	b = codec.AppendVector(b, q.Token)
	b = appendSecret(b, q.EARKey)
	b = codec.AppendVector(b, q.Body)
	b = append(b, byte(q.Auth.Kind))
	b = binary.BigEndian.AppendUint32(b, q.Auth.LeafIndex)
	return codec.AppendVector(b, q.Auth.Signature), nil
}

// ParseRequest reads a serialized MmrRequest. Slices alias b, the EAR key does
// not. Audience, freshness and signature are the caller's to check, in the
// order of SPEC.md R-69.
func ParseRequest(b []byte) (*Request, error) {
	r := codec.NewReader(b)
	if r.Uint8() != requestVersion {
		return nil, mmrerr.Malformed
	}
	q := new(Request)
	q.Audience = string(r.Vector(maxAudience))
	q.Method = string(r.Vector(maxMethod))
	q.Timestamp = r.Uint64()
	r.Copy(q.RequestID[:])
	q.GroupID = r.Vector(maxGroupID)
	q.Token = r.Vector(maxToken)
	q.EARKey = readSecret(r, r.Vector(primitive.SecretSize), true)
	q.Body = r.Vector(maxMessage)
	q.Auth.Kind = AuthKind(r.Uint8())
	q.Auth.LeafIndex = r.Uint32()
	q.Auth.Signature = r.Vector(maxSignature)
	if r.Done() != nil || !q.valid() {
		return nil, mmrerr.Malformed
	}
	return q, nil
}

func (q *Request) valid() bool {
	switch q.Auth.Kind {
	case AuthNone:
		if len(q.Auth.Signature) != 0 || q.Auth.LeafIndex != 0 {
			return false
		}
	case AuthLeaf:
	case AuthNewLeaf, AuthPool, AuthQueue:
		if q.Auth.LeafIndex != 0 {
			return false
		}
	default:
		return false
	}
	return q.Timestamp%TimestampStep == 0 && len(q.Audience) <= maxAudience && len(q.Method) <= maxMethod &&
		len(q.GroupID) <= maxGroupID && len(q.Token) <= maxToken && len(q.Body) <= maxMessage && len(q.Auth.Signature) <= maxSignature
}

// Response is MmrResponse, what is inside an encapsulated response.
type Response struct {
	Code   mmrerr.Code
	Detail []byte // as the requirement that names the code says
	Body   []byte // protobuf of the method, empty unless Code is OK
}

// Err returns nil for OK, else the *mmrerr.Error.
func (p *Response) Err() error { return mmrerr.New(p.Code, p.Detail) }

// AppendBinary appends the serialized MmrResponse.
func (p *Response) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint16(b, uint16(p.Code))
	b = codec.AppendVector(b, p.Detail)
	return codec.AppendVector(b, p.Body), nil
}

// ParseResponse reads a serialized MmrResponse. Codes that the profile does not
// define are passed on.
func ParseResponse(b []byte) (*Response, error) {
	r := codec.NewReader(b)
	p := &Response{Code: mmrerr.Code(r.Uint16()), Detail: r.Vector(maxMessage), Body: r.Vector(maxMessage)}
	if err := done(r); err != nil {
		return nil, err
	}
	return p, nil
}
