package member

import (
	"bytes"
	"math/bits"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// SendOptions is how a proposal or an application message travels.
type SendOptions struct {
	AAD     []byte // authenticated data, in the clear
	Private bool   // of a proposal: PrivateMessage instead of PublicMessage

	// Padding returns how many zero bytes to add to n bytes of
	// PrivateMessageContent; nil adds none. The ciphertext is 16 bytes longer
	// than the sum.
	Padding func(n int) int
}

// minBucket is the smallest size that PadToBucket pads to.
const minBucket = 256

// PadToBucket is a Padding for which the ciphertext's length, less 16, is 256
// times a power of two.
func PadToBucket(n int) int {
	if n <= minBucket {
		return minBucket - n
	}
	return 1<<bits.Len(uint(n-1)) - n
}

// Send encrypts application data in the current epoch (RFC 9420 §15). It fails
// with ErrCommitFirst while proposals wait for a commit. The Group must be
// stored before the message leaves: the key is used up.
func (g *Group) Send(data []byte, o SendOptions) (*Group, []byte, error) {
	if err := g.canSend(); err != nil {
		return nil, nil, err
	}
	// RFC 9420 §12.4: whoever saw valid proposals commits them first.
	if len(g.cur.pub.Stored()) > 0 {
		return nil, nil, ErrCommitFirst
	}
	a, err := g.sign(wire.FormatPrivateMessage, o.AAD, func(c *wire.FramedContent) {
		c.ContentType, c.ApplicationData = wire.ContentApplication, bytes.Clone(data)
	})
	if err != nil {
		return nil, nil, err
	}
	return g.protect(g.next(), a, o.Padding)
}

// Propose sends a proposal and stores it, as all who receive it will (RFC 9420
// §12.1). Update proposals are ProposeUpdate's.
func (g *Group) Propose(p *mls.ProposalBody, o SendOptions) (*Group, []byte, error) {
	if err := g.canSend(); err != nil {
		return nil, nil, err
	}
	if p.Type == wire.ProposalUpdate {
		return nil, nil, wire.Refuse(wire.RuleLeafSource)
	}
	return g.propose(p, nil, o)
}

// ProposeUpdate proposes to replace the own leaf's encryption key, and what leaf
// says (nil: nothing else). The private key is kept until the epoch ends; the
// leaf changes when somebody else commits the proposal (RFC 9420 §12.1.2).
func (g *Group) ProposeUpdate(leaf *LeafOptions, o SendOptions) (*Group, []byte, error) {
	if err := g.canSend(); err != nil {
		return nil, nil, err
	}
	pub := g.cur.pub
	n, signer := successor(pub.Tree().Leaf(g.cur.own), g.cur.signer, leaf)
	n.Source = wire.SourceUpdate
	public, private, err := g.suite().GenerateKeyPair()
	if err != nil {
		return nil, nil, err
	}
	n.EncryptionKey = public
	if n, err = sealLeaf(n, signer, pub.Context().GroupID, g.cur.own, pub.Limits()); err != nil {
		return nil, nil, err
	}
	p := &wire.Proposal{Type: wire.ProposalUpdate, Update: n}
	return g.propose(p.Seal(), &update{public, private, signer}, o)
}

func (g *Group) propose(p *wire.Proposal, u *update, o SendOptions) (*Group, []byte, error) {
	pub := g.cur.pub
	// A copy: the caller's proposal may change later.
	p, err := wire.ParseProposal(p.Raw(), pub.Limits())
	if err != nil {
		return nil, nil, err
	}
	f := wire.FormatPublicMessage
	if o.Private {
		f = wire.FormatPrivateMessage
	}
	a, err := g.sign(f, o.AAD, func(c *wire.FramedContent) {
		c.ContentType, c.Proposal = wire.ContentProposal, p
	})
	if err != nil {
		return nil, nil, err
	}
	// Nothing leaves that this engine itself would refuse.
	if err := pub.CheckContent(a); err != nil {
		return nil, nil, err
	}
	n, e := g.next(), *g.cur
	if e.pub, _, err = pub.AddProposal(a, noTime); err != nil {
		return nil, nil, err
	}
	if u != nil {
		e.updates = append(slices.Clip(e.updates), *u)
	}
	n.cur = &e
	return g.protect(n, a, o.Padding)
}

func (g *Group) canSend() error {
	if err := g.active(); err != nil {
		return err
	}
	if g.cur.pub.Closed() {
		return wire.Refuse(wire.RuleClosed)
	}
	return nil
}

// sign frames and signs a content of the own leaf in the current epoch.
func (g *Group) sign(f wire.WireFormat, aad []byte, fill func(*wire.FramedContent)) (*wire.AuthenticatedContent, error) {
	context, l := g.cur.pub.Context(), g.cur.pub.Limits()
	c := &wire.FramedContent{
		GroupID: context.GroupID, Epoch: context.Epoch,
		Sender: wire.Sender{Type: wire.SenderMember, Index: uint32(g.cur.own)},
		AAD:    bytes.Clone(aad),
	}
	fill(c)
	return signContent(c.Seal(), f, context, g.cur.signer, l)
}

func signContent(c *wire.FramedContent, f wire.WireFormat, context *wire.GroupContext, signer Signer, l *wire.Limits) (*wire.AuthenticatedContent, error) {
	if len(c.AAD) > l.AAD || len(c.Raw()) > l.Message {
		return nil, wire.RefuseAs(wire.RuleLimit, wire.ClassLimit)
	}
	sig, err := sign(signer, labelContent, c.TBSParts(f, context.Raw())...)
	if err != nil {
		return nil, err
	}
	return &wire.AuthenticatedContent{Format: f, Content: c, Auth: wire.AuthData{Signature: sig}}, nil
}

// protect turns an authenticated content into an MLSMessage and returns next
// with the key that this took (RFC 9420 §6.2, §6.3).
func (g *Group) protect(next *Group, a *wire.AuthenticatedContent, padding func(int) int) (*Group, []byte, error) {
	s, e, c := g.suite(), *next.cur, a.Content
	if a.Format == wire.FormatPublicMessage {
		tag := s.MAC(e.secrets.Membership, a.TBMParts(g.cur.pub.Context().Raw())...)
		m := &wire.PublicMessage{Content: c, Auth: a.Auth, MembershipTag: tag}
		return next, m.Message(), nil
	}
	pad := 0
	if padding != nil {
		pad = max(0, padding(len(wire.PrivateContent(a, 0))))
	}
	content := wire.PrivateContent(a, pad)
	if len(content) > e.pub.Limits().Message {
		return nil, nil, wire.RefuseAs(wire.RuleLimit, wire.ClassLimit)
	}
	which := secret.Handshake
	if c.ContentType == wire.ContentApplication {
		which = secret.Application
	}
	tree, key, err := e.tree.Next(uint32(e.own), which)
	if err != nil {
		return nil, nil, wire.Refuse(wire.RuleGeneration)
	}
	defer key.Wipe()
	m := &wire.PrivateMessage{GroupID: c.GroupID, Epoch: c.Epoch, ContentType: c.ContentType, AAD: c.AAD}
	if err := secret.Seal(s, e.secrets.SenderData, e.own, key, m, content); err != nil {
		return nil, nil, err
	}
	clear(content)
	e.tree = tree
	next.cur = &e
	return next, m.Message(), nil
}
