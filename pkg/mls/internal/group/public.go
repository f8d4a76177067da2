package group

import (
	"bytes"
	"iter"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Public is the public state of a group in one epoch: what a server holds, and
// what a member knows without its secrets. It is an immutable value, safe for
// use by many goroutines; what its methods return are copies.
type Public struct{ s *State }

// NewPublic starts to follow a group from a GroupInfo, an MLSMessage, and the
// ratchet tree (the body of the extension) if the GroupInfo does not hold it.
// Everything that RFC 9420 §12.4.3.1 lets a client check without secrets is
// checked, and Rules.Credential is asked for each leaf.
func NewPublic(groupInfo, tree []byte, o *Options) (*Public, error) {
	_, limits, err := o.prepare()
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseMessage(groupInfo, limits)
	if err != nil {
		return nil, err
	}
	if m.GroupInfo == nil {
		return nil, wire.Refuse(wire.RuleWireFormat)
	}
	s, err := FromGroupInfo(m.GroupInfo, tree, o)
	if err != nil {
		return nil, err
	}
	return s.Public(), nil
}

// Process takes a proposal or commit as an MLSMessage with a PublicMessage and
// returns the next state and what happened; on error both are nil and g is as
// it was, as it always is. now bounds the lifetimes of key packages that the
// message adds; the zero time leaves them unchecked.
//
// The order of checks is: decoding, wire format and framing, group, epoch,
// signature, Rules.Commit(PhaseSigned), proposal list, Rules.Commit
// (PhaseProposals), application, Rules.Commit(PhaseApplied), key packages that
// came by value, path, leaves against group and tree, Rules.Commit
// (PhaseComplete). The first failure is the error, a *Refusal.
func (g *Public) Process(msg []byte, now time.Time) (*Public, *Event, error) {
	m, err := wire.ParseMessage(msg, g.s.limits)
	if err != nil {
		return nil, nil, err
	}
	if m.Public == nil {
		return nil, nil, wire.Refuse(wire.RuleWireFormat)
	}
	a := m.Public.Authenticated()
	if err := g.s.CheckContent(a); err != nil {
		return nil, nil, err
	}
	c := a.Content
	e := &Event{Kind: c.ContentType, Epoch: c.Epoch, Sender: c.Sender, AAD: bytes.Clone(c.AAD)}
	if c.ContentType == wire.ContentProposal {
		next, p, err := g.s.AddProposal(a, now)
		if err != nil {
			return nil, nil, err
		}
		e.Proposal = p.clone(g.s.limits)
		return next.Public(), e, nil
	}
	p, err := g.s.Prepare(a, now)
	if err != nil {
		return nil, nil, err
	}
	next := p.Finish(a.Auth.ConfirmationTag)
	e.Commit = p.View(next)
	return next.Public(), e, nil
}

// Suite returns the group's cipher suite.
func (g *Public) Suite() wire.CipherSuite { return g.s.context.Suite }

// GroupID returns the group id.
func (g *Public) GroupID() []byte { return bytes.Clone(g.s.context.GroupID) }

// Epoch returns the epoch.
func (g *Public) Epoch() wire.Epoch { return g.s.context.Epoch }

// Closed reports whether the group was re-initialized: it takes no more
// messages (RFC 9420 §12.4.2).
func (g *Public) Closed() bool { return g.s.closed }

// Context returns a copy of the group context; its Raw is what was signed and
// hashed.
func (g *Public) Context() *wire.GroupContext {
	c, err := wire.ParseGroupContext(g.s.context.Raw(), wire.Unlimited())
	if err != nil {
		return &wire.GroupContext{} // only of a state that was built from fields no parser accepts
	}
	return c
}

// Extension returns the data of the group's extension of a type.
func (g *Public) Extension(t wire.ExtensionType) (data []byte, ok bool) {
	data, ok = g.s.context.Extension(t)
	return bytes.Clone(data), ok
}

// ConfirmationTag returns the tag of the commit that began the epoch.
func (g *Public) ConfirmationTag() []byte { return bytes.Clone(g.s.tag) }

// InterimTranscriptHash returns the hash that the next commit continues.
func (g *Public) InterimTranscriptHash() []byte { return bytes.Clone(g.s.interim) }

// Width returns the number of leaves of the tree, blank ones included.
func (g *Public) Width() uint32 { return g.s.tree.Width() }

// Len returns the number of members.
func (g *Public) Len() int { return g.s.tree.Members() }

// Leaf returns a copy of a member's leaf, or nil if the leaf is blank.
func (g *Public) Leaf(i wire.LeafIndex) *wire.LeafNode { return g.s.tree.Leaf(i).Clone() }

// Members yields copies of all non-blank leaves in ascending order.
func (g *Public) Members() iter.Seq2[wire.LeafIndex, *wire.LeafNode] {
	return func(yield func(wire.LeafIndex, *wire.LeafNode) bool) {
		for i, leaf := range g.s.tree.Leaves() {
			if !yield(i, leaf.Clone()) {
				return
			}
		}
	}
}

// TreeBytes returns the ratchet tree as the body of a ratchet_tree extension
// (RFC 9420 §12.4.3.3).
func (g *Public) TreeBytes() []byte { return g.s.tree.AppendTo(nil) }

// Proposals returns the proposals stored in this epoch, oldest first.
func (g *Public) Proposals() []*Proposal { return cloneProposals(g.s.stored, g.s.limits) }

// Without returns the state without the stored proposals that drop selects. A
// commit that refers to one of them will be refused.
func (g *Public) Without(drop func(*Proposal) bool) *Public { return g.s.Without(drop).Public() }

// WithGroupInfo returns the state with a GroupInfo, an MLSMessage, that
// external joiners can use. It must describe exactly this state (context,
// confirmation tag, tree if it holds one), be signed by a member, and have an
// external_pub, whose truth only members can check.
func (g *Public) WithGroupInfo(msg []byte) (*Public, error) {
	m, err := wire.ParseMessage(msg, g.s.limits)
	if err != nil {
		return nil, err
	}
	if m.GroupInfo == nil {
		return nil, wire.Refuse(wire.RuleWireFormat)
	}
	next, err := g.s.WithGroupInfo(m.GroupInfo)
	if err != nil {
		return nil, err
	}
	return next.Public(), nil
}

// GroupInfo returns the GroupInfo of this epoch as its member signed it, an
// MLSMessage; ok is false if nobody gave one since the epoch began. It holds
// the tree only if the member put it there: TreeBytes goes beside it.
func (g *Public) GroupInfo() (msg []byte, ok bool) {
	if g.s.info == nil {
		return nil, false
	}
	return g.s.info.Message(), true
}

// Verify checks a signature by member i over content with a label that is not
// one of RFC 9420's (SignWithLabel, RFC 9420 §5.1.2).
func (g *Public) Verify(i wire.LeafIndex, label string, content, signature []byte) error {
	leaf := g.s.tree.Leaf(i)
	if leaf == nil {
		return wire.Refuse(wire.RuleSender)
	}
	if !g.s.suite.VerifyWithLabel(leaf.SignatureKey, label, content, signature) {
		return wire.Refuse(wire.RuleSignature)
	}
	return nil
}

// AppendBinary appends the saved state. Rules and limits are not part of it.
func (g *Public) AppendBinary(b []byte) ([]byte, error) { return g.s.AppendTo(b), nil }

// ParsePublic reads a saved state. Structure and hashes are checked as
// strictly as in a message; signatures are not verified again: keep the bytes
// from being changed, as AppendBinary does not authenticate them.
func ParsePublic(b []byte, o *Options) (*Public, error) {
	s, err := ParseState(b, o)
	if err != nil {
		return nil, err
	}
	return s.Public(), nil
}
