package member

import (
	"bytes"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// builder makes a commit, a member's or an external one, from a state and a
// list of proposals (RFC 9420 §12.4.1). The finished commit goes through the
// same checks as a received one before any secret is derived, so that nothing
// leaves that others must refuse.
type builder struct {
	base   *group.State
	list   []wire.ProposalOrRef
	sender wire.Sender
	opts   *Options

	own      *epoch    // the committer's epoch; nil in an external commit
	identity *Identity // the joiner's, in an external commit
	signer   Signer    // of the message: the old leaf's, or the joiner's

	leafOptions   *LeafOptions
	commitOptions *CommitOptions
	init          suite.Secret
	psk           func(*wire.PreSharedKeyID) (suite.Secret, bool)
}

// build returns the staged commit without its framing.
func (b *builder) build() (staged *Staged, err error) {
	o := b.commitOptions
	plan, err := b.base.Plan(b.sender, b.list, o.Now)
	if err != nil {
		return nil, err
	}
	commit := &wire.Commit{Proposals: b.list}
	e := &epoch{own: plan.Committer, signer: b.signer}
	var path *secret.NewPath
	if plan.PathRequired || !o.NoPath {
		if path, err = b.path(plan, commit, e); err != nil {
			return nil, err
		}
		defer func() {
			if staged == nil {
				path.Wipe()
			}
			path.WipePathSecrets()
		}()
	} else if b.leafOptions != nil {
		// RFC 9420 §12.4: without a path the leaf stays.
		return nil, wire.Refuse(wire.RulePathRequired)
	}
	a, p, err := b.check(commit)
	if err != nil {
		return nil, err
	}
	if path == nil {
		e.keys = b.own.keys.In(p.NewTree)
	}
	s := &Staged{base: b.base, auth: a, next: e}
	joiner, member, err := b.secrets(p, path)
	if err != nil {
		return nil, err
	}
	defer joiner.Wipe()
	defer member.Wipe()
	st := b.base.Suite()
	e.begin(st, secret.NewEpoch(st, member, p.NewContext.Raw()), p.NewTree.Width(), b.base.Limits())
	a.Auth.ConfirmationTag = st.MAC(e.secrets.Confirmation, p.NewContext.ConfirmedTranscriptHash)
	e.pub = p.Finish(a.Auth.ConfirmationTag)
	s.event = commitEvent(a, p.View(e.pub))
	if len(p.Added) > 0 {
		if s.welcome, err = b.welcome(s, p, path, joiner, member); err != nil {
			e.wipe()
			return nil, err
		}
	}
	return s, nil
}

// path draws the update path and signs the new leaf.
func (b *builder) path(plan *group.Plan, commit *wire.Commit, e *epoch) (*secret.NewPath, error) {
	s, context := b.base.Suite(), b.base.Context()
	steps := plan.Tree.FilteredPath(e.own)
	path, err := secret.GeneratePath(s, e.own, steps)
	if err != nil {
		return nil, err
	}
	nodes, parentHash := plan.Tree.PathNodes(steps, path.Publics)
	var leaf *wire.LeafNode
	if b.identity != nil {
		leaf = b.identity.leaf()
	} else {
		leaf, e.signer = successor(b.base.Tree().Leaf(e.own), b.signer, b.leafOptions)
	}
	leaf.EncryptionKey, leaf.Source, leaf.ParentHash = path.LeafKey, wire.SourceCommit, parentHash
	if leaf, err = sealLeaf(leaf, e.signer, context.GroupID, e.own, b.base.Limits()); err != nil {
		path.Wipe()
		return nil, err
	}
	tree := plan.Tree.Merge(e.own, leaf, steps, nodes)
	encrypted, err := path.Encrypt(tree, plan.Added, plan.Context(tree).Raw())
	if err != nil {
		path.Wipe()
		return nil, err
	}
	commit.Path = &wire.UpdatePath{Leaf: leaf, Nodes: encrypted}
	e.keys = path.Keys()
	return path, nil
}

// check frames and signs the commit and checks it like a received one.
func (b *builder) check(commit *wire.Commit) (*wire.AuthenticatedContent, *group.Provisional, error) {
	o, context := b.commitOptions, b.base.Context()
	f := wire.FormatPublicMessage
	if o.Private {
		f = wire.FormatPrivateMessage
	}
	c := &wire.FramedContent{
		GroupID: context.GroupID, Epoch: context.Epoch, Sender: b.sender,
		AAD: bytes.Clone(o.AAD), ContentType: wire.ContentCommit, Commit: commit,
	}
	a, err := signContent(c.Seal(), f, context, b.signer, b.base.Limits())
	if err != nil {
		return nil, nil, err
	}
	if err := b.base.CheckContent(a); err != nil {
		return nil, nil, err
	}
	p, err := b.base.Prepare(a, o.Now)
	if err != nil {
		return nil, nil, err
	}
	return a, p, nil
}

// secrets derives the joiner_secret of the new epoch and what follows it.
func (b *builder) secrets(p *group.Provisional, path *secret.NewPath) (joiner, member suite.Secret, err error) {
	s := b.base.Suite()
	commit := s.ZeroSecret() // RFC 9420 §12.4.1: without a path only.
	if path != nil {
		commit = path.Commit()
	}
	psk, err := pskSecret(s, p.PSKs, b.psk, wire.RulePSKUnknown)
	if err != nil {
		return suite.Secret{}, suite.Secret{}, err
	}
	defer psk.Wipe()
	joiner = secret.Joiner(s, b.init, commit, p.NewContext.Raw())
	return joiner, secret.Member(s, joiner, psk), nil
}

// welcome encrypts the new epoch's GroupInfo to the added members (RFC 9420
// §12.4.3.1).
func (b *builder) welcome(st *Staged, p *group.Provisional, path *secret.NewPath, joiner, member suite.Secret) ([]byte, error) {
	s, o := b.base.Suite(), b.commitOptions.Welcome
	es := o.Extensions
	if o.Extend != nil {
		more, err := o.Extend(st)
		if err != nil {
			return nil, err
		}
		es = append(slices.Clip(es), more...)
	}
	info, err := st.next.groupInfo(GroupInfoOptions{Extensions: es, WithoutTree: o.WithoutTree, WithoutExternalPub: !o.ExternalPub})
	if err != nil {
		return nil, err
	}
	secretOfWelcome := secret.Welcome(s, member)
	defer secretOfWelcome.Wipe()
	key, nonce := secret.WelcomeKey(s, secretOfWelcome)
	defer key.Wipe()
	defer nonce.Wipe()
	w := &wire.Welcome{Suite: s.ID(), Secrets: make([]wire.EncryptedGroupSecrets, len(p.Added))}
	if w.EncryptedGroupInfo, err = s.Seal(key, nonce, nil, info.Raw()); err != nil {
		return nil, err
	}
	err = secret.Parallel(len(p.Added), func(i int) error {
		kp := p.Packages[i]
		gs := wire.GroupSecrets{JoinerSecret: joiner.Bytes(), PSKs: p.PSKs}
		if path != nil {
			ps, ok := path.For(p.Added[i])
			if !ok {
				return wire.Refuse(wire.RulePathShape)
			}
			defer ps.Wipe()
			gs.PathSecret = ps.Bytes()
		}
		plaintext := suite.TakeSecret(gs.AppendTo(nil))
		defer plaintext.Wipe()
		out := &w.Secrets[i]
		out.NewMember = s.KeyPackageRef(kp.Raw())
		var err error
		out.Secrets.KEMOutput, out.Secrets.Ciphertext, err = s.EncryptWithLabel(kp.InitKey, labelWelcome, w.EncryptedGroupInfo, plaintext.Bytes())
		return err
	})
	if err != nil {
		return nil, err
	}
	return w.Message(), nil
}
