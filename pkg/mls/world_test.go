package mls_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// world is a group as its server sees it, together with everybody's signature
// keys: what it takes to make messages that only the rule under test can
// refuse. Tags and path ciphertexts, which no server can check, are random.
type world struct {
	testing.TB
	s    *suite.Suite
	opts *mls.Options
	g    *mls.PublicGroup
	keys map[string]suite.Secret // private signature key by public key
	caps mls.Capabilities        // of leaves made from now on
}

// newWorld returns a group of n members with es as its extensions, the later
// ones added by the first, and a path of each member, so that the tree is full.
func newWorld(tb testing.TB, id suite.ID, n int, es ...mls.Extension) *world {
	tb.Helper()
	w := &world{
		TB: tb, s: suite.Get(id), keys: map[string]suite.Secret{},
		opts: &mls.Options{Rules: mls.OpenRules{}, Limits: mls.Limits{CustomProposals: []mls.ProposalType{customProposal}}},
		caps: mls.Capabilities{
			Versions: []mls.ProtocolVersion{mls.MLS10}, Suites: []mls.CipherSuite{id},
			Extensions:  []mls.ExtensionType{leafExtension, groupExtension},
			Credentials: []mls.CredentialType{mls.CredentialBasic, customCredential},
		},
	}
	w.found(es)
	for w.g.Len() < n {
		w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(w.keyPackage(nil)))}))
		w.accept(w.commit(mls.LeafIndex(w.g.Len()-1), commitOptions{}))
	}
	return w
}

const (
	customProposal   mls.ProposalType   = 0xf101
	customCredential mls.CredentialType = 0xf102
	leafExtension    mls.ExtensionType  = 0xf103
	groupExtension   mls.ExtensionType  = 0xf104
	unlistedType                        = 0xf1ff
)

// found makes the group of one member in epoch 0.
func (w *world) found(es []mls.Extension) {
	leaf := w.leaf(nil)
	leaf.Source, leaf.Lifetime = mls.SourceKeyPackage, mls.Lifetime{NotAfter: 1 << 40}
	w.signLeaf(leaf, nil, 0)
	st, err := group.Found(leaf, []byte("group"), es, w.s.ID(), w.opts)
	w.check(err)
	st = st.Tagged(w.random(w.s.HashSize()))
	w.g, err = mls.NewPublicGroup(w.groupInfo(st, 0, nil).Message(), nil, w.opts)
	w.check(err)
}

// groupInfo returns a GroupInfo of a state, signed by a member, with the tree
// and a random external_pub inside.
func (w *world) groupInfo(st *group.State, signer mls.LeafIndex, change func(*mls.GroupInfo)) *mls.GroupInfo {
	pub, _, err := w.s.GenerateKeyPair()
	w.check(err)
	info := &mls.GroupInfo{
		Context: st.Context(), ConfirmationTag: st.ConfirmationTag(), Signer: signer,
		Extensions: []mls.Extension{
			{Type: mls.ExtensionRatchetTree, Data: st.Tree().AppendTo(nil)}, wire.ExternalPubExtension(pub),
		},
	}
	if change != nil {
		change(info)
	}
	if leaf := st.Tree().Leaf(info.Signer); leaf != nil {
		info.Signature = w.sign(leaf.SignatureKey, "GroupInfoTBS", info.TBS())
	}
	return info.Seal()
}

// state returns the group's state as the engine's own packages see it.
func (w *world) state() *group.State {
	w.Helper()
	st, err := group.ParseState(save(w, w.g), w.opts)
	w.check(err)
	return st
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (w *world) sign(key []byte, label string, content []byte) []byte {
	w.Helper()
	sig, err := w.s.SignWithLabel(w.keys[string(key)], label, content)
	w.check(err)
	return sig
}

// leaf returns a leaf of a new client, or, with old, the next leaf of a member.
// It is neither signed nor sealed.
func (w *world) leaf(old *mls.LeafNode) *mls.LeafNode {
	w.Helper()
	pub, _, err := w.s.GenerateKeyPair()
	w.check(err)
	if old != nil {
		return &mls.LeafNode{
			EncryptionKey: pub, SignatureKey: old.SignatureKey, Credential: old.Credential,
			Capabilities: old.Capabilities, Extensions: slices.Clone(old.Extensions),
		}
	}
	key, private, err := w.s.GenerateSignatureKey()
	w.check(err)
	w.keys[string(key)] = private
	return &mls.LeafNode{
		EncryptionKey: pub, SignatureKey: key, Credential: mls.BasicCredential(w.random(8)), Capabilities: w.caps,
	}
}

func (w *world) signLeaf(leaf *mls.LeafNode, groupID []byte, i mls.LeafIndex) *mls.LeafNode {
	w.Helper()
	leaf.Signature = w.sign(leaf.SignatureKey, "LeafNodeTBS", leaf.TBS(groupID, i))
	return leaf.Seal()
}

// keyPackage returns a key package of a new client. change may spoil it before
// it is signed.
func (w *world) keyPackage(change func(*mls.KeyPackage)) *mls.KeyPackage {
	w.Helper()
	init, _, err := w.s.GenerateKeyPair()
	w.check(err)
	leaf := w.leaf(nil)
	leaf.Source, leaf.Lifetime = mls.SourceKeyPackage, mls.Lifetime{NotBefore: 1000, NotAfter: 2000}
	p := &mls.KeyPackage{Version: mls.MLS10, Suite: w.s.ID(), InitKey: init, Leaf: leaf}
	if change != nil {
		change(p)
	}
	if p.Leaf.Raw() == nil {
		w.signLeaf(p.Leaf, nil, 0)
	}
	if p.Signature == nil {
		p.Signature = w.sign(p.Leaf.SignatureKey, "KeyPackageTBS", p.TBS())
	}
	return p.Seal()
}

// updateLeaf returns the leaf for an Update by member i.
func (w *world) updateLeaf(i mls.LeafIndex, change func(*mls.LeafNode)) *mls.LeafNode {
	w.Helper()
	leaf := w.leaf(w.g.Leaf(i))
	leaf.Source = mls.SourceUpdate
	if change != nil {
		change(leaf)
	}
	if leaf.Raw() != nil {
		return leaf
	}
	return w.signLeaf(leaf, w.g.GroupID(), i)
}

func update(leaf *mls.LeafNode) *mls.ProposalBody {
	return (&mls.ProposalBody{Type: mls.ProposalUpdate, Update: leaf}).Seal()
}

func values(ps ...*mls.ProposalBody) (list []wire.ProposalOrRef) {
	for _, p := range ps {
		list = append(list, wire.ProposalOrRef{Proposal: p})
	}
	return list
}

// propose returns a proposal message by a member.
func (w *world) propose(i mls.LeafIndex, p *mls.ProposalBody) []byte {
	w.Helper()
	return w.message(&wire.FramedContent{
		Sender: wire.Sender{Type: mls.SenderMember, Index: uint32(i)}, ContentType: mls.ContentProposal, Proposal: p,
	}, w.g.Leaf(i).SignatureKey)
}

// message frames, signs and tags a content; it fills in group and epoch.
func (w *world) message(c *wire.FramedContent, key []byte) []byte {
	w.Helper()
	if c.GroupID == nil {
		c.GroupID = w.g.GroupID()
	}
	if c.Epoch == 0 {
		c.Epoch = w.g.Epoch()
	}
	c.Seal()
	auth := wire.AuthData{Signature: w.sign(key, "FramedContentTBS", c.TBS(wire.FormatPublicMessage, w.g.Context().Raw()))}
	if c.ContentType == mls.ContentCommit {
		auth.ConfirmationTag = w.random(w.s.HashSize())
	}
	return (&wire.PublicMessage{Content: c, Auth: auth, MembershipTag: w.random(w.s.HashSize())}).Message()
}

// store lets the server take a proposal message and returns a reference to it.
func (w *world) store(msg []byte) wire.ProposalOrRef {
	w.Helper()
	e := w.accept(msg)
	return wire.ProposalOrRef{Reference: e.Proposal.Ref}
}

// accept lets the server process a message, which must succeed.
func (w *world) accept(msg []byte) *mls.Event {
	w.Helper()
	next, e, err := w.g.Process(msg, time.Unix(1500, 0))
	if err != nil {
		w.Fatalf("processing: %v", err)
	}
	w.g = next
	return e
}

// refuse requires that the server refuses a message for one reason, without a
// trace.
func (w *world) refuse(rule mls.Rule, msg []byte) {
	w.Helper()
	before := save(w, w.g)
	next, e, err := w.g.Process(msg, time.Unix(1500, 0))
	w.refused(rule, err)
	if next != nil || e != nil {
		w.Error("a refused message has results")
	}
	if string(save(w, w.g)) != string(before) {
		w.Error("a refused message changed the state")
	}
}

func (w *world) refused(rule mls.Rule, err error) {
	w.Helper()
	var r *mls.Refusal
	if !errors.As(err, &r) || r.Rule != rule {
		w.Errorf("got error %v, want rule %s", err, rule)
	}
}

// commitOptions says what a lawless commit contains. The functions may spoil
// what they are given before it is signed.
type commitOptions struct {
	list     []wire.ProposalOrRef
	noPath   bool
	external bool
	joiner   *mls.LeafNode // of an external commit; nil is a new client
	aad      []byte
	leaf     func(*mls.LeafNode)
	path     func(*wire.UpdatePath)
	commit   func(*wire.Commit)
	content  func(*wire.FramedContent)
}

// commit returns a commit by a member, or by a joiner, that is right in
// everything but what the options spoil. It applies what it is told to, lawful
// or not, so that the path fits.
func (w *world) commit(i mls.LeafIndex, o commitOptions) []byte {
	w.Helper()
	st := w.state()
	t, sender := st.Tree(), wire.Sender{Type: mls.SenderMember, Index: uint32(i)}
	old := t.Leaf(i)
	if o.external {
		sender, old = wire.Sender{Type: mls.SenderNewMemberCommit}, o.joiner
		o.list = append(slices.Clone(o.list), values((&mls.ProposalBody{Type: mls.ProposalExternalInit, ExternalInit: w.random(32)}).Seal())...)
	}
	t, added := w.apply(st, t, o)
	if o.external {
		var err error
		t, i, err = t.Reserve()
		w.check(err)
	}
	c := &wire.Commit{Proposals: o.list}
	key := []byte(nil)
	if old != nil {
		key = old.SignatureKey
	}
	if !o.noPath {
		c.Path = w.path(t, i, old, added, o)
		key = c.Path.Leaf.SignatureKey
		if old != nil && !o.external {
			key = old.SignatureKey
		}
	}
	if o.commit != nil {
		o.commit(c)
	}
	f := &wire.FramedContent{Sender: sender, AAD: o.aad, ContentType: mls.ContentCommit, Commit: c}
	if o.content != nil {
		o.content(f)
	}
	return w.message(f, key)
}

// apply applies proposals as RFC 9420 §12.3 says, whatever they are.
func (w *world) apply(st *group.State, t *tree.Tree, o commitOptions) (*tree.Tree, []mls.LeafIndex) {
	type item struct {
		p      *mls.ProposalBody
		sender uint32
	}
	var items []item
	for _, e := range o.list {
		if e.Proposal != nil {
			items = append(items, item{e.Proposal, 0})
			continue
		}
		for _, p := range st.Stored() {
			if string(p.Ref) == string(e.Reference) {
				items = append(items, item{p.Proposal, p.Sender.Index})
			}
		}
	}
	for _, e := range items {
		if e.p.Type == mls.ProposalUpdate && t.Leaf(mls.LeafIndex(e.sender)) != nil {
			t = t.Update(mls.LeafIndex(e.sender), e.p.Update)
		}
	}
	for _, e := range items {
		if e.p.Type == mls.ProposalRemove && t.Leaf(e.p.Remove) != nil {
			t = t.Remove(e.p.Remove)
		}
	}
	var added []mls.LeafIndex
	for _, e := range items {
		if e.p.Type == mls.ProposalAdd {
			next, i, err := t.Add(e.p.Add.Leaf)
			w.check(err)
			t, added = next, append(added, i)
		}
	}
	return t, added
}

// path returns an update path of leaf i over a tree.
func (w *world) path(t *tree.Tree, i mls.LeafIndex, old *mls.LeafNode, added []mls.LeafIndex, o commitOptions) *wire.UpdatePath {
	w.Helper()
	p := &wire.UpdatePath{}
	steps := t.FilteredPath(i)
	var keys [][]byte
	for _, step := range steps {
		pub, _, err := w.s.GenerateKeyPair()
		w.check(err)
		n := wire.UpdatePathNode{EncryptionKey: pub}
		for range t.Resolution(step.Copath, added) {
			n.Secrets = append(n.Secrets, wire.HPKECiphertext{KEMOutput: w.random(32), Ciphertext: w.random(48)})
		}
		p.Nodes, keys = append(p.Nodes, n), append(keys, pub)
	}
	_, hash := t.PathNodes(steps, keys)
	leaf := w.leaf(old)
	leaf.Source, leaf.ParentHash = mls.SourceCommit, hash
	if o.path != nil {
		o.path(p)
		keys = nil
		for _, n := range p.Nodes {
			keys = append(keys, n.EncryptionKey)
		}
		if len(keys) == len(steps) {
			_, leaf.ParentHash = t.PathNodes(steps, keys)
		}
	}
	if o.leaf != nil {
		o.leaf(leaf)
	}
	if leaf.Raw() == nil {
		w.signLeaf(leaf, w.g.GroupID(), i)
	}
	p.Leaf = leaf
	return p
}

// timeZero leaves lifetimes unchecked.
var timeZero time.Time

func TestWorldIsLawful(t *testing.T) {
	for _, id := range suite.IDs() {
		w := newWorld(t, id, 3)
		if w.g.Len() != 3 || w.g.Epoch() != 4 || w.g.Suite() != id {
			t.Errorf("suite %d: %d members in epoch %d", id, w.g.Len(), w.g.Epoch())
		}
		w.accept(w.commit(1, commitOptions{list: values(mls.RemoveProposal(2))}))
	}
}
