package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// ExternalOptions configures an external join.
type ExternalOptions struct {
	Options
	Tree []byte // ratchet tree if the GroupInfo does not hold it
	AAD  []byte
	PSKs []*mls.ProposalBody // external PSKs to prove or mix in, see ExternalPSKProposal

	// Resync is the own former leaf, which the commit removes; nil for a new
	// member (RFC 9420 §12.4.3.2).
	Resync *mls.LeafIndex
}

// JoinExternal prepares an external commit from a GroupInfo, an MLSMessage (RFC
// 9420 §12.4.3.2). The Group has status Joining and can do nothing but Confirm,
// once the commit was accepted; if it is not, drop the Group.
func JoinExternal(id *Identity, groupInfo []byte, o ExternalOptions) (*Group, *Staged, error) {
	l := o.Limits.WithDefaults()
	s, err := checkIdentity(id, l)
	if err != nil {
		return nil, nil, err
	}
	m, err := wire.ParseMessage(groupInfo, l)
	if err != nil {
		return nil, nil, err
	}
	if m.GroupInfo == nil {
		return nil, nil, wire.RefuseAs(wire.RuleWireFormat, wire.ClassDecode)
	}
	if m.GroupInfo.Context.Suite != id.Suite {
		return nil, nil, wire.Refuse(wire.RuleWelcomeSuite)
	}
	base, err := group.FromGroupInfo(m.GroupInfo, o.Tree, &o.Options.Options)
	if err != nil {
		return nil, nil, err
	}
	external, err := base.ExternalPub(m.GroupInfo)
	if err != nil {
		return nil, nil, err
	}
	kemOutput, init, err := s.ExternalInit(external)
	if err != nil {
		return nil, nil, wire.Refuse(wire.RuleExternalPub)
	}
	defer init.Wipe()
	list, err := externalList(kemOutput, &o, l)
	if err != nil {
		return nil, nil, err
	}
	options := o.Options
	b := builder{
		base: base, list: list, opts: &options, identity: id,
		sender: wire.Sender{Type: wire.SenderNewMemberCommit},
		signer: id.Signer, init: init, psk: options.psk,
		commitOptions: &CommitOptions{AAD: o.AAD},
	}
	staged, err := b.build()
	if err != nil {
		return nil, nil, err
	}
	c := staged.auth.Content
	staged.commit = (&wire.PublicMessage{Content: c, Auth: staged.auth.Auth}).Message()
	g := newGroup(&options, nil)
	g.pending = staged
	return g, staged, nil
}

// externalList lists the proposals of an external commit (RFC 9420 §12.2).
func externalList(kemOutput []byte, o *ExternalOptions, l *wire.Limits) ([]wire.ProposalOrRef, error) {
	initial := (&wire.Proposal{Type: wire.ProposalExternalInit, ExternalInit: kemOutput}).Seal()
	list := []wire.ProposalOrRef{{Proposal: initial}}
	if o.Resync != nil {
		list = append(list, wire.ProposalOrRef{Proposal: mls.RemoveProposal(*o.Resync)})
	}
	for _, p := range o.PSKs {
		own, err := wire.ParseProposal(p.Raw(), l)
		if err != nil {
			return nil, err
		}
		list = append(list, wire.ProposalOrRef{Proposal: own})
	}
	return list, nil
}
