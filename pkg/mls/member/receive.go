package member

import (
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// noTime leaves lifetimes unchecked: a member that processes an Add cannot
// refuse what the others accept because its clock differs.
var noTime time.Time

// processCommit goes on with a commit by somebody else whose signature is good.
// Nothing is adopted before the confirmation tag agrees (RFC 9420 §12.4.2).
func (g *Group) processCommit(a *wire.AuthenticatedContent) (*Group, *mls.Event, error) {
	if s := a.Content.Sender; s.Type == wire.SenderMember && wire.LeafIndex(s.Index) == g.cur.own {
		// Our own commits are staged and confirmed, never processed.
		return nil, nil, wire.Refuse(wire.RuleSender)
	}
	p, err := g.cur.pub.Prepare(a, noTime)
	if err != nil {
		return nil, nil, err
	}
	if g.removedBy(p.Plan) {
		// What a removed member cannot verify is the tag; the list is signed by
		// a member and valid, so the removal stands.
		n := g.next()
		*n = Group{opts: g.opts, last: g.cur.pub, counter: n.counter, retired: n.retired}
		return n, commitEvent(a, p.View(p.Finish(a.Auth.ConfirmationTag))), nil
	}
	e, err := g.enter(a, p)
	if err != nil {
		return nil, nil, err
	}
	return g.adopt(e), commitEvent(a, p.View(e.pub)), nil
}

func (g *Group) removedBy(p *group.Plan) bool {
	return slices.Contains(p.Removed, g.cur.own)
}

func commitEvent(a *wire.AuthenticatedContent, v *group.CommitView) *mls.Event {
	return &mls.Event{
		Kind: wire.ContentCommit, Epoch: a.Content.Epoch, Sender: a.Content.Sender,
		AAD: append([]byte(nil), a.Content.AAD...), Commit: v,
	}
}

// enter derives the epoch that a commit leads to, as one of its receivers.
func (g *Group) enter(a *wire.AuthenticatedContent, p *group.Provisional) (*epoch, error) {
	s, e := g.suite(), &epoch{own: g.cur.own, signer: g.cur.signer}
	keys, signer, err := g.ownKeys(p.NewTree)
	if err != nil {
		return nil, err
	}
	e.signer = signer
	commit := s.ZeroSecret()
	if p.Path != nil {
		keys, commit, err = keys.OpenPath(p.NewTree, p.Committer, e.own, p.Path.Nodes, p.Added, p.PathContext.Raw())
		if err != nil {
			return nil, wire.Refuse(wire.RulePathSecret)
		}
	}
	defer commit.Wipe()
	e.keys = keys
	init := g.cur.secrets.Init
	if p.External {
		// RFC 9420 §8.3: the init secret comes from kem_output instead.
		if init, err = g.externalInit(p.KEMOutput); err != nil {
			return nil, err
		}
		defer init.Wipe()
	}
	psk, err := pskSecret(s, p.PSKs, g.psk, wire.RulePSKUnknown)
	if err != nil {
		return nil, err
	}
	defer psk.Wipe()
	joiner := secret.Joiner(s, init, commit, p.NewContext.Raw())
	defer joiner.Wipe()
	member := secret.Member(s, joiner, psk)
	defer member.Wipe()
	e.begin(s, secret.NewEpoch(s, member, p.NewContext.Raw()), p.NewTree.Width(), p.Old.Limits())
	if !s.VerifyMAC(e.secrets.Confirmation, p.NewContext.ConfirmedTranscriptHash, a.Auth.ConfirmationTag) {
		e.wipe()
		return nil, wire.Refuse(wire.RuleConfirmationTag)
	}
	e.pub = p.Finish(a.Auth.ConfirmationTag)
	return e, nil
}

// begin takes the secrets of an epoch and grows its secret tree.
func (e *epoch) begin(s *suite.Suite, secrets *secret.Epoch, width uint32, l *wire.Limits) {
	e.tree = secret.NewTree(s, secrets.Encryption, width, treeLimits(l))
	secrets.Encryption = suite.Secret{} // The tree's from now on.
	e.secrets = secrets
}

// wipe clears an epoch that was not adopted.
func (e *epoch) wipe() {
	e.secrets.Wipe()
	secret.RetireTree(e.tree, nil)
}

func (g *Group) externalInit(kemOutput []byte) (suite.Secret, error) {
	s := g.suite()
	_, private, err := g.cur.secrets.ExternalKey(s)
	if err != nil {
		return suite.Secret{}, err
	}
	defer private.Wipe()
	init, err := s.OpenExternalInit(private, kemOutput)
	if err != nil {
		return suite.Secret{}, wire.Refuse(wire.RuleExternalInit)
	}
	return init, nil
}

// ownKeys returns the private keys that still belong to a node of the new tree,
// with that of the own leaf if the commit covers an Update of ours, and the
// signer of the own leaf.
func (g *Group) ownKeys(t *tree.Tree) (*secret.Keys, Signer, error) {
	keys, own := g.cur.keys.In(t), tree.Leaf(g.cur.own)
	leafKey := t.Key(own)
	if _, ok := keys.Private(own, leafKey); ok {
		return keys, g.cur.signer, nil
	}
	for _, u := range g.cur.updates {
		if string(u.public) == string(leafKey) {
			return keys.With(own, u.public, u.private), u.signer, nil
		}
	}
	return nil, nil, wire.Refuse(wire.RulePathSecret)
}
