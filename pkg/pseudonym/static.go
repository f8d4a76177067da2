package pseudonym

import (
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// EntrySize is the length of a wrapped link key of the static scheme in bytes
// (SPEC.md R-14).
const EntrySize = primitive.NonceSize + primitive.SecretSize + primitive.TagSize

// WrapStatic makes a leaf's entry in the static scheme: its link key under the
// room's identity_link_wrapper_key, bound to group and credential (SPEC.md
// The scheme has no forward secrecy; treewrap is the default.
func WrapStatic(wrapper primitive.Secret, groupID []byte, tbsHash [32]byte, linkKey primitive.Secret) []byte {
	return wrapStatic(wrapper, groupID, tbsHash, linkKey, primitive.NewNonce())
}

func wrapStatic(wrapper primitive.Secret, groupID []byte, tbsHash [32]byte, linkKey primitive.Secret, nonce primitive.Nonce) []byte {
	key := staticKey(wrapper, groupID)
	defer key.Wipe()
	b := make([]byte, 0, EntrySize)
	b = append(b, nonce[:]...)
	return primitive.AppendAES128(b, key, nonce, staticAAD(groupID, tbsHash), linkKey.Bytes())
}

// UnwrapStatic opens an entry, or returns primitive.ErrOpen: the leaf is
// unverified.
func UnwrapStatic(wrapper primitive.Secret, groupID []byte, tbsHash [32]byte, entry []byte) (primitive.Secret, error) {
	if len(entry) != EntrySize {
		return primitive.Secret{}, primitive.ErrOpen
	}
	key := staticKey(wrapper, groupID)
	defer key.Wipe()
	pt, err := primitive.OpenAES128(key, staticAAD(groupID, tbsHash), entry)
	if err != nil {
		return primitive.Secret{}, err
	}
	return primitive.ParseSecret(pt)
}

func staticKey(wrapper primitive.Secret, groupID []byte) primitive.Key128 {
	return primitive.DeriveKey128(wrapper, "IdentityLinkWrap", groupID)
}

// staticAAD is {opaque group_id<V>; opaque tbs_hash<V>} of SPEC.md R-14.
func staticAAD(groupID []byte, tbsHash [32]byte) []byte {
	b := codec.AppendVector(nil, groupID)
	return codec.AppendVector(b, tbsHash[:])
}

// AddAAD is the list of entries that a commit of the static scheme carries, one
// per Add in order, or one for an external commit or a replaced credential
// (SPEC.md R-13). A nil entry is absent.
type AddAAD [][]byte

// AppendBinary appends the serialized AddAAD, the data of the item AADAddAAD.
func (a AddAAD) AppendBinary(b []byte) ([]byte, error) {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, e := range a {
			b = codec.AppendOptional(b, e != nil)
			if e != nil {
				b = codec.AppendVector(b, e)
			}
		}
		return b
	}), nil
}

// ParseAddAAD reads a serialized AddAAD. Entries alias b; their length is
// CheckAddAAD's to judge.
func ParseAddAAD(b []byte) (AddAAD, error) {
	r := codec.NewReader(b)
	sub := r.Sub(maxAAD)
	a := AddAAD{}
	for !sub.Empty() {
		if sub.Optional() {
			a = append(a, sub.Vector(maxAAD))
		} else {
			a = append(a, nil)
		}
	}
	r.Join(sub)
	if err := done(r); err != nil {
		return nil, err
	}
	return a, nil
}

// CheckAddAAD is SPEC.md R-15: a has one entry per rule, in order, present as
// the rule says and 60 bytes long. The rules are those of Room.KeyRule for the
// leaves' users after the commit. The codes are mmr/link-keys-count,
// mmr/link-key-missing, mmr/link-key-forbidden and mmr/link-key-length. A
// commit without such leaves has no item, and a and rules are empty.
func CheckAddAAD(a AddAAD, rules []KeyRule) error {
	if len(a) != len(rules) {
		return mmrerr.LinkKeysCount
	}
	for i, e := range a {
		if err := rules[i].Check(e != nil); err != nil {
			return err
		}
		if e != nil && len(e) != EntrySize {
			return mmrerr.LinkKeyLength
		}
	}
	return nil
}

// AppendWrapperKey appends the data of the extension ExtensionIdentityLinkWrapper:
// opaque identity_link_wrapper_key<V>.
func AppendWrapperKey(b []byte, wrapper primitive.Secret) []byte { return appendSecret(b, wrapper) }

// ParseWrapperKey reads the data of ExtensionIdentityLinkWrapper.
func ParseWrapperKey(b []byte) (primitive.Secret, error) {
	r := codec.NewReader(b)
	s := readSecret(r, false)
	if err := done(r); err != nil {
		return primitive.Secret{}, err
	}
	return s, nil
}
