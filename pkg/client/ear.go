package client

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// earKey is the key under which the hub keeps the room, which every request to
// it carries (SPEC.md R-101); absent where the hub has a key of its own.
func (r *room) earKey() primitive.Secret {
	k, err := primitive.ParseSecret(r.st.EAR)
	if err != nil {
		return primitive.Secret{}
	}
	return k
}

// rotated follows a rotation of the key by the commit that made the current
// epoch: its id must be that of the key which every member can derive (SPEC.md
// Otherwise an insider has locked the room.
func (r *room) rotated(earID []byte) error {
	if len(earID) == 0 {
		return nil
	}
	k, err := exportSecret(r.g, seal.LabelEAR)
	if err != nil {
		return err
	}
	if id := seal.NewEARKey(k, r.st.GroupID).ID(); !slices.Equal(id[:], earID) {
		return ErrLocked
	}
	r.st.EAR = stored(k)
	return nil
}

// stored returns what to keep of a secret; nil if it is absent.
func stored(s primitive.Secret) []byte {
	if !s.Present() {
		return nil
	}
	return slices.Clone(s.Bytes())
}

// roomCall sends a request signed by the room's own leaf.
func (c *Client) roomCall(ctx context.Context, r *room, method string, body, out proto.Message) error {
	return c.roomRequest(ctx, r, method, [16]byte{}, body, out)
}

// roomRequest is roomCall with the id of a request that may be a repeat.
func (c *Client) roomRequest(ctx context.Context, r *room, method string, id [16]byte, body, out proto.Message) error {
	own, err := r.own()
	if err != nil {
		return err
	}
	err = c.signedRequest(ctx, r, own, method, id, body, out)
	if p := r.st.Pending; errors.Is(err, mmrerr.NoRoom) && p != nil && string(p.LeafKey) != string(own.public.Bytes()) {
		// If the pending commit was accepted, the hub knows this leaf by its next key.
		next, signerErr := newLeafSigner(mls.CipherSuite(r.st.Suite), r.signer(p.LeafKey))
		if signerErr != nil {
			return signerErr
		}
		return c.signedRequest(ctx, r, next, method, id, body, out)
	}
	return err
}

// signedRequest is roomRequest signed with a key of the own leaf.
func (c *Client) signedRequest(ctx context.Context, r *room, own leafSigner, method string, id [16]byte, body, out proto.Message) error {
	return c.do(ctx, call{
		to: hubOf(r.st.Hub), method: method, groupID: r.st.GroupID, ear: r.earKey(), kind: seal.AuthLeaf, leaf: uint32(r.g.OwnLeaf()), signer: own,
		body: body, id: id,
	}, out)
}
