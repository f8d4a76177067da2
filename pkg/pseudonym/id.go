package pseudonym

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Kind says whether an identifier is a user's or a client's.
type Kind byte

// The kinds of identifiers; their values are the letters in the URI.
const (
	User   Kind = 'u'
	Client Kind = 'd'
)

const scheme = "mimi://"

// GroupIDSize is the length of a room's group_id in bytes (SPEC.md §8).
const GroupIDSize = 32

// ID is a pseudonym: mimi://{host}/u/{uuid} or mimi://{host}/d/{uuid} (SPEC.md
// It can be compared with == and be a map key. The zero ID is none.
type ID struct{ uri string }

// ParseID reads a pseudonym. Everything that is not exactly one, real handles
// included, is mmr/pseudonym-shape.
func ParseID(uri string) (ID, error) {
	_, _, local, ok := splitURI(uri)
	if !ok || !validUUID(local) {
		return ID{}, mmrerr.PseudonymShape
	}
	return ID{uri}, nil
}

// NewID returns a fresh random pseudonym of a kind at a provider's domain.
func NewID(host string, kind Kind) (ID, error) {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return idOf(host, kind, b)
}

// idOf makes the UUID version 4, variant 10 of 16 bytes (SPEC.md §4.2).
func idOf(host string, kind Kind, b [16]byte) (ID, error) {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	x := hex.EncodeToString(b[:])
	uuid := x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
	return ParseID(scheme + host + "/" + string(kind) + "/" + uuid)
}

// String returns the URI. It identifies a person in a room: do not log it.
func (id ID) String() string { return id.uri }

// Host returns the provider's domain.
func (id ID) Host() string { host, _, _, _ := splitURI(id.uri); return host }

// Kind returns whether the pseudonym is a user's or a client's, 0 for the zero
// ID.
func (id ID) Kind() Kind { _, kind, _, _ := splitURI(id.uri); return kind }

// Handle is a real identifier: mimi://{domain}/u/{user} or
// mimi://{domain}/d/{client}. The local part has 1 to 64 of a-z 0-9 . _ -,
// begins with a letter or digit and is not a UUID of the shape of pseudonyms,
// so that no string is both. It can be compared with ==. The zero Handle is
// none.
type Handle struct{ uri string }

// ParseHandle reads a handle, or returns mmr/malformed.
func ParseHandle(uri string) (Handle, error) {
	_, _, local, ok := splitURI(uri)
	if !ok || !validLocal(local) || validUUID(local) {
		return Handle{}, mmrerr.Malformed
	}
	return Handle{uri}, nil
}

// NewHandle makes a handle of its parts, or returns mmr/malformed.
func NewHandle(domain string, kind Kind, local string) (Handle, error) {
	return ParseHandle(scheme + domain + "/" + string(kind) + "/" + local)
}

// String returns the URI. It identifies a person: do not log it.
func (h Handle) String() string { return h.uri }

// Domain returns the provider's domain.
func (h Handle) Domain() string { host, _, _, _ := splitURI(h.uri); return host }

// Kind returns whether the handle is a user's or a client's, 0 for the zero
// Handle.
func (h Handle) Kind() Kind { _, kind, _, _ := splitURI(h.uri); return kind }

// Local returns the local part.
func (h Handle) Local() string { _, _, local, _ := splitURI(h.uri); return local }

// RoomURI returns mimi://{hub}/r/{base64url(group_id)} (SPEC.md §8).
func RoomURI(hub string, groupID []byte) string {
	return scheme + hub + "/r/" + base64.RawURLEncoding.EncodeToString(groupID)
}

// ParseRoomURI reads what RoomURI returned, or returns mmr/malformed. The
// group_id has 32 bytes.
func ParseRoomURI(uri string) (hub string, groupID []byte, err error) {
	rest, ok := strings.CutPrefix(uri, scheme)
	if !ok {
		return "", nil, mmrerr.Malformed
	}
	hub, id, ok := strings.Cut(rest, "/r/")
	// The decoder skips line breaks even when strict; the length excludes them.
	if !ok || !seal.ValidDomain(hub) || len(id) != base64.RawURLEncoding.EncodedLen(GroupIDSize) {
		return "", nil, mmrerr.Malformed
	}
	groupID, err = base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(groupID) != GroupIDSize {
		return "", nil, mmrerr.Malformed
	}
	return hub, groupID, nil
}

// splitURI splits mimi://{host}/{u|d}/{local}.
func splitURI(uri string) (host string, kind Kind, local string, ok bool) {
	rest, ok := strings.CutPrefix(uri, scheme)
	if !ok {
		return "", 0, "", false
	}
	host, path, ok := strings.Cut(rest, "/")
	if !ok || !seal.ValidDomain(host) || len(path) < 3 || path[1] != '/' {
		return "", 0, "", false
	}
	switch kind = Kind(path[0]); kind {
	case User, Client:
		return host, kind, path[2:], true
	}
	return "", 0, "", false
}

// validUUID accepts the lower-case canonical form, version 4, variant 10.
func validUUID(s string) bool {
	if len(s) != 36 || s[14] != '4' || strings.IndexByte("89ab", s[19]) < 0 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

func validLocal(s string) bool {
	if s == "" || len(s) > 64 || strings.IndexByte("._-", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
