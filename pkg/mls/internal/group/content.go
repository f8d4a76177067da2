package group

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// CheckContent checks that a message belongs to this group and epoch, that its
// sender may send such a content in such a format, and that the sender signed
// it (RFC 9420 §6, §6.1, §12.4.2). A member has decrypted the message, or
// checked its membership tag, before.
func (s *State) CheckContent(a *wire.AuthenticatedContent) error {
	c := a.Content
	if !bytes.Equal(c.GroupID, s.context.GroupID) {
		return wire.Refuse(wire.RuleGroupID)
	}
	// RFC 9420 §12.4.2: a re-initialized group takes no more messages.
	if s.closed {
		return wire.Refuse(wire.RuleClosed)
	}
	if err := s.checkFraming(a); err != nil {
		return err
	}
	if c.Epoch != s.context.Epoch {
		return wire.RefuseAs(wire.RuleEpoch, wire.ClassStale)
	}
	key, err := s.senderKey(c)
	if err != nil {
		return err
	}
	if !s.suite.VerifyParts(key, "FramedContentTBS", a.Auth.Signature, c.TBSParts(a.Format, s.context.Raw())...) {
		return wire.Refuse(wire.RuleSignature)
	}
	return nil
}

// checkFraming checks the combination of format, sender and content.
func (s *State) checkFraming(a *wire.AuthenticatedContent) error {
	c := a.Content
	// RFC 9420 §6: application data is always encrypted.
	if c.ContentType == wire.ContentApplication && a.Format != wire.FormatPrivateMessage {
		return wire.Refuse(wire.RuleApplicationPublic)
	}
	if c.Sender.Type == wire.SenderMember {
		return nil
	}
	// RFC 9420 §6: who is not a member sends PublicMessages.
	if a.Format != wire.FormatPublicMessage {
		return wire.Refuse(wire.RuleSenderContent)
	}
	switch c.Sender.Type {
	case wire.SenderExternal:
		// RFC 9420 §12.1.8: external senders propose, and only these types.
		if c.ContentType != wire.ContentProposal {
			return wire.Refuse(wire.RuleSenderContent)
		}
		switch c.Proposal.Type {
		case wire.ProposalAdd, wire.ProposalRemove, wire.ProposalPSK, wire.ProposalReInit, wire.ProposalGroupContextExtensions:
		default:
			return wire.Refuse(wire.RuleExternalProposalType)
		}
	case wire.SenderNewMemberProposal:
		// RFC 9420 §6.1: a new member proposes its own Add.
		if c.ContentType != wire.ContentProposal {
			return wire.Refuse(wire.RuleSenderContent)
		}
		if c.Proposal.Type != wire.ProposalAdd {
			return wire.Refuse(wire.RuleExternalProposalType)
		}
	default:
		// RFC 9420 §6.1: an external commit.
		if c.ContentType != wire.ContentCommit {
			return wire.Refuse(wire.RuleSenderContent)
		}
	}
	return nil
}

// senderKey returns the key that must have signed the content (RFC 9420 §6.1).
func (s *State) senderKey(c *wire.FramedContent) ([]byte, error) {
	switch c.Sender.Type {
	case wire.SenderMember:
		if leaf := s.tree.Leaf(wire.LeafIndex(c.Sender.Index)); leaf != nil {
			return leaf.SignatureKey, nil
		}
	case wire.SenderExternal:
		if int64(c.Sender.Index) < int64(len(s.senders)) {
			return s.senders[c.Sender.Index].SignatureKey, nil
		}
	case wire.SenderNewMemberProposal:
		return c.Proposal.Add.Leaf.SignatureKey, nil
	case wire.SenderNewMemberCommit:
		// RFC 9420 §12.4.3.2: the key is in the path, which is mandatory.
		if c.Commit.Path == nil {
			return nil, wire.Refuse(wire.RulePathRequired)
		}
		return c.Commit.Path.Leaf.SignatureKey, nil
	}
	return nil, wire.Refuse(wire.RuleSender)
}
