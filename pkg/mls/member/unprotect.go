package member

import (
	"bytes"
	"errors"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Process takes one message of the group: a proposal, a commit or an
// application message, the latter also of a past epoch still kept. Errors are
// *Refusal, or one of this package's sentinels; g stays usable and unchanged.
//
// A commit by somebody else drops a staged one; the staged one itself gives
// ErrOwnCommit. A commit that removes the own leaf gives a Group with status
// Removed and no error.
func (g *Group) Process(msg []byte) (*Group, *mls.Event, error) {
	if g.pending != nil && bytes.Equal(msg, g.pending.commit) {
		return nil, nil, ErrOwnCommit
	}
	if err := g.active(); err != nil {
		return nil, nil, err
	}
	m, err := wire.ParseMessage(msg, g.cur.pub.Limits())
	if err != nil {
		return nil, nil, err
	}
	switch m.Format {
	case wire.FormatPublicMessage:
		return g.processPublic(m.Public)
	case wire.FormatPrivateMessage:
		return g.processPrivate(m.Private)
	}
	return nil, nil, wire.RefuseAs(wire.RuleWireFormat, wire.ClassDecode)
}

func (g *Group) processPublic(m *wire.PublicMessage) (*Group, *mls.Event, error) {
	pub, a := g.cur.pub, m.Authenticated()
	if !bytes.Equal(m.Content.GroupID, pub.Context().GroupID) {
		return nil, nil, wire.Refuse(wire.RuleGroupID)
	}
	if m.Content.Epoch != pub.Context().Epoch {
		return nil, nil, wire.RefuseAs(wire.RuleEpoch, wire.ClassStale)
	}
	// RFC 9420 §6.2: the tag shows that a member framed the content; it is
	// computed over the context of the message's, that is this, epoch.
	if m.Content.Sender.Type == wire.SenderMember &&
		!g.suite().VerifyMACParts(g.cur.secrets.Membership, m.MembershipTag, a.TBMParts(pub.Context().Raw())...) {
		return nil, nil, wire.Refuse(wire.RuleMembershipTag)
	}
	return g.processContent(a)
}

func (g *Group) processPrivate(m *wire.PrivateMessage) (*Group, *mls.Event, error) {
	context := g.cur.pub.Context()
	switch {
	case !bytes.Equal(m.GroupID, context.GroupID):
		return nil, nil, wire.Refuse(wire.RuleGroupID)
	case m.Epoch == context.Epoch:
		tree, a, err := open(g.suite(), m, g.cur.secrets.SenderData, g.cur.tree, g.cur.pub.Tree().Leaf, g.cur.pub.Limits())
		if err != nil {
			return nil, nil, err
		}
		n, e := *g, *g.cur
		e.tree = tree
		n.cur = &e
		next, event, err := n.processContent(a)
		if err != nil {
			secret.RetireTree(tree, g.cur.tree)
		}
		return next, event, err
	case m.ContentType == wire.ContentApplication:
		for i, p := range g.past {
			if p.context.Epoch == m.Epoch {
				return g.processLate(i, m)
			}
		}
	}
	return nil, nil, wire.RefuseAs(wire.RuleEpoch, wire.ClassStale)
}

// processLate reads an application message of a past epoch, by the tree and
// the keys of that epoch.
func (g *Group) processLate(at int, m *wire.PrivateMessage) (*Group, *mls.Event, error) {
	p := g.past[at]
	leafOf := func(i wire.LeafIndex) *wire.LeafNode { return g.pastLeaf(at, i) }
	tree, a, err := open(g.suite(), m, p.senderData, p.tree, leafOf, g.cur.pub.Limits())
	if err != nil {
		return nil, nil, err
	}
	leaf := leafOf(wire.LeafIndex(a.Content.Sender.Index))
	if !g.suite().VerifyWithLabel(leaf.SignatureKey, labelContent, a.Content.TBS(a.Format, p.context.Raw()), a.Auth.Signature) {
		secret.RetireTree(tree, p.tree)
		return nil, nil, wire.Refuse(wire.RuleSignature)
	}
	n := g.next()
	n.past = append([]*past(nil), g.past...)
	changed := *p
	changed.tree = tree
	n.past[at] = &changed
	return n, applicationEvent(a, leaf), nil
}

// processContent goes on with a content whose membership tag or decryption was
// good; g holds the secret tree after the decryption.
func (g *Group) processContent(a *wire.AuthenticatedContent) (*Group, *mls.Event, error) {
	pub := g.cur.pub
	if err := pub.CheckContent(a); err != nil {
		return nil, nil, err
	}
	switch a.Content.ContentType {
	case wire.ContentApplication:
		return g.next(), applicationEvent(a, pub.Tree().Leaf(wire.LeafIndex(a.Content.Sender.Index))), nil
	case wire.ContentProposal:
		return g.processProposal(a)
	}
	return g.processCommit(a)
}

func (g *Group) processProposal(a *wire.AuthenticatedContent) (*Group, *mls.Event, error) {
	pub, p, err := g.cur.pub.AddProposal(a, noTime)
	if err != nil {
		return nil, nil, err
	}
	n, e := g.next(), *g.cur
	e.pub = pub
	n.cur = &e
	return n, &mls.Event{
		Kind: wire.ContentProposal, Epoch: a.Content.Epoch, Sender: a.Content.Sender,
		AAD: bytes.Clone(a.Content.AAD), Proposal: p,
	}, nil
}

func applicationEvent(a *wire.AuthenticatedContent, leaf *wire.LeafNode) *mls.Event {
	return &mls.Event{
		Kind: wire.ContentApplication, Epoch: a.Content.Epoch, Sender: a.Content.Sender,
		AAD: bytes.Clone(a.Content.AAD), Data: bytes.Clone(a.Content.ApplicationData), Leaf: leaf.Clone(),
	}
}

// open decrypts a private message with the secrets of its epoch and returns the
// secret tree without the used key. Nothing is verified but the encryption, the
// sender's existence and the padding.
func open(s *suite.Suite, m *wire.PrivateMessage, senderData suite.Secret, t *secret.Tree, leafOf func(wire.LeafIndex) *wire.LeafNode, l *wire.Limits) (*secret.Tree, *wire.AuthenticatedContent, error) {
	sd, err := secret.OpenSenderData(s, senderData, m)
	// RFC 9420 §6.3.2: the sender's leaf is not blank.
	if err != nil || leafOf(sd.Leaf) == nil {
		return nil, nil, wire.Refuse(wire.RuleSenderData)
	}
	which := secret.Handshake
	if m.ContentType == wire.ContentApplication {
		which = secret.Application
	}
	next, key, err := t.Take(uint32(sd.Leaf), which, sd.Generation)
	switch {
	case errors.Is(err, secret.ErrUsed):
		return nil, nil, wire.RefuseAs(wire.RuleGeneration, wire.ClassReplay)
	case errors.Is(err, secret.ErrTooFar):
		return nil, nil, wire.RefuseAs(wire.RuleGeneration, wire.ClassTooFar)
	case err != nil:
		return nil, nil, wire.Refuse(wire.RuleSenderData)
	}
	defer key.Wipe()
	plaintext, err := secret.Open(s, sd, key, m)
	if err != nil {
		// What was derived for a forgery goes; the tree keeps all it had.
		secret.RetireTree(next, t)
		return nil, nil, wire.Refuse(wire.RuleDecrypt)
	}
	a, err := wire.ParsePrivateContent(plaintext, m, sd.Leaf, l)
	clear(plaintext)
	if err != nil {
		secret.RetireTree(next, t)
		return nil, nil, err
	}
	return next, a, nil
}
