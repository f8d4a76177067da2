package member

import (
	"bytes"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// CommitOptions says what a commit does.
type CommitOptions struct {
	ByValue []*mls.ProposalBody        // proposals made by this commit, in order
	Except  func(p *mls.Proposal) bool // true: leave this stored proposal out
	AAD     []byte
	Leaf    *LeafOptions // replaces parts of the own leaf; needs a path
	NoPath  bool         // omit the path if the proposals allow it

	Private bool            // PrivateMessage instead of PublicMessage
	Padding func(n int) int // of a PrivateMessage

	Welcome WelcomeOptions
	Now     time.Time // bounds the lifetimes of Adds by value; zero: unchecked
}

// WelcomeOptions says what the GroupInfo inside a Welcome holds. It is signed
// apart from what Staged.GroupInfo makes.
type WelcomeOptions struct {
	Extensions  []mls.Extension
	WithoutTree bool // the new members get the tree elsewhere
	ExternalPub bool // tell the new members the external_pub

	// Extend returns more extensions, which may be derived from the new epoch:
	// the Staged offers all but Welcome and Commit. May be nil.
	Extend func(s *Staged) ([]mls.Extension, error)
}

// Staged is a commit of ours that is not accepted yet, with the complete epoch
// that it leads to. It is part of the Group's state and a value beside the
// current epoch, none of whose keys it touches.
type Staged struct {
	base    *group.State // that the commit starts from
	auth    *wire.AuthenticatedContent
	commit  []byte
	welcome []byte
	next    *epoch
	event   *mls.Event
}

// Commit returns the commit, an MLSMessage.
func (s *Staged) Commit() []byte { return bytes.Clone(s.commit) }

// Welcome returns the Welcome for the members that the commit adds, an
// MLSMessage; nil if there are none. It must not be sent before the commit was
// accepted.
func (s *Staged) Welcome() []byte { return bytes.Clone(s.welcome) }

// Epoch returns the number of the new epoch.
func (s *Staged) Epoch() mls.Epoch { return s.next.pub.Context().Epoch }

// OwnLeaf returns the own leaf's index in the new epoch.
func (s *Staged) OwnLeaf() mls.LeafIndex { return s.next.own }

// Public returns the public state of the new epoch.
func (s *Staged) Public() *mls.PublicGroup { return s.next.pub.Public() }

// Event returns what Confirm will report.
func (s *Staged) Event() *mls.Event { return s.event }

// Export derives a secret of the new epoch, see Group.Export.
func (s *Staged) Export(label string, context []byte, n int) ([]byte, error) {
	if !s.next.secrets.Exporter.IsSet() {
		return nil, ErrWiped
	}
	return s.next.export(label, context, n)
}

// Sign signs with the own leaf's key of the new epoch, see Group.Sign.
func (s *Staged) Sign(label string, content []byte) ([]byte, error) {
	return sign(s.next.signer, label, content)
}

// GroupInfo returns a GroupInfo of the new epoch, see Group.GroupInfo.
func (s *Staged) GroupInfo(o GroupInfoOptions) ([]byte, error) {
	if !s.next.secrets.External.IsSet() {
		return nil, ErrWiped
	}
	info, err := s.next.groupInfo(o)
	if err != nil {
		return nil, err
	}
	return info.Message(), nil
}

// covers reports whether the commit, if there is one, refers to a proposal.
func (s *Staged) covers(ref []byte) bool {
	return s != nil && contains(s.auth.Content.Commit.Proposals, ref)
}

// Stage prepares a commit (RFC 9420 §12.4.1): the proposals by value, then
// every stored proposal that is valid beside them, own Updates and ReInit
// excepted. The result is pending until Confirm or Discard, or until somebody
// else's commit is processed.
func (g *Group) Stage(o CommitOptions) (*Group, *Staged, error) {
	if err := g.canSend(); err != nil {
		return nil, nil, err
	}
	if g.pending != nil {
		return nil, nil, ErrPending
	}
	list, err := g.proposals(&o)
	if err != nil {
		return nil, nil, err
	}
	b := builder{
		base: g.cur.pub, list: list, own: g.cur, opts: g.opts,
		sender: wire.Sender{Type: wire.SenderMember, Index: uint32(g.cur.own)},
		signer: g.cur.signer, leafOptions: o.Leaf, init: g.cur.secrets.Init,
		psk: g.psk, commitOptions: &o,
	}
	staged, err := b.build()
	if err != nil {
		return nil, nil, err
	}
	n, message, err := g.protect(g.next(), staged.auth, o.Padding)
	if err != nil {
		staged.next.wipe()
		return nil, nil, err
	}
	staged.commit = message
	n.pending = staged
	return n, staged, nil
}

// Pending returns the staged commit.
func (g *Group) Pending() (*Staged, bool) { return g.pending, g.pending != nil }

// Confirm makes the staged commit's epoch the current one, because the commit
// was accepted (RFC 9420 §14). For an external join the Group becomes Active.
func (g *Group) Confirm() (*Group, *mls.Event, error) {
	if g.pending == nil {
		return nil, nil, ErrNoPending
	}
	if g.retired.Load() {
		return nil, nil, ErrWiped
	}
	if g.cur == nil {
		n := g.next()
		n.cur, n.pending = g.pending.next, nil
		return n, g.pending.event, nil
	}
	if err := g.active(); err != nil {
		return nil, nil, err
	}
	return g.adopt(g.pending.next), g.pending.event, nil
}

// Discard drops the staged commit, because it was not accepted. The Group is
// then as if the commit never was. An external join that was not accepted has
// nothing to go back to: drop the Group instead.
func (g *Group) Discard() (*Group, error) {
	if g.pending == nil {
		return nil, ErrNoPending
	}
	if g.cur == nil {
		return nil, ErrJoining
	}
	n := g.next()
	n.pending = nil
	return n, nil
}
