package pseudonym

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const (
	joinLinkVersion   = 1
	maxJoinLink       = 2048
	labelSiblingProof = "MmrSiblingProofTBS"
)

// JoinLink is what a member shares to let somebody join (SPEC.md R-20). Whoever
// holds it can, with the hub's answer to its code, read who is in the room.
type JoinLink struct {
	HubDomain  string
	GroupID    []byte
	LinkID     [16]byte
	Seed       primitive.Secret // link_seed
	WrapperKey primitive.Secret // static scheme; absent with treewrap
	Inviter    Handle           // the real user who made the link
	NotAfter   uint64           // Unix seconds, inclusive
}

// Code returns what the joiner shows the hub (SPEC.md §4.2).
func (l *JoinLink) Code() primitive.Secret { return JoinCode(l.Seed, l.GroupID) }

// Key returns the link's key pair, to which link_box and LinkTop are sealed.
func (l *JoinLink) Key() *primitive.KEMPrivateKey { return JoinKey(l.Seed, l.GroupID) }

// Room returns the link's public half for the room's policy.
func (l *JoinLink) Room() RoomLink { return NewRoomLink(l.LinkID, l.Seed, l.GroupID, l.NotAfter) }

// JoinCode derives the code of a link from its seed.
func JoinCode(seed primitive.Secret, groupID []byte) primitive.Secret {
	return primitive.DeriveSecret(seed, "mmr join code", groupID)
}

// JoinKey derives the key pair of a link from its seed: RFC 9180 DeriveKeyPair.
func JoinKey(seed primitive.Secret, groupID []byte) *primitive.KEMPrivateKey {
	s := primitive.DeriveSecret(seed, "mmr join link", groupID)
	defer s.Wipe()
	return primitive.DeriveX25519Key(s)
}

// CodeHash returns the hash by which the hub knows a code.
func CodeHash(code primitive.Secret) [32]byte {
	return primitive.Hash([]byte("mmr-r/1 join code"), code.Bytes())
}

// NewRoomLink returns the public half of the link with that seed. Connection
// requests carry id and seed without a JoinLink (SPEC.md §14).
func NewRoomLink(id [16]byte, seed primitive.Secret, groupID []byte, notAfter uint64) RoomLink {
	return RoomLink{ID: id, Pub: JoinKey(seed, groupID).Public(), CodeHash: CodeHash(JoinCode(seed, groupID)), NotAfter: notAfter}
}

// AppendBinary appends the serialized structure of SPEC.md R-20.
func (l *JoinLink) AppendBinary(b []byte) ([]byte, error) {
	if !l.valid() {
		return b, mmrerr.Malformed
	}
	b = append(b, joinLinkVersion)
	b = codec.AppendVector(b, l.HubDomain)
	b = codec.AppendVector(b, l.GroupID)
	b = append(b, l.LinkID[:]...)
	b = append(b, l.Seed.Bytes()...)
	b = appendSecret(b, l.WrapperKey)
	b = codec.AppendVector(b, l.Inviter.uri)
	return binary.BigEndian.AppendUint64(b, l.NotAfter), nil
}

// ParseJoinLinkBytes reads the serialized structure.
func ParseJoinLinkBytes(b []byte) (*JoinLink, error) {
	r := codec.NewReader(b)
	version := r.Uint8()
	l := &JoinLink{HubDomain: string(r.Vector(maxURI)), GroupID: r.Vector(maxGroupID)}
	r.Copy(l.LinkID[:])
	l.Seed = readSecret32(r)
	l.WrapperKey = readSecret(r, true)
	inviter := string(r.Vector(maxURI))
	l.NotAfter = r.Uint64()
	if r.Done() != nil || version != joinLinkVersion || len(b) > maxJoinLink {
		return nil, mmrerr.Malformed
	}
	var err error
	if l.Inviter, err = ParseHandle(inviter); err != nil || !l.valid() {
		return nil, mmrerr.Malformed
	}
	return l, nil
}

func (l *JoinLink) valid() bool {
	return seal.ValidDomain(l.HubDomain) && len(l.GroupID) == GroupIDSize && l.Seed.Present() && l.Inviter.Kind() == User
}

// String returns "[redacted]", as the link is a secret; URI returns it.
func (*JoinLink) String() string { return "[redacted]" }

// URI returns the link as people share it: the room's URI with the base64url of
// the structure as fragment, which no program sends to a server. It returns ""
// for an incomplete link.
func (l *JoinLink) URI() string {
	b, err := l.AppendBinary(nil)
	if err != nil {
		return ""
	}
	return RoomURI(l.HubDomain, l.GroupID) + "#" + base64.RawURLEncoding.EncodeToString(b)
}

// ParseJoinLink reads what URI returned, or returns mmr/malformed, also if the
// fragment names another room than the URI before it.
func ParseJoinLink(uri string) (*JoinLink, error) {
	room, fragment, ok := strings.Cut(uri, "#")
	if !ok || len(fragment) > maxJoinLink*4/3 || strings.ContainsAny(fragment, "\r\n") {
		return nil, mmrerr.Malformed
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(fragment)
	if err != nil {
		return nil, mmrerr.Malformed
	}
	l, err := ParseJoinLinkBytes(b)
	if err != nil {
		return nil, err
	}
	if RoomURI(l.HubDomain, l.GroupID) != room {
		return nil, mmrerr.Malformed
	}
	return l, nil
}

// SiblingProof lets a new device of a participant join: a leaf of the same user
// signs for its key (SPEC.md R-24).
type SiblingProof struct {
	Leaf      uint32 // index of the signing leaf
	NotAfter  uint64 // Unix seconds, inclusive, within the next hour
	Signature []byte
}

// siblingWindow is how far in the future a proof may end, in seconds.
const siblingWindow = 3600

// NewSiblingProof signs a proof with the key of leaf for the new device's
// credential.
func NewSiblingProof(groupID []byte, leaf uint32, notAfter uint64, device TBS, key primitive.Signer) (*SiblingProof, error) {
	sig, err := key.SignWithLabel(labelSiblingProof, siblingTBS(groupID, device, notAfter))
	if err != nil {
		return nil, err
	}
	return &SiblingProof{Leaf: leaf, NotAfter: notAfter, Signature: sig}, nil
}

// Verify checks a proof for the joiner's credential with the key of the leaf it
// names, at now in Unix seconds. The caller has checked that this leaf is
// current, not leaving and of the joiner's user_pseudonym. Failures are
// mmr/join-not-allowed.
func (p *SiblingProof) Verify(groupID []byte, device TBS, leafKey primitive.PublicKey, now uint64) error {
	if p.NotAfter < now || p.NotAfter-now > siblingWindow {
		return mmrerr.JoinNotAllowed
	}
	if leafKey.VerifyWithLabel(labelSiblingProof, siblingTBS(groupID, device, p.NotAfter), p.Signature) != nil {
		return mmrerr.JoinNotAllowed
	}
	return nil
}

func siblingTBS(groupID []byte, device TBS, notAfter uint64) []byte {
	b := codec.AppendVector(nil, groupID)
	b = appendID(b, device.User)
	b = appendID(b, device.Client)
	b = codec.AppendVector(b, device.Key)
	return binary.BigEndian.AppendUint64(b, notAfter)
}

// AppendBinary appends the serialized structure, the data of AADSiblingProof.
func (p *SiblingProof) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint32(b, p.Leaf)
	b = binary.BigEndian.AppendUint64(b, p.NotAfter)
	return codec.AppendVector(b, p.Signature), nil
}

// ParseSiblingProof reads the serialized structure.
func ParseSiblingProof(b []byte) (*SiblingProof, error) {
	r := codec.NewReader(b)
	p := &SiblingProof{Leaf: r.Uint32(), NotAfter: r.Uint64(), Signature: r.Vector(maxSignature)}
	if err := done(r); err != nil {
		return nil, err
	}
	return p, nil
}
