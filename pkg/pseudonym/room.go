package pseudonym

import (
	"bytes"
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// LinkKeyRequirement says who must give a link key (SPEC.md R-55).
type LinkKeyRequirement uint8

// The requirements.
const (
	RequireAll      LinkKeyRequirement = 1
	RequireAdmins   LinkKeyRequirement = 2 // moderators and admins must, others must not
	RequireOptional LinkKeyRequirement = 3
	RequireNone     LinkKeyRequirement = 4
)

// WrapScheme says how members share link keys.
type WrapScheme uint8

// The schemes.
const (
	SchemeStatic WrapScheme = 1 // SPEC.md §6
	SchemeTree   WrapScheme = 2 // SPEC.md §7
)

// JoinRule says who may enter by external commit, besides resync and siblings.
type JoinRule uint8

// The join rules (SPEC.md R-116).
const (
	JoinByInvite     JoinRule = 1 // nobody
	JoinByLink       JoinRule = 2
	JoinByConnection JoinRule = 3
)

// Role is a participant's role; a higher one has a higher value.
type Role uint8

// The roles.
const (
	Observer  Role = 1
	Member    Role = 2
	Moderator Role = 3
	Admin     Role = 4
)

// Limits of a Room (SPEC.md §19, R-20).
const (
	MaxLinks = 8
	maxRoles = 10_000
)

const roomVersion = 1

// RoleEntry gives a participant a role other than the default.
type RoleEntry struct {
	User ID
	Role Role
}

// RoomLink is the structure JoinLink of SPEC.md §8: a way to join that the hub
// can check. Its secret half is JoinLink.
type RoomLink struct {
	ID       [16]byte
	Pub      primitive.KEMPublicKey // link_pub, X25519
	CodeHash [32]byte
	NotAfter uint64 // Unix seconds, inclusive
}

// RoomLimits are a room's limits.
type RoomLimits struct {
	MaxLeaves        uint32
	MaxLeavesPerUser uint16
	MaxMessage       uint32 // length of an application message's ciphertext in bytes
	AddMinRole       Role   // Member..Admin
	LinkMinRole      Role   // Member..Admin
}

// DefaultLimits returns the defaults of SPEC.md §19.
func DefaultLimits() RoomLimits {
	return RoomLimits{MaxLeaves: 1000, MaxLeavesPerUser: 10, MaxMessage: 262_144, AddMinRole: Member, LinkMinRole: Moderator}
}

// Room is MmrRoom, the policy of a room in GroupContext extension 0xF0A5
// (SPEC.md §8).
type Room struct {
	Requirement LinkKeyRequirement // never changes
	Scheme      WrapScheme         // never changes
	EAR         bool               // encryption at rest under a key of the members; never changes
	JoinRule    JoinRule
	DefaultRole Role        // Observer or Member
	Roles       []RoleEntry // ascending by the URI
	Links       []RoomLink  // ascending by the id
	Limits      RoomLimits
}

// AppendBinary appends the extension's data. A room that ParseRoom would refuse
// is refused with the same code, and nothing is appended.
func (m *Room) AppendBinary(b []byte) ([]byte, error) {
	if err := m.valid(); err != nil {
		return b, err
	}
	ear := uint8(0)
	if m.EAR {
		ear = 1
	}
	b = append(b, roomVersion, byte(m.Requirement), byte(m.Scheme), ear, byte(m.JoinRule), byte(m.DefaultRole))
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, e := range m.Roles {
			b = append(appendID(b, e.User), byte(e.Role))
		}
		return b
	})
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, l := range m.Links {
			b = append(b, l.ID[:]...)
			b = codec.AppendVector(b, l.Pub.Bytes())
			b = append(b, l.CodeHash[:]...)
			b = binary.BigEndian.AppendUint64(b, l.NotAfter)
		}
		return b
	})
	b = binary.BigEndian.AppendUint32(b, m.Limits.MaxLeaves)
	b = binary.BigEndian.AppendUint16(b, m.Limits.MaxLeavesPerUser)
	b = binary.BigEndian.AppendUint32(b, m.Limits.MaxMessage)
	return append(b, byte(m.Limits.AddMinRole), byte(m.Limits.LinkMinRole)), nil
}

// ParseRoom reads the extension's data. Unknown values and lists out of order
// are mmr/malformed, two entries for one user mmr/policy-change (SPEC.md
// R-111), more links than MaxLinks mmr/limit.
func ParseRoom(b []byte) (*Room, error) {
	r := codec.NewReader(b)
	version := r.Uint8()
	m := &Room{Requirement: LinkKeyRequirement(r.Uint8()), Scheme: WrapScheme(r.Uint8())}
	ear := r.Uint8()
	m.EAR = ear == 1
	m.JoinRule = JoinRule(r.Uint8())
	m.DefaultRole = Role(r.Uint8())
	sub := r.Sub(codec.MaxVector)
	for !sub.Empty() {
		m.Roles = append(m.Roles, RoleEntry{User: readID(sub, User), Role: Role(sub.Uint8())})
	}
	r.Join(sub)
	sub = r.Sub(codec.MaxVector)
	for !sub.Empty() {
		m.Links = append(m.Links, readRoomLink(sub))
	}
	r.Join(sub)
	m.Limits.MaxLeaves = r.Uint32()
	m.Limits.MaxLeavesPerUser = r.Uint16()
	m.Limits.MaxMessage = r.Uint32()
	m.Limits.AddMinRole = Role(r.Uint8())
	m.Limits.LinkMinRole = Role(r.Uint8())
	if r.Done() != nil || version != roomVersion || ear > 1 {
		return nil, mmrerr.Malformed
	}
	if err := m.valid(); err != nil {
		return nil, err
	}
	return m, nil
}

func readRoomLink(r *codec.Reader) RoomLink {
	var l RoomLink
	r.Copy(l.ID[:])
	raw := r.Vector(primitive.X25519.PublicKeySize())
	r.Copy(l.CodeHash[:])
	l.NotAfter = r.Uint64()
	if r.Err() != nil {
		return RoomLink{}
	}
	pub, err := primitive.ParseKEMPublicKey(primitive.X25519, raw)
	if err != nil {
		r.Fail(codec.ErrMalformed)
	}
	l.Pub = pub
	return l
}

func (m *Room) valid() error {
	l := m.Limits
	if m.Requirement < RequireAll || m.Requirement > RequireNone || m.Scheme < SchemeStatic || m.Scheme > SchemeTree ||
		m.JoinRule < JoinByInvite || m.JoinRule > JoinByConnection || m.DefaultRole != Observer && m.DefaultRole != Member ||
		l.AddMinRole < Member || l.AddMinRole > Admin || l.LinkMinRole < Member || l.LinkMinRole > Admin ||
		len(m.Roles) > maxRoles {
		return mmrerr.Malformed
	}
	if len(m.Links) > MaxLinks {
		return mmrerr.Limit
	}
	for i, e := range m.Roles {
		if e.User.Kind() != User || e.Role < Observer || e.Role > Admin {
			return mmrerr.Malformed
		}
		if i > 0 && m.Roles[i-1].User == e.User {
			return mmrerr.PolicyChange
		}
		if i > 0 && m.Roles[i-1].User.uri > e.User.uri {
			return mmrerr.Malformed
		}
	}
	for i, k := range m.Links {
		if k.Pub.KEM() != primitive.X25519 || i > 0 && bytes.Compare(m.Links[i-1].ID[:], k.ID[:]) >= 0 {
			return mmrerr.Malformed
		}
	}
	return nil
}

// Link returns the link whose code has that hash, if it has not expired at now
// (SPEC.md R-116), in Unix seconds.
func (m *Room) Link(codeHash [32]byte, now uint64) (RoomLink, bool) {
	for _, l := range m.Links {
		if l.CodeHash == codeHash && now <= l.NotAfter {
			return l, true
		}
	}
	return RoomLink{}, false
}
