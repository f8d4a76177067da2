package seal

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// DeliveryKey is K_e of SPEC.md R-70: the key of one leaf and epoch under which
// the hub seals envelopes. Hub and client hold the same. It hides events from
// the relay and the path to it; it is not an MLS secret.
type DeliveryKey struct {
	epoch uint64
	k     primitive.Secret
}

// NewDeliveryKey derives K at epoch, the leaf's first one or the first of its
// new path, from the delivery secret d (SPEC.md §4.2). leafKey is the leaf's
// SignaturePublicKey.
func NewDeliveryKey(d primitive.Secret, groupID []byte, epoch uint64, leafKey []byte) DeliveryKey {
	ctx := codec.AppendVector(nil, groupID)
	ctx = binary.BigEndian.AppendUint64(ctx, epoch)
	ctx = codec.AppendVector(ctx, leafKey)
	return DeliveryKey{epoch: epoch, k: primitive.DeriveSecret(d, "mmr delivery init", ctx)}
}

// StoredDeliveryKey makes a key of what Epoch and Secret returned.
func StoredDeliveryKey(epoch uint64, k primitive.Secret) DeliveryKey {
	return DeliveryKey{epoch: epoch, k: k}
}

// Epoch returns the epoch that the key belongs to.
func (k DeliveryKey) Epoch() uint64 { return k.epoch }

// Secret returns K_e itself, for storage.
func (k DeliveryKey) Secret() primitive.Secret { return k.k }

// Next returns K_{e+1}. The caller wipes k when it has stored the result
// (SPEC.md R-70); a client keeps it for ten minutes.
func (k DeliveryKey) Next() DeliveryKey {
	e := k.epoch + 1
	return DeliveryKey{epoch: e, k: primitive.DeriveSecret(k.k, "mmr delivery next", binary.BigEndian.AppendUint64(nil, e))}
}

// Wipe clears the key and all copies of it.
func (k DeliveryKey) Wipe() { k.k.Wipe() }

func (k DeliveryKey) envelopeKey() primitive.Key128 {
	return primitive.DeriveKey128(k.k, "mmr delivery key", nil)
}

func (k DeliveryKey) hint(nonce []byte) [hintSize]byte {
	hk := k.hintKey()
	defer hk.Wipe()
	return hintOf(hk, nonce)
}

func (k DeliveryKey) hintKey() primitive.Secret {
	return primitive.DeriveSecret(k.k, "mmr delivery hint", nil)
}

func hintOf(hintKey primitive.Secret, nonce []byte) [hintSize]byte {
	sum := primitive.HMAC(hintKey.Bytes(), nonce)
	return [hintSize]byte(sum[:hintSize])
}
