package seal

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

const (
	earIDSize    = 16
	minRow       = 512
	labelEARLink = "mmr ear link"
)

// EARKey is the key under which a hub keeps a room at rest. Members derive it
// from the MLS exporter with the label LabelEAR and send it with each request;
// the hub forgets it in between (SPEC.md R-101).
type EARKey struct {
	key     primitive.Secret
	groupID []byte
}

// LabelEAR is the exporter label of ear_key; the context is empty and the
// length 32 (SPEC.md §4.2).
const LabelEAR = "mmr ear"

// NewEARKey makes the key of one room; it copies neither argument.
func NewEARKey(key primitive.Secret, groupID []byte) EARKey {
	return EARKey{key: key, groupID: groupID}
}

// Secret returns the key itself.
func (k EARKey) Secret() primitive.Secret { return k.key }

// ID returns ear_id, 16 bytes that a hub can keep to recognise the key.
func (k EARKey) ID() [earIDSize]byte {
	return [earIDSize]byte(primitive.ExpandWithLabel(k.key, "mmr ear id", k.groupID, earIDSize))
}

// RowID returns the id under which the row of that name is stored.
func (k EARKey) RowID(name string) [16]byte {
	return [16]byte(primitive.ExpandWithLabel(k.key, "mmr ear row", []byte(name), 16))
}

// SealRow encrypts a row for one version of the room record; every version has
// its own key, so that no key is used twice and an old row does not open as a
// new one (SPEC.md R-101). The length is 28 more than a power of two of at
// least 512. A row above 2^30-1 bytes is mmr/too-large.
func (k EARKey) SealRow(name string, version uint64, row []byte) ([]byte, error) {
	n := minRow
	for n < len(row)+primitive.PaddedOverhead(min(len(row), codec.MaxVector)) {
		n *= 2
	}
	padded, ok := primitive.AppendPadded(nil, row, n)
	if !ok {
		return nil, mmrerr.TooLarge
	}
	ctx := k.rowContext(name, version)
	blob := primitive.DeriveSecret(k.key, "mmr ear blob", ctx)
	defer blob.Wipe()
	return primitive.SealAES256(blob, ctx, padded), nil
}

// OpenRow opens a row, or returns primitive.ErrOpen for another key, name or
// version.
func (k EARKey) OpenRow(name string, version uint64, sealed []byte) ([]byte, error) {
	ctx := k.rowContext(name, version)
	blob := primitive.DeriveSecret(k.key, "mmr ear blob", ctx)
	defer blob.Wipe()
	padded, err := primitive.OpenAES256(blob, ctx, sealed)
	if err != nil {
		return nil, err
	}
	return unpad(padded)
}

// SealLink makes a link_box: the key sealed to a join link (SPEC.md R-102), as
// a serialized HPKECiphertext.
func (k EARKey) SealLink(link primitive.KEMPublicKey) ([]byte, error) {
	c, err := link.SealWithLabel(labelEARLink, k.groupID, k.key.Bytes())
	if err != nil {
		return nil, err
	}
	return c.Append(nil), nil
}

// OpenLink opens a link_box with the link's private key, or returns
// primitive.ErrOpen.
func OpenLink(link *primitive.KEMPrivateKey, groupID, box []byte) (EARKey, error) {
	r := codec.NewReader(box)
	c := primitive.ReadHPKECiphertext(r, primitive.SecretSize+primitive.TagSize)
	if r.Done() != nil {
		return EARKey{}, primitive.ErrOpen
	}
	pt, err := link.OpenWithLabel(labelEARLink, groupID, c)
	if err != nil {
		return EARKey{}, err
	}
	key, err := primitive.ParseSecret(pt)
	if err != nil {
		return EARKey{}, primitive.ErrOpen
	}
	return NewEARKey(key, groupID), nil
}

// rowContext is {group_id<V>, name<V>, uint64 version}, the blob key's context
// and the row's associated data.
func (k EARKey) rowContext(name string, version uint64) []byte {
	b := codec.AppendVector(nil, k.groupID)
	b = codec.AppendVector(b, name)
	return binary.BigEndian.AppendUint64(b, version)
}
