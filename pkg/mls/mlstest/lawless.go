package mlstest

import (
	"bytes"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Lawless is a member, or a stranger, that knows all it may know and obeys no
// rule. What it makes has valid signatures, tags and encryptions unless it is
// told otherwise, so that only the rule in question can refuse it.
type Lawless struct {
	C        *Client
	S        *suite.Suite
	Context  *wire.GroupContext
	Tree     *tree.Tree
	Interim  []byte
	Own      wire.LeafIndex
	Stranger bool          // sends external commits
	Secrets  *secret.Epoch // nil for a stranger
	Messages *secret.Tree  // nil for a stranger
	Signer   mls.Signer
	Limits   *wire.Limits
}

// Lawless opens the saved state of a client, which is how it gets the secrets.
func (c *Client) Lawless() *Lawless {
	c.W.T.Helper()
	_, private := State(c.W.T, c.Group)
	l := c.observer(c.Group.Public())
	r := codec.NewReader(section(private, 2))
	l.Own = wire.LeafIndex(r.Uint32())
	l.Secrets = secret.ReadEpoch(r, l.S)
	r.Vector(codec.MaxVector) // private keys
	r.Vector(codec.MaxVector) // own Updates
	l.Messages = secret.ReadTree(r, l.S, l.Tree.Width(), secret.Limits{Jump: 1 << 20, Skipped: 1 << 20, Total: 1 << 20})
	if err := r.Done(); err != nil {
		c.W.T.Fatalf("saved state is not as expected: %v", err)
	}
	key := l.Tree.Leaf(l.Own).SignatureKey
	for _, s := range c.signers {
		if bytes.Equal(s.Public(), key) {
			l.Signer = s
		}
	}
	return l
}

// Stranger returns a Lawless outside of the group of the World's server.
func (c *Client) Stranger() *Lawless {
	l := c.observer(c.W.Server)
	l.Stranger, l.Signer = true, c.ID.Signer
	return l
}

func (c *Client) observer(g *mls.PublicGroup) *Lawless {
	c.W.T.Helper()
	l := &Lawless{C: c, S: suite.Get(c.W.Suite), Context: g.Context(), Interim: g.InterimTranscriptHash()}
	l.Limits = wire.Unlimited()
	t, err := tree.Parse(l.S, g.TreeBytes(), l.Limits)
	if err != nil {
		c.W.T.Fatal(err)
	}
	l.Tree = t
	return l
}

// section returns a section of a saved state.
func section(b []byte, id uint16) []byte {
	r := codec.NewReader(b[5:])
	for !r.Empty() {
		found, v := r.Uint16(), r.Vector(codec.MaxVector)
		if found == id {
			return v
		}
	}
	return nil
}

// Forgery is a commit to forge. Every hook may be nil.
type Forgery struct {
	List    []wire.ProposalOrRef // as written into the commit
	NoPath  bool
	Private bool
	AAD     []byte
	Sender  *wire.Sender

	Identity   *Client          // whose leaf the path brings; default: the own one's successor
	Resolution []wire.LeafIndex // added leaves that path secrets go to nevertheless

	Leaf       func(n *wire.LeafNode)                // before the leaf is signed
	SealedLeaf func(n *wire.LeafNode) *wire.LeafNode // afterwards
	Keys       func(publics [][]byte)                // public keys of the path, before parent hashes
	Path       func(p *wire.UpdatePath)              // before the commit is signed
	PathHPKE   func(c *wire.GroupContext)            // context of path encryption
	Content    func(c *wire.FramedContent)           // before the commit is signed
	Init       func(s suite.Secret) suite.Secret     // init secret
	PSK        func(s suite.Secret) suite.Secret     // psk secret
	NewContext func(c *wire.GroupContext)            // of the key schedule
	Signature  func(s []byte) []byte
	Tag        func(tag []byte) []byte             // confirmation tag
	Membership func(tag []byte) []byte             // membership tag
	Plaintext  func(b []byte) []byte               // of a PrivateMessage
	SenderData func(sd *wire.SenderData)           // of a PrivateMessage
	PSKs       func(id wire.PreSharedKeyID) []byte // keys of PSK proposals
	Signer     mls.Signer                          // of the message
	LeafSigner mls.Signer
}

// ByValue returns a proposal as an entry of a commit.
func ByValue(p *wire.Proposal) wire.ProposalOrRef { return wire.ProposalOrRef{Proposal: p} }

// ByRef returns a reference as an entry of a commit.
func ByRef(p *mls.Proposal) wire.ProposalOrRef { return wire.ProposalOrRef{Reference: p.Ref} }

// forged is a commit under construction.
type forged struct {
	tree   *tree.Tree
	es     []wire.Extension
	added  []wire.LeafIndex
	kem    []byte
	psks   []wire.PreSharedKeyID
	own    wire.LeafIndex
	commit suite.Secret
}

// apply applies a list as far as that is possible at all, and asks no rule.
func (l *Lawless) apply(list []wire.ProposalOrRef) *forged {
	f := &forged{tree: l.Tree, es: l.Context.Extensions, own: l.Own, commit: l.S.ZeroSecret()}
	type entry struct {
		*wire.Proposal
		sender uint32
	}
	var all []entry
	for _, e := range list {
		if e.Proposal != nil {
			all = append(all, entry{e.Proposal, uint32(l.Own)})
			continue
		}
		for _, p := range l.C.W.Server.Proposals() {
			if bytes.Equal(p.Ref, e.Reference) {
				all = append(all, entry{p.Proposal, p.Sender.Index})
			}
		}
	}
	for _, p := range all {
		switch p.Type {
		case wire.ProposalGroupContextExtensions:
			f.es = p.Extensions
		case wire.ProposalUpdate:
			f.tree = f.tree.Update(wire.LeafIndex(p.sender), p.Update)
		case wire.ProposalPSK:
			f.psks = append(f.psks, *p.PSK)
		case wire.ProposalExternalInit:
			f.kem = p.ExternalInit
		}
	}
	for _, p := range all {
		if p.Type == wire.ProposalRemove && f.tree.Leaf(p.Remove) != nil && f.tree.Members() > 1 {
			f.tree = f.tree.Remove(p.Remove)
		}
	}
	for _, p := range all {
		if p.Type != wire.ProposalAdd {
			continue
		}
		t, i, err := f.tree.Add(p.Add.Leaf)
		if err != nil {
			l.C.W.T.Fatal(err)
		}
		f.tree, f.added = t, append(f.added, i)
	}
	if l.Stranger {
		var err error
		if f.tree, f.own, err = f.tree.Reserve(); err != nil {
			l.C.W.T.Fatal(err)
		}
	}
	return f
}

// Commit forges a commit, an external one if l is a stranger.
func (l *Lawless) Commit(o Forgery) []byte {
	l.C.W.T.Helper()
	f := l.apply(o.List)
	commit := &wire.Commit{Proposals: o.List}
	if !o.NoPath {
		commit.Path = l.path(f, &o)
	}
	sender := wire.Sender{Type: wire.SenderMember, Index: uint32(l.Own)}
	if l.Stranger {
		sender = wire.Sender{Type: wire.SenderNewMemberCommit}
	}
	if o.Sender != nil {
		sender = *o.Sender
	}
	c := &wire.FramedContent{
		GroupID: l.Context.GroupID, Epoch: l.Context.Epoch, Sender: sender,
		AAD: o.AAD, ContentType: wire.ContentCommit, Commit: commit,
	}
	a := l.Sign(c, &o)
	next := &wire.GroupContext{
		Suite: l.Context.Suite, GroupID: l.Context.GroupID, Epoch: l.Context.Epoch + 1,
		TreeHash: f.tree.Hash(), Extensions: f.es,
		ConfirmedTranscriptHash: l.S.Hash(l.Interim, a.ConfirmedTranscriptInput()),
	}
	if o.NewContext != nil {
		o.NewContext(next)
	}
	tag := l.tag(f, &o, next.Seal())
	if o.Tag != nil {
		tag = o.Tag(tag)
	}
	a.Auth.ConfirmationTag = tag
	return l.Frame(a, &o)
}

// path makes the update path of a commit.
func (l *Lawless) path(f *forged, o *Forgery) *wire.UpdatePath {
	t := l.C.W.T
	t.Helper()
	steps := f.tree.FilteredPath(f.own)
	path, err := secret.GeneratePath(l.S, f.own, steps)
	if err != nil {
		t.Fatal(err)
	}
	if o.Keys != nil {
		o.Keys(path.Publics)
	}
	nodes, parentHash := f.tree.PathNodes(steps, path.Publics)
	leaf := l.newLeaf(o)
	leaf.EncryptionKey, leaf.Source, leaf.ParentHash = path.LeafKey, wire.SourceCommit, parentHash
	leaf = l.SealLeaf(leaf, f.own, o)
	f.tree = f.tree.Merge(f.own, leaf, steps, nodes)
	context := &wire.GroupContext{
		Suite: l.Context.Suite, GroupID: l.Context.GroupID, Epoch: l.Context.Epoch + 1, TreeHash: f.tree.Hash(),
		ConfirmedTranscriptHash: l.Context.ConfirmedTranscriptHash, Extensions: f.es,
	}
	if o.PathHPKE != nil {
		o.PathHPKE(context)
	}
	except := slices.DeleteFunc(slices.Clone(f.added), func(i wire.LeafIndex) bool { return slices.Contains(o.Resolution, i) })
	encrypted, err := path.Encrypt(f.tree, except, context.Seal().Raw())
	if err != nil {
		t.Fatal(err)
	}
	f.commit = path.Commit()
	p := &wire.UpdatePath{Leaf: leaf, Nodes: encrypted}
	if o.Path != nil {
		o.Path(p)
	}
	return p
}

// newLeaf returns the content of the path's leaf.
func (l *Lawless) newLeaf(o *Forgery) *wire.LeafNode {
	if o.Identity == nil && !l.Stranger {
		old := l.Tree.Leaf(l.Own)
		return &wire.LeafNode{
			SignatureKey: old.SignatureKey, Credential: old.Credential,
			Capabilities: old.Capabilities, Extensions: old.Extensions,
		}
	}
	id := l.C.ID
	if o.Identity != nil {
		id = o.Identity.ID
	}
	return &wire.LeafNode{
		SignatureKey: id.Signer.Public(), Credential: id.Credential,
		Capabilities: id.Capabilities, Extensions: id.Extensions,
	}
}

// SealLeaf lets the hooks change a leaf and signs it for a place in the tree.
func (l *Lawless) SealLeaf(leaf *wire.LeafNode, at wire.LeafIndex, o *Forgery) *wire.LeafNode {
	l.C.W.T.Helper()
	if o.Leaf != nil {
		o.Leaf(leaf)
	}
	signer := l.Signer
	if o.LeafSigner != nil {
		signer = o.LeafSigner
	}
	sig, err := mls.SignWithLabel(signer, "LeafNodeTBS", leaf.TBS(l.Context.GroupID, at))
	if err != nil {
		l.C.W.T.Fatal(err)
	}
	leaf.Signature = sig
	leaf.Seal()
	if o.SealedLeaf != nil {
		leaf = o.SealedLeaf(leaf)
	}
	return leaf
}

// tag runs the key schedule up to the confirmation tag.
func (l *Lawless) tag(f *forged, o *Forgery, next *wire.GroupContext) []byte {
	init := l.S.ZeroSecret()
	if l.Secrets != nil {
		init = l.Secrets.Init
	}
	if o.Init != nil {
		init = o.Init(init)
	}
	var psks []secret.PSK
	for _, id := range f.psks {
		var key []byte
		if o.PSKs != nil {
			key = o.PSKs(id)
		}
		psks = append(psks, secret.PSK{ID: id.AppendTo(nil), Key: suite.NewSecret(key)})
	}
	psk := secret.PSKSecret(l.S, psks)
	if o.PSK != nil {
		psk = o.PSK(psk)
	}
	member := secret.Member(l.S, secret.Joiner(l.S, init, f.commit, next.Raw()), psk)
	epoch := secret.NewEpoch(l.S, member, next.Raw())
	return l.S.MAC(epoch.Confirmation, next.ConfirmedTranscriptHash)
}

// Sign lets the hooks change a content and signs it.
func (l *Lawless) Sign(c *wire.FramedContent, o *Forgery) *wire.AuthenticatedContent {
	l.C.W.T.Helper()
	if o.Content != nil {
		o.Content(c)
	}
	c.Seal()
	f := wire.FormatPublicMessage
	if o.Private {
		f = wire.FormatPrivateMessage
	}
	signer := l.Signer
	if o.Signer != nil {
		signer = o.Signer
	}
	sig, err := mls.SignWithLabel(signer, "FramedContentTBS", c.TBS(f, l.Context.Raw()))
	if err != nil {
		l.C.W.T.Fatal(err)
	}
	if o.Signature != nil {
		sig = o.Signature(sig)
	}
	return &wire.AuthenticatedContent{Format: f, Content: c, Auth: wire.AuthData{Signature: sig}}
}

// Frame makes the MLSMessage of a signed content, with membership tag or
// encryption.
func (l *Lawless) Frame(a *wire.AuthenticatedContent, o *Forgery) []byte {
	l.C.W.T.Helper()
	c := a.Content
	if a.Format == wire.FormatPublicMessage {
		m := &wire.PublicMessage{Content: c, Auth: a.Auth}
		if c.Sender.Type == wire.SenderMember && l.Secrets != nil {
			m.MembershipTag = l.S.MAC(l.Secrets.Membership, a.TBM(l.Context.Raw()))
			if o.Membership != nil {
				m.MembershipTag = o.Membership(m.MembershipTag)
			}
		}
		return m.Message()
	}
	which := secret.Handshake
	if c.ContentType == wire.ContentApplication {
		which = secret.Application
	}
	next, key, err := l.Messages.Next(uint32(l.Own), which)
	if err != nil {
		l.C.W.T.Fatal(err)
	}
	l.Messages = next
	plaintext := wire.PrivateContent(a, 0)
	if o.Plaintext != nil {
		plaintext = o.Plaintext(plaintext)
	}
	m := &wire.PrivateMessage{GroupID: c.GroupID, Epoch: c.Epoch, ContentType: c.ContentType, AAD: c.AAD}
	if err := secret.Seal(l.S, l.Secrets.SenderData, l.Own, key, m, plaintext); err != nil {
		l.C.W.T.Fatal(err)
	}
	if o.SenderData != nil {
		sd, err := secret.OpenSenderData(l.S, l.Secrets.SenderData, m)
		if err != nil {
			l.C.W.T.Fatal(err)
		}
		o.SenderData(&sd)
		if m.EncryptedSenderData, err = secret.SealSenderData(l.S, l.Secrets.SenderData, sd, m); err != nil {
			l.C.W.T.Fatal(err)
		}
	}
	return m.Message()
}

// Send forges a proposal or application message.
func (l *Lawless) Send(fill func(c *wire.FramedContent), o Forgery) []byte {
	l.C.W.T.Helper()
	c := &wire.FramedContent{
		GroupID: l.Context.GroupID, Epoch: l.Context.Epoch, AAD: o.AAD,
		Sender: wire.Sender{Type: wire.SenderMember, Index: uint32(l.Own)},
	}
	if o.Sender != nil {
		c.Sender = *o.Sender
	}
	fill(c)
	return l.Frame(l.Sign(c, &o), &o)
}

// Propose forges a proposal message.
func (l *Lawless) Propose(p *wire.Proposal, o Forgery) []byte {
	l.C.W.T.Helper()
	return l.Send(func(c *wire.FramedContent) { c.ContentType, c.Proposal = wire.ContentProposal, p }, o)
}

// Say forges an application message.
func (l *Lawless) Say(data []byte, o Forgery) []byte {
	l.C.W.T.Helper()
	o.Private = true
	return l.Send(func(c *wire.FramedContent) { c.ContentType, c.ApplicationData = wire.ContentApplication, data }, o)
}

// ExternalInit returns an ExternalInit to the group of the server's GroupInfo and
// the init secret that it gives, for Forgery.Init.
func (l *Lawless) ExternalInit() (*wire.Proposal, suite.Secret) {
	l.C.W.T.Helper()
	raw, ok := l.C.W.Server.GroupInfo()
	if !ok {
		l.C.W.T.Fatal("the server has no GroupInfo")
	}
	m, err := wire.ParseMessage(raw, nil)
	if err != nil {
		l.C.W.T.Fatal(err)
	}
	data, _ := m.GroupInfo.Extension(wire.ExtensionExternalPub)
	public, err := wire.ParseExternalPub(data, l.Limits)
	if err != nil {
		l.C.W.T.Fatal(err)
	}
	kem, init, err := l.S.ExternalInit(public)
	if err != nil {
		l.C.W.T.Fatal(err)
	}
	return (&wire.Proposal{Type: wire.ProposalExternalInit, ExternalInit: kem}).Seal(), init
}
