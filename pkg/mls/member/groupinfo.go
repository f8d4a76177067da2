package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// GroupInfoOptions says what a GroupInfo holds beside the GroupContext and the
// confirmation tag.
type GroupInfoOptions struct {
	Extensions         []mls.Extension // the caller's own, after those of the engine
	WithoutTree        bool            // no ratchet_tree: it goes beside the GroupInfo
	WithoutExternalPub bool            // no external_pub: nobody can join with it
}

// GroupInfo returns a GroupInfo of the current epoch, signed with the own leaf's
// key, as an MLSMessage (RFC 9420 §12.4.3).
func (g *Group) GroupInfo(o GroupInfoOptions) ([]byte, error) {
	if err := g.active(); err != nil {
		return nil, err
	}
	info, err := g.cur.groupInfo(o)
	if err != nil {
		return nil, err
	}
	return info.Message(), nil
}

// ExternalPub returns the public key with which strangers can join the current
// epoch (RFC 9420 §8), to compare a GroupInfo's with, which a server cannot check.
func (g *Group) ExternalPub() ([]byte, error) {
	if err := g.active(); err != nil {
		return nil, err
	}
	public, private, err := g.cur.secrets.ExternalKey(g.suite())
	private.Wipe()
	return public, err
}

func (e *epoch) groupInfo(o GroupInfoOptions) (*wire.GroupInfo, error) {
	var es []wire.Extension
	if !o.WithoutTree {
		es = append(es, wire.Extension{Type: wire.ExtensionRatchetTree, Data: e.pub.Tree().AppendTo(nil)})
	}
	if !o.WithoutExternalPub {
		public, private, err := e.secrets.ExternalKey(e.pub.Suite())
		private.Wipe()
		if err != nil {
			return nil, err
		}
		es = append(es, wire.ExternalPubExtension(public))
	}
	es = append(es, o.Extensions...)
	// RFC 9420 §13.4: no type twice, the engine's own ones included.
	if wire.DuplicateExtension(es) {
		return nil, wire.Refuse(wire.RuleDuplicateExtension)
	}
	info := &wire.GroupInfo{
		Context: e.pub.Context(), Extensions: es,
		ConfirmationTag: e.pub.ConfirmationTag(), Signer: e.own,
	}
	var err error
	if info.Signature, err = sign(e.signer, labelGroupInfo, info.TBS()); err != nil {
		return nil, err
	}
	return info.Seal(), nil
}
