package member

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Options configures a group for its lifetime in memory. It is not part of the
// saved state: ParseGroup takes it again.
type Options struct {
	mls.Options // Rules (required) and Limits

	// PSK returns the external pre-shared key with an id, nil if there is none
	// (RFC 9420 §8.4). A nil func knows none.
	PSK func(id []byte) []byte
}

// Status says what a Group can do.
type Status uint8

// The states of a Group.
const (
	Active  Status = iota + 1 // a member
	Joining                   // holds an external commit that is not confirmed
	Removed                   // was removed; holds no secrets
)

// Group is a member's view of a group at one moment. It is an immutable value:
// every step returns the next Group and leaves the old one as it was, so that a
// caller can compute, store, adopt, and only then send or deliver. It may be
// read by many goroutines.
type Group struct {
	opts       *Options
	cur        *epoch       // nil unless Active
	last       *group.State // what is left of the group for Removed
	past       []*past      // newest first
	resumption []resumption // of past epochs, newest first
	pending    *Staged
	counter    uint64
	retired    *atomic.Bool
}

// epoch is what a member holds of one epoch. Immutable.
type epoch struct {
	pub     *group.State
	own     wire.LeafIndex
	signer  Signer
	secrets *secret.Epoch // without Encryption, which tree has taken over
	tree    *secret.Tree
	keys    *secret.Keys
	updates []update
}

// update is the private half of an own Update proposal of this epoch.
type update struct {
	public  []byte
	private suite.Secret
	signer  Signer
}

// resumption is the resumption secret of a past epoch (RFC 9420 §8.6).
type resumption struct {
	epoch  mls.Epoch
	secret suite.Secret
}

func (g *Group) suite() *suite.Suite { return g.cur.pub.Suite() }

// active returns an error unless g is a member's state with its secrets.
func (g *Group) active() error {
	switch {
	case g.retired.Load():
		return ErrWiped
	case g.cur != nil:
		return nil
	case g.last != nil:
		return ErrRemoved
	}
	return ErrJoining
}

// next returns a copy of g for the next step.
func (g *Group) next() *Group {
	n := *g
	n.counter++
	n.retired = new(atomic.Bool)
	return &n
}

// newGroup returns the first state of a group.
func newGroup(o *Options, e *epoch) *Group {
	options := *o
	return &Group{opts: &options, cur: e, counter: 1, retired: new(atomic.Bool)}
}

// Status says whether g is a member's state.
func (g *Group) Status() Status {
	switch {
	case g.cur != nil:
		return Active
	case g.last != nil:
		return Removed
	}
	return Joining
}

// public returns the newest public state: the current one, the last one before
// the removal, or the one that an external join starts from.
func (g *Group) public() *group.State {
	switch {
	case g.cur != nil:
		return g.cur.pub
	case g.last != nil:
		return g.last
	}
	return g.pending.base
}

// Public returns the public state: of the current epoch, of the last one before
// the own removal, or of the one that a pending external join starts from.
func (g *Group) Public() *mls.PublicGroup { return g.public().Public() }

// Epoch returns the number of the epoch that Public shows.
func (g *Group) Epoch() mls.Epoch { return g.public().Context().Epoch }

// OwnLeaf returns the own leaf's index; it is meaningful while Active.
func (g *Group) OwnLeaf() wire.LeafIndex {
	if g.cur == nil {
		return 0
	}
	return g.cur.own
}

// Counter grows with every step. A stored state with a smaller counter than
// one seen before was rolled back.
func (g *Group) Counter() uint64 { return g.counter }

// EpochAuthenticator returns a value that is equal for all members with the
// same view of the epoch (RFC 9420 §8.7); nil unless Active.
func (g *Group) EpochAuthenticator() []byte {
	if g.active() != nil {
		return nil
	}
	return append([]byte(nil), g.cur.secrets.Authenticator.Bytes()...)
}

// Resumption returns the resumption secret of the current epoch or of one of
// the past epochs still kept (RFC 9420 §8.6).
func (g *Group) Resumption(n mls.Epoch) ([]byte, bool) {
	if g.active() != nil {
		return nil, false
	}
	s, ok := g.resumptionOf(n)
	return append([]byte(nil), s.Bytes()...), ok
}

func (g *Group) resumptionOf(n mls.Epoch) (suite.Secret, bool) {
	if g.cur.pub.Context().Epoch == n {
		return g.cur.secrets.Resumption, true
	}
	for _, r := range g.resumption {
		if r.epoch == n {
			return r.secret, true
		}
	}
	return suite.Secret{}, false
}

// Export derives a secret of n bytes from the current epoch (MLS-Exporter, RFC
// 9420 §8.5); n is at most 255 times the suite's hash size.
func (g *Group) Export(label string, context []byte, n int) ([]byte, error) {
	if err := g.active(); err != nil {
		return nil, err
	}
	return g.cur.export(label, context, n)
}

func (e *epoch) export(label string, context []byte, n int) ([]byte, error) {
	out, err := e.secrets.Export(e.pub.Suite(), label, context, n)
	if err != nil {
		return nil, fmt.Errorf("member: exporting: %w", err)
	}
	return out.Bytes(), nil
}

// Sign signs content under a label with the own leaf's key; PublicGroup's
// Verify checks it.
func (g *Group) Sign(label string, content []byte) ([]byte, error) {
	if err := g.active(); err != nil {
		return nil, err
	}
	return sign(g.cur.signer, label, content)
}

// Without returns the Group without the stored proposals that drop selects: a
// policy decision that they shall not wait for a commit any more. Those that
// the staged commit covers stay.
func (g *Group) Without(drop func(*mls.Proposal) bool) (*Group, error) {
	if err := g.active(); err != nil {
		return nil, err
	}
	n, e := g.next(), *g.cur
	e.pub = e.pub.Without(func(p *mls.Proposal) bool { return !g.pending.covers(p.Ref) && drop(p) })
	n.cur = &e
	return n, nil
}

// String returns a constant, as do the other formatting methods: a Group is
// full of secrets.
func (g *Group) String() string { return "member.Group" }

// GoString returns a constant.
func (g *Group) GoString() string { return "member.Group" }

// Format writes a constant, whatever the verb.
func (g *Group) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "member.Group") }

// psk looks up a pre-shared key named by a PreSharedKeyID.
func (g *Group) psk(id *wire.PreSharedKeyID) (suite.Secret, bool) {
	if id.Type == wire.PSKExternal {
		return g.opts.psk(id)
	}
	// RFC 9420 §8.6: of this group, since no other group's state is at hand.
	if string(id.GroupID) != string(g.cur.pub.Context().GroupID) {
		return suite.Secret{}, false
	}
	s, ok := g.resumptionOf(id.Epoch)
	return s.Clone(), ok
}

// psk looks up an external pre-shared key; the result is a copy.
func (o *Options) psk(id *wire.PreSharedKeyID) (suite.Secret, bool) {
	if id.Type != wire.PSKExternal || o.PSK == nil {
		return suite.Secret{}, false
	}
	key := o.PSK(id.ID)
	return suite.NewSecret(key), key != nil
}

// pskSecret computes the psk_secret of a list of PSKs, all of which must be
// known (RFC 9420 §8.4, §12.4.2).
func pskSecret(s *suite.Suite, ids []wire.PreSharedKeyID, find func(*wire.PreSharedKeyID) (suite.Secret, bool), rule wire.Rule) (suite.Secret, error) {
	psks := make([]secret.PSK, 0, len(ids))
	defer func() {
		for _, p := range psks {
			p.Key.Wipe()
		}
	}()
	for i := range ids {
		key, ok := find(&ids[i])
		if !ok {
			return suite.Secret{}, wire.Refuse(rule)
		}
		psks = append(psks, secret.PSK{ID: ids[i].AppendTo(nil), Key: key})
	}
	return secret.PSKSecret(s, psks), nil
}

// treeLimits returns the limits of a secret tree.
func treeLimits(l *wire.Limits) secret.Limits {
	return secret.Limits{
		Jump:    uint32(max(l.Generations, 0)),
		Skipped: max(l.SkippedPerSender, 0),
		Total:   max(l.SkippedPerEpoch, 0),
	}
}
