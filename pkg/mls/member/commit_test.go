package member_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// Number 29: commits with a GroupContextExtensions proposal and a path.
func TestProvisionalContext(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := customWorld(t, s, 3)
		es := []mls.Extension{{Type: groupExtension, Data: []byte("policy 2")}}
		w.Commit(w.Clients[1], member.CommitOptions{ByValue: []*mls.ProposalBody{mls.ExtensionsProposal(es)}}, custom(w.NewClient()))
		if data, _ := w.Server.Extension(groupExtension); string(data) != "policy 2" {
			t.Error("extensions not replaced")
		}
		l := w.Clients[0].Lawless()
		w.Clients = w.Clients[1:]
		for name, edit := range map[string]func(c *wire.GroupContext){
			"old extensions": func(c *wire.GroupContext) { c.Extensions = l.Context.Extensions },
			"old epoch":      func(c *wire.GroupContext) { c.Epoch-- },
			"old tree hash":  func(c *wire.GroupContext) { c.TreeHash = l.Context.TreeHash },
			"new transcript": func(c *wire.GroupContext) { c.ConfirmedTranscriptHash = make([]byte, l.S.HashSize()) },
		} {
			t.Log(name)
			list := []wire.ProposalOrRef{mlstest.ByValue(mls.ExtensionsProposal(nil))}
			w.Refused(l.Commit(mlstest.Forgery{List: list, PathHPKE: edit}), wire.RulePathSecret, false)
		}
	})
}

// Number 50: the derived keys are those that were sent, at every height.
func TestPathKeysMatch(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 8)
		for _, c := range w.Clients {
			w.Commit(c, member.CommitOptions{})
		}
		l := w.Clients[0].Lawless()
		all := w.Clients
		for height := range 3 {
			var context []byte
			fresh, _, err := l.S.GenerateKeyPair()
			if err != nil {
				t.Fatal(err)
			}
			// Those below whose path secret leads to the changed key.
			w.Clients = nil
			for _, c := range all[1:] {
				if tree.Contains(l.Tree.FilteredPath(0)[height].Node, c.Group.OwnLeaf()) {
					w.Clients = append(w.Clients, c)
				}
			}
			w.Refused(l.Commit(mlstest.Forgery{Keys: func(p [][]byte) { p[height] = fresh }}), wire.RulePathSecret, false)
			// Another secret under the right key.
			w.Clients = nil
			for _, c := range all[1:] {
				if tree.Contains(l.Tree.FilteredPath(0)[height].Copath, c.Group.OwnLeaf()) {
					w.Clients = append(w.Clients, c)
				}
			}
			w.Refused(l.Commit(mlstest.Forgery{
				PathHPKE: func(c *wire.GroupContext) { context = c.Seal().Raw() },
				Path: func(p *wire.UpdatePath) {
					for i, x := range l.Tree.Resolution(l.Tree.FilteredPath(0)[height].Copath, nil) {
						kem, ct, err := l.S.EncryptWithLabel(l.Tree.Key(x), "UpdatePathNode", context, make([]byte, l.S.HashSize()))
						if err != nil {
							t.Fatal(err)
						}
						p.Nodes[height].Secrets[i] = wire.HPKECiphertext{KEMOutput: kem, Ciphertext: ct}
					}
				},
			}), wire.RulePathSecret, false)
			w.Refused(l.Commit(mlstest.Forgery{Path: func(p *wire.UpdatePath) {
				for i := range p.Nodes[height].Secrets {
					p.Nodes[height].Secrets[i].Ciphertext = flip(p.Nodes[height].Secrets[i].Ciphertext)
				}
			}}), wire.RulePathSecret, false)
			w.Refused(l.Commit(mlstest.Forgery{Path: func(p *wire.UpdatePath) {
				for i := range p.Nodes[height].Secrets {
					p.Nodes[height].Secrets[i].KEMOutput = nil
				}
			}}), wire.RulePathSecret, false)
		}
		w.Clients = all
		w.Commit(w.Clients[0], member.CommitOptions{})
	})
}

// Number 13: Updates only by reference, of their own epoch, of their sender.
func TestUpdateByValue(t *testing.T) {
	w := world(t, 3)
	w.ProposeUpdate(w.Clients[1], nil, member.SendOptions{})
	stored := w.Server.Proposals()[0]
	l := w.Clients[0].Lawless()
	all := w.Clients
	w.Clients = all[1:]
	w.Refused(l.Commit(mlstest.Forgery{List: []wire.ProposalOrRef{mlstest.ByValue(stored.Proposal)}}), wire.RuleUpdateByValue, true)
	// Another member's leaf in an own Update.
	w.Refused(l.Propose(stored.Proposal, mlstest.Forgery{}), wire.RuleLeafSignature, true)
	// Its author cannot commit it, nor does it try.
	author := all[1].Lawless()
	w.Clients = []*mlstest.Client{all[0], all[2]}
	w.Refused(author.Commit(mlstest.Forgery{List: []wire.ProposalOrRef{mlstest.ByRef(stored)}}), wire.RuleUpdateCommitter, true)
	w.Clients = all
	e := w.Commit(all[1], member.CommitOptions{})
	if len(e.Commit.Proposals) != 0 || len(e.Commit.Unused) != 1 {
		t.Errorf("own commit covers %d proposals", len(e.Commit.Proposals))
	}
}

func TestStaleUpdate(t *testing.T) {
	w := world(t, 3)
	w.ProposeUpdate(w.Clients[1], nil, member.SendOptions{})
	stale := w.Server.Proposals()[0]
	w.Commit(w.Clients[1], member.CommitOptions{})
	if n := len(w.Clients[0].Group.Public().Proposals()); n != 0 {
		t.Errorf("%d proposals survived their epoch", n)
	}
	l := w.Clients[0].Lawless()
	all := w.Clients
	w.Clients = all[1:]
	w.Refused(l.Commit(mlstest.Forgery{List: []wire.ProposalOrRef{mlstest.ByRef(stale)}}), wire.RuleReferenceUnknown, true)
	w.Clients = all
	w.Commit(w.Clients[0], member.CommitOptions{})
	w.Say(w.Clients[1], member.SendOptions{})
}

// Numbers 37 and 69: PSKs, external and of past epochs.
func TestPSKs(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		keys := map[string]string{"a": "key a", "b": "key b"}
		lookup := func(id []byte) []byte {
			if k, ok := keys[string(id)]; ok {
				return []byte(k)
			}
			return nil
		}
		w := mlstest.NewWorld(t, s, 1)
		w.Options.PSK = lookup
		w.Found()
		w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient(), w.NewClient())
		psk := func(id string) *mls.ProposalBody {
			p, err := member.ExternalPSKProposal(s, []byte(id))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		w.Commit(w.Clients[0], member.CommitOptions{ByValue: []*mls.ProposalBody{psk("a"), psk("b")}}, w.NewClient())
		w.Commit(w.Clients[1], member.CommitOptions{NoPath: true, ByValue: []*mls.ProposalBody{psk("b")}})
		w.JoinExternal(w.NewClient(), member.ExternalOptions{PSKs: []*mls.ProposalBody{psk("a")}})
		w.Propose(w.Clients[2], psk("a"), member.SendOptions{})
		w.Commit(w.Clients[3], member.CommitOptions{})
		w.Say(w.Clients[0], member.SendOptions{})
		// Unknown to the committer, and to those who receive it.
		_, err := w.Clients[0].Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{psk("c")}})
		mlstest.CheckRule(t, "unknown", err, wire.RulePSKUnknown)
		l := w.Clients[0].Lawless()
		w.Clients = w.Clients[1:]
		list := []wire.ProposalOrRef{mlstest.ByValue(psk("c"))}
		w.Refused(l.Commit(mlstest.Forgery{List: list, NoPath: true}), wire.RulePSKUnknown, false)
		list = []wire.ProposalOrRef{mlstest.ByValue(psk("a"))}
		wrong := func(wire.PreSharedKeyID) []byte { return []byte("key b") }
		w.Refused(l.Commit(mlstest.Forgery{List: list, NoPath: true, PSKs: wrong}), wire.RuleConfirmationTag, false)
		// Each of several counts, the last one too.
		list = append(list, mlstest.ByValue(psk("b")))
		w.Refused(l.Commit(mlstest.Forgery{List: list, NoPath: true, PSKs: func(id wire.PreSharedKeyID) []byte {
			if string(id.ID) == "a" {
				return []byte("key a")
			}
			return []byte("key c")
		}}), wire.RuleConfirmationTag, false)
	})
}

// A resumption PSK works for those who were there, and is refused by others.
func TestResumptionPSK(t *testing.T) {
	w := world(t, 3)
	past, err := member.ResumptionPSKProposal(1, w.Server.GroupID(), w.Server.Epoch())
	if err != nil {
		t.Fatal(err)
	}
	w.Commit(w.Clients[1], member.CommitOptions{})
	w.Commit(w.Clients[0], member.CommitOptions{ByValue: []*mls.ProposalBody{past}})
	w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient())
	staged, err := w.Clients[0].Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{past}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Clients[3].Process(staged.Commit())
	mlstest.CheckRule(t, "newcomer", err, wire.RulePSKUnknown)
	if _, err := w.Clients[1].Process(staged.Commit()); err != nil {
		t.Errorf("member since then: %v", err)
	}
	// Unknown to the committer itself.
	future, err := member.ResumptionPSKProposal(1, w.Server.GroupID(), w.Server.Epoch()+7)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Clients[2].Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{future}})
	mlstest.CheckRule(t, "future epoch", err, wire.RulePSKUnknown)
}

// Number 69: zeros stand for a commit or PSK secret that is absent, only then.
func TestKeyScheduleInputs(t *testing.T) {
	w := mlstest.NewWorld(t, 1, 1)
	w.Options.PSK = func([]byte) []byte { return []byte("key") }
	w.Found()
	w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient(), w.NewClient())
	l := w.Clients[0].Lawless()
	w.Clients = w.Clients[1:]
	psk, err := member.ExternalPSKProposal(1, []byte("id"))
	if err != nil {
		t.Fatal(err)
	}
	list := []wire.ProposalOrRef{mlstest.ByValue(psk)}
	zero := func(suite.Secret) suite.Secret { return l.S.ZeroSecret() }
	key := func(wire.PreSharedKeyID) []byte { return []byte("key") }
	w.Refused(l.Commit(mlstest.Forgery{List: list, NoPath: true, PSK: zero}), wire.RuleConfirmationTag, false)
	w.Refused(l.Commit(mlstest.Forgery{Init: zero}), wire.RuleConfirmationTag, false)
	w.Refused(l.Commit(mlstest.Forgery{NewContext: func(c *wire.GroupContext) { c.Epoch-- }}), wire.RuleConfirmationTag, false)
	for _, c := range w.Clients {
		if _, _, err := c.Group.Process(l.Commit(mlstest.Forgery{})); err != nil {
			t.Errorf("as it should be, with a path: %v", err)
		}
		if _, err := c.Process(l.Commit(mlstest.Forgery{List: list, NoPath: true, PSKs: key})); err != nil {
			t.Errorf("as it should be: %v", err)
		}
	}
}

// Number 22: what callers pass and get can be changed without effect.
func TestNoAliasing(t *testing.T) {
	w := customWorld(t, 1, 3)
	c := w.Clients[0]
	aad, data := []byte("aad"), []byte("data")
	scribble := func(b []byte) {
		for i := range b {
			b[i] ^= 0xff
		}
	}
	public, private := mlstest.State(t, c.Group)
	context := c.Group.Public().Context().Raw()
	scribble(context)
	scribble(c.Group.Public().TreeBytes())
	scribble(c.Group.EpochAuthenticator())
	if s, ok := c.Group.Resumption(c.Group.Epoch()); ok {
		scribble(s)
	}
	if info, err := c.Group.GroupInfo(member.GroupInfoOptions{}); err == nil {
		scribble(info)
	}
	for _, leaf := range c.Group.Public().Members() {
		scribble(leaf.Raw())
		scribble(leaf.SignatureKey)
		scribble(leaf.EncryptionKey)
	}
	public2, private2 := mlstest.State(t, c.Group)
	if !bytes.Equal(public, public2) || !bytes.Equal(private, private2) {
		t.Fatal("what the state returned is part of it")
	}
	kp := custom(w.NewClient())
	raw := kp.KeyPackage()
	o := member.CommitOptions{AAD: aad, ByValue: []*mls.ProposalBody{mls.AddProposal(raw)}}
	w.NoReload = true
	staged, err := c.Stage(o)
	if err != nil {
		t.Fatal(err)
	}
	scribble(aad)
	scribble(raw.Raw())
	scribble(staged.Commit())
	scribble(staged.Welcome())
	msg, err := c.Send(data, member.SendOptions{AAD: aad})
	if err != nil {
		t.Fatal(err)
	}
	read := bytes.Clone(msg)
	e, err := w.Clients[1].Process(read)
	if err != nil {
		t.Fatal(err)
	}
	scribble(read)
	scribble(aad)
	scribble(data)
	if string(e.Data) != "data" {
		t.Error("event aliases the message")
	}
	commit := staged.Commit()
	received := bytes.Clone(commit)
	for _, other := range w.Clients[1:] {
		if _, err := other.Process(received); err != nil {
			t.Fatal(err)
		}
	}
	scribble(received)
	if _, err := c.Confirm(); err != nil {
		t.Fatal(err)
	}
	welcome := staged.Welcome()
	scribble(raw.Raw())
	tree := c.Group.Public().TreeBytes()
	g, _, err := member.Join(welcome, kp.Find, member.JoinOptions{Options: w.Options, Tree: tree})
	if err != nil {
		t.Fatal(err)
	}
	scribble(welcome)
	scribble(tree)
	kp.Group = g
	w.Clients = append(w.Clients, kp)
	if w.Server, _, err = w.Server.Process(commit, mlstest.Now); err != nil {
		t.Fatal(err)
	}
	w.Check()
	w.NoReload = false
	w.Say(kp, member.SendOptions{})
	w.Commit(kp, member.CommitOptions{})
	// A proposal that is stored until somebody commits it.
	w.NoReload = true
	body := mls.AddProposal(custom(w.NewClient()).KeyPackage())
	w.Propose(kp, body, member.SendOptions{})
	scribble(body.Raw())
	scribble(body.Add.Leaf.Raw())
	scribble(body.Add.InitKey)
	staged, err = kp.Stage(member.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(staged.Event().Commit.Added); n != 1 {
		t.Errorf("the stored proposal was not committed: %d added", n)
	}
	for _, other := range w.Clients[:3] {
		if _, err := other.Process(staged.Commit()); err != nil {
			t.Errorf("%s: %v", other.Name, err)
		}
	}
}

// A signer outside of the process that fails, or lies, breaks nothing.
func TestBadSigner(t *testing.T) {
	w := world(t, 2)
	c := w.Clients[0]
	for name, s := range map[string]mls.Signer{
		"fails": badSigner{c.ID.Signer, nil, errors.New("no hand")},
		"lies":  badSigner{c.ID.Signer, make([]byte, 64), nil},
	} {
		if _, err := c.Stage(member.CommitOptions{Leaf: &member.LeafOptions{Signer: s}}); err == nil {
			t.Errorf("signer that %s: commit staged", name)
		}
		if err := c.Step(func(g *member.Group) (*member.Group, error) {
			n, _, err := g.ProposeUpdate(&member.LeafOptions{Signer: s}, member.SendOptions{})
			return n, err
		}); err == nil {
			t.Errorf("signer that %s: Update proposed", name)
		}
	}
	w.Commit(c, member.CommitOptions{})
}

type badSigner struct {
	mls.Signer
	sig []byte
	err error
}

func (b badSigner) Sign([]byte) ([]byte, error) { return b.sig, b.err }

// Number 63 of the server, seen by members: external senders.
func TestExternalSenderRemoves(t *testing.T) {
	w := mlstest.NewWorld(t, 1, 1)
	server, err := member.GenerateSigner(1)
	if err != nil {
		t.Fatal(err)
	}
	sender := mls.ExternalSender{SignatureKey: server.Public(), Credential: mls.BasicCredential([]byte("server"))}
	w.Found(wire.ExternalSendersExtension(sender))
	w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient(), w.NewClient())
	gone := w.Clients[2]
	msg, err := mls.NewExternalProposal(w.Server, 0, mls.RemoveProposal(gone.Group.OwnLeaf()), []byte("aad"), server)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range w.Clients {
		if e, err := c.Process(msg); err != nil || e.Sender.Type != mls.SenderExternal || string(e.AAD) != "aad" {
			t.Fatalf("proposal of the server: %v", err)
		}
	}
	if w.Server, _, err = w.Server.Process(msg, mlstest.Now); err != nil {
		t.Fatal(err)
	}
	w.Commit(w.Clients[1], member.CommitOptions{})
	if gone.Group.Status() != member.Removed {
		t.Error("not removed")
	}
}

// What everybody must refuse is refused by members as by the server, for the same
// reason: the public rules are one piece of code.
func TestMembersAgreeWithHub(t *testing.T) {
	w := world(t, 4)
	all := w.Clients
	l := all[0].Lawless()
	w.Clients = all[1:]
	kp := w.NewClient().KeyPackage()
	add := mlstest.ByValue(mls.AddProposal(kp))
	remove := mlstest.ByValue(mls.RemoveProposal(2))
	blank := mlstest.ByValue(mls.RemoveProposal(9))
	gce := mlstest.ByValue(mls.ExtensionsProposal(nil))
	twin := mlstest.ByValue(mls.AddProposal(w.Clients[0].KeyPackage()))
	psk := (&wire.Proposal{Type: wire.ProposalPSK, PSK: &wire.PreSharedKeyID{Type: wire.PSKExternal, ID: []byte("x"), Nonce: make([]byte, 31)}}).Seal()
	init := (&wire.Proposal{Type: wire.ProposalExternalInit, ExternalInit: make([]byte, 32)}).Seal()
	list := func(ps ...wire.ProposalOrRef) []wire.ProposalOrRef { return ps }
	foreign, err := member.GenerateSigner(1)
	if err != nil {
		t.Fatal(err)
	}
	known := l.Tree.Key(tree.Leaf(wire.LeafIndex(1)))
	for name, c := range map[string]struct {
		o    mlstest.Forgery
		rule mls.Rule
	}{
		"blank leaf removed":  {mlstest.Forgery{List: list(blank)}, wire.RuleRemoveBlank},
		"same leaf twice":     {mlstest.Forgery{List: list(remove, remove)}, wire.RuleSameLeafTwice},
		"same client twice":   {mlstest.Forgery{List: list(add, add)}, wire.RuleSameClient},
		"present client":      {mlstest.Forgery{List: list(twin)}, wire.RuleSameClient},
		"two GCE":             {mlstest.Forgery{List: list(gce, gce)}, wire.RuleTwoExtensions},
		"ExternalInit":        {mlstest.Forgery{List: list(mlstest.ByValue(init))}, wire.RuleExternalInit},
		"PSK nonce":           {mlstest.Forgery{List: list(mlstest.ByValue(psk))}, wire.RulePSKNonce},
		"unknown reference":   {mlstest.Forgery{List: list(wire.ProposalOrRef{Reference: make([]byte, 32)})}, wire.RuleReferenceUnknown},
		"no path, empty":      {mlstest.Forgery{NoPath: true}, wire.RulePathRequired},
		"no path, GCE":        {mlstest.Forgery{NoPath: true, List: list(gce)}, wire.RulePathRequired},
		"signature":           {mlstest.Forgery{Signature: flip}, wire.RuleSignature},
		"foreign signature":   {mlstest.Forgery{Signer: foreign}, wire.RuleSignature},
		"leaf signature":      {mlstest.Forgery{LeafSigner: foreign}, wire.RuleLeafSignature},
		"leaf source":         {mlstest.Forgery{Leaf: func(n *wire.LeafNode) { n.Source = wire.SourceUpdate }}, wire.RuleLeafSource},
		"leaf key reused":     {mlstest.Forgery{Leaf: func(n *wire.LeafNode) { n.EncryptionKey = l.Tree.Key(0) }}, wire.RuleLeafKeyReused},
		"leaf credential":     {mlstest.Forgery{Leaf: func(n *wire.LeafNode) { n.Credential = mls.BasicCredential([]byte("x")) }}, wire.RuleSuccessor},
		"leaf extension":      {mlstest.Forgery{Leaf: func(n *wire.LeafNode) { n.Extensions = []wire.Extension{{Type: 0xf0a4}} }}, wire.RuleLeafExtensions},
		"parent hash":         {mlstest.Forgery{Leaf: func(n *wire.LeafNode) { n.ParentHash = flip(n.ParentHash) }}, wire.RulePathParentHash},
		"known key in path":   {mlstest.Forgery{Keys: func(p [][]byte) { p[0] = known }}, wire.RulePathKey},
		"same key twice":      {mlstest.Forgery{Keys: func(p [][]byte) { p[1] = p[0] }}, wire.RulePathKey},
		"small order key":     {mlstest.Forgery{Keys: func(p [][]byte) { p[0] = make([]byte, 32) }}, wire.RulePathKey},
		"node missing":        {mlstest.Forgery{Path: func(p *wire.UpdatePath) { p.Nodes = p.Nodes[:1] }}, wire.RulePathShape},
		"node too many":       {mlstest.Forgery{Path: func(p *wire.UpdatePath) { p.Nodes = append(p.Nodes, p.Nodes[0]) }}, wire.RulePathShape},
		"ciphertext missing":  {mlstest.Forgery{Path: func(p *wire.UpdatePath) { p.Nodes[1].Secrets = p.Nodes[1].Secrets[1:] }}, wire.RulePathShape},
		"for an added leaf":   {mlstest.Forgery{List: list(add), Resolution: []wire.LeafIndex{4}}, wire.RulePathShape},
		"blank sender":        {mlstest.Forgery{Sender: &wire.Sender{Type: wire.SenderMember, Index: 5}}, wire.RuleSender},
		"other sender":        {mlstest.Forgery{Sender: &wire.Sender{Type: wire.SenderMember, Index: 1}}, wire.RuleSignature},
		"other epoch":         {mlstest.Forgery{Content: func(c *wire.FramedContent) { c.Epoch++ }}, wire.RuleEpoch},
		"other group":         {mlstest.Forgery{Content: func(c *wire.FramedContent) { c.GroupID = []byte("x") }}, wire.RuleGroupID},
		"unsupported for all": {mlstest.Forgery{List: list(mlstest.ByValue(mls.ExtensionsProposal([]mls.Extension{{Type: 0xf0a4}})))}, wire.RuleExtensionsSupport},
	} {
		t.Log(name)
		if c.rule == wire.RulePathShape && name == "for an added leaf" && l.Tree.Width() != 4 {
			t.Fatal("the tree is not what the case needs")
		}
		w.Refused(l.Commit(c.o), c.rule, true)
	}
	w.Clients = all
	w.Commit(w.Clients[0], member.CommitOptions{})
}
