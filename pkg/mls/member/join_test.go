package member_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// invite stages a commit of the world's first client that adds a new one,
// confirms it, and returns the Welcome.
func invite(t *testing.T, w *mlstest.World, o member.CommitOptions) (*mlstest.Client, []byte) {
	t.Helper()
	c, added := w.Clients[0], w.NewClient()
	o.ByValue = append(o.ByValue, mls.AddProposal(added.KeyPackage()))
	staged, err := c.Stage(o)
	if err != nil {
		t.Fatal(err)
	}
	welcome := staged.Welcome()
	if _, err := c.Confirm(); err != nil {
		t.Fatal(err)
	}
	return added, welcome
}

func join(w *mlstest.World, c *mlstest.Client, welcome, tree []byte) (*member.Group, *member.JoinInfo, error) {
	return member.Join(welcome, c.Find, member.JoinOptions{Options: w.Options, Tree: tree})
}

// Number 14: no tree, no join; and any tree is checked.
func TestWelcomeWithoutTree(t *testing.T) {
	w := world(t, 3)
	added, welcome := invite(t, w, member.CommitOptions{Welcome: member.WelcomeOptions{WithoutTree: true}})
	_, _, err := join(w, added, welcome, nil)
	mlstest.CheckRule(t, "no tree", err, wire.RuleTreeMissing)
	_, _, err = join(w, added, welcome, []byte{})
	if err == nil {
		t.Error("joined with an empty tree")
	}
	// A refused Welcome used nothing up.
	if _, _, err := join(w, added, welcome, w.Clients[0].Group.Public().TreeBytes()); err != nil {
		t.Errorf("the right tree after the wrong ones: %v", err)
	}
}

func TestWelcomeWithSeparateTree(t *testing.T) {
	w := world(t, 3)
	old := w.Server.TreeBytes()
	added, welcome := invite(t, w, member.CommitOptions{Welcome: member.WelcomeOptions{WithoutTree: true}})
	right := w.Clients[0].Group.Public().TreeBytes()
	_, _, err := join(w, added, welcome, old)
	mlstest.CheckRule(t, "tree of the old epoch", err, wire.RuleTreeHash)
	for i := 0; i < len(right); i += 7 {
		bad := bytes.Clone(right)
		bad[i] ^= 1
		if _, _, err := join(w, added, welcome, bad); err == nil {
			t.Fatalf("tree with byte %d changed accepted", i)
		}
	}
	g, info, err := join(w, added, welcome, right)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g.EpochAuthenticator(), w.Clients[0].Group.EpochAuthenticator()) || info.Signer != w.Clients[0].Group.OwnLeaf() {
		t.Error("joined something else")
	}
	// Beside one inside, it must be the same.
	w = world(t, 3)
	old = w.Server.TreeBytes()
	added, welcome = invite(t, w, member.CommitOptions{})
	_, _, err = join(w, added, welcome, old)
	mlstest.CheckRule(t, "another tree beside", err, wire.RuleTreeContradicted)
	if _, _, err := join(w, added, welcome, w.Clients[0].Group.Public().TreeBytes()); err != nil {
		t.Errorf("the same tree beside: %v", err)
	}
}

// forgeWelcome opens a Welcome as its receiver, lets edit change what is inside,
// and seals it again; the GroupInfo is signed again by the committer.
func forgeWelcome(t *testing.T, w *mlstest.World, to *mlstest.Client, welcome []byte, edit func(w *wire.Welcome, s *wire.GroupSecrets, g *wire.GroupInfo)) []byte {
	t.Helper()
	m, err := wire.ParseMessage(welcome, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, entry := suite.Get(w.Suite), m.Welcome.Secrets[0]
	kp := to.Find(entry.NewMember)
	saved, err := kp.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	// It ends with the init key and the leaf key, 32 bytes each in suite 1.
	initKey := suite.NewSecret(saved[len(saved)-65 : len(saved)-33])
	raw, err := s.DecryptWithLabel(initKey, "Welcome", m.Welcome.EncryptedGroupInfo, entry.Secrets.KEMOutput, entry.Secrets.Ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := wire.ParseGroupSecrets(raw.Bytes(), wire.Unlimited())
	if err != nil {
		t.Fatal(err)
	}
	key := func(joiner []byte) (suite.Secret, suite.Secret) {
		member := secret.Member(s, suite.NewSecret(joiner), secret.PSKSecret(s, nil))
		return secret.WelcomeKey(s, secret.Welcome(s, member))
	}
	k, nonce := key(secrets.JoinerSecret)
	plaintext, err := s.Open(k, nonce, nil, m.Welcome.EncryptedGroupInfo)
	if err != nil {
		t.Fatal(err)
	}
	info, err := wire.ParseGroupInfo(plaintext, wire.Unlimited())
	if err != nil {
		t.Fatal(err)
	}
	fresh := &wire.GroupInfo{Context: info.Context, Extensions: info.Extensions, ConfirmationTag: info.ConfirmationTag, Signer: info.Signer}
	edit(m.Welcome, secrets, fresh)
	if fresh.Signature == nil {
		if fresh.Signature, err = mls.SignWithLabel(w.Clients[0].ID.Signer, "GroupInfoTBS", fresh.TBS()); err != nil {
			t.Fatal(err)
		}
	}
	k, nonce = key(secrets.JoinerSecret)
	if m.Welcome.EncryptedGroupInfo, err = s.Seal(k, nonce, nil, fresh.Seal().Raw()); err != nil {
		t.Fatal(err)
	}
	e := &m.Welcome.Secrets[0]
	e.Secrets.KEMOutput, e.Secrets.Ciphertext, err = s.EncryptWithLabel(kp.Public().InitKey, "Welcome", m.Welcome.EncryptedGroupInfo, secrets.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	return m.Welcome.Message()
}

// Numbers 63, 64, 66 and 72.
func TestWelcomeRules(t *testing.T) {
	w := world(t, 3)
	added, welcome := invite(t, w, member.CommitOptions{})
	// Resumption PSKs have no id: an application that answers to it is not asked.
	w.Options.PSK = func(id []byte) []byte {
		if len(id) == 0 {
			return []byte("key")
		}
		return nil
	}
	type (
		W = wire.Welcome
		S = wire.GroupSecrets
		G = wire.GroupInfo
	)
	nonce := make([]byte, 32)
	for name, c := range map[string]struct {
		edit func(w *W, s *S, g *G)
		rule mls.Rule
	}{
		"unchanged":         {func(*W, *S, *G) {}, ""},
		"suite":             {func(w *W, _ *S, _ *G) { w.Suite = 3 }, wire.RuleWelcomeSuite},
		"joiner secret":     {func(_ *W, s *S, _ *G) { s.JoinerSecret = flip(s.JoinerSecret) }, wire.RuleConfirmationTag},
		"short joiner":      {func(_ *W, s *S, _ *G) { s.JoinerSecret = s.JoinerSecret[1:] }, wire.RuleWelcomeDecrypt},
		"confirmation tag":  {func(_ *W, _ *S, g *G) { g.ConfirmationTag = flip(g.ConfirmationTag) }, wire.RuleConfirmationTag},
		"no tag":            {func(_ *W, _ *S, g *G) { g.ConfirmationTag = nil }, wire.RuleConfirmationTag},
		"path secret":       {func(_ *W, s *S, _ *G) { s.PathSecret = flip(s.PathSecret) }, wire.RuleWelcomePathSecret},
		"empty path secret": {func(_ *W, s *S, _ *G) { s.PathSecret = []byte{} }, wire.RuleWelcomePathSecret},
		"unknown PSK": {func(_ *W, s *S, _ *G) {
			s.PSKs = []wire.PreSharedKeyID{{Type: wire.PSKExternal, ID: []byte("x"), Nonce: nonce}}
		}, wire.RuleWelcomePSK},
		"short nonce": {func(_ *W, s *S, _ *G) {
			s.PSKs = []wire.PreSharedKeyID{{Type: wire.PSKExternal, ID: []byte("x"), Nonce: nonce[1:]}}
		}, wire.RulePSKNonce},
		"branch": {func(_ *W, s *S, _ *G) {
			s.PSKs = []wire.PreSharedKeyID{{Type: wire.PSKResumption, Usage: wire.UsageBranch, Nonce: nonce}}
		}, wire.RuleWelcomePSK},
		"signed by the joiner": {func(_ *W, _ *S, g *G) {
			g.Signer = 3
			var err error
			if g.Signature, err = mls.SignWithLabel(added.ID.Signer, "GroupInfoTBS", g.TBS()); err != nil {
				t.Fatal(err)
			}
		}, wire.RuleWelcomeLeaf},
		"signer":       {func(_ *W, _ *S, g *G) { g.Signer = 2 }, wire.RuleGroupInfoSignature},
		"blank signer": {func(_ *W, _ *S, g *G) { g.Signer = 4 }, wire.RuleGroupInfoSigner},
		"signature":    {func(_ *W, _ *S, g *G) { g.Signature = make([]byte, 64) }, wire.RuleGroupInfoSignature},
		"tree hash": {func(_ *W, _ *S, g *G) {
			c := *g.Context
			c.TreeHash = flip(c.TreeHash)
			g.Context = c.Seal()
		}, wire.RuleTreeHash},
		"epoch": {func(_ *W, _ *S, g *G) {
			c := *g.Context
			c.Epoch++
			g.Context = c.Seal()
		}, wire.RuleConfirmationTag},
		"context suite": {func(_ *W, _ *S, g *G) {
			c := *g.Context
			c.Suite = 3
			g.Context = c.Seal()
		}, wire.RuleWelcomeSuite},
		"unsupported extension": {func(_ *W, _ *S, g *G) {
			c := *g.Context
			c.Extensions = []wire.Extension{{Type: 0xf0a4}}
			g.Context = c.Seal()
		}, wire.RuleLeafCapabilities},
		"extension twice": {func(_ *W, _ *S, g *G) { g.Extensions = append(g.Extensions, g.Extensions[0]) }, wire.RuleDuplicateExtension},
	} {
		msg := forgeWelcome(t, w, added, welcome, c.edit)
		g, info, err := join(w, added, msg, nil)
		if c.rule == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		mlstest.CheckRule(t, name, err, c.rule)
		if g != nil || info != nil {
			t.Errorf("%s: results beside an error", name)
		}
	}
	// The own leaf with other keys, where no parent hash covers it.
	other := world(t, 3)
	heir, withoutPath := invite(t, other, member.CommitOptions{NoPath: true})
	msg := forgeWelcome(t, other, heir, withoutPath, func(_ *W, _ *S, g *G) { replaceLeaf(t, heir, g) })
	_, _, err := join(other, heir, msg, nil)
	mlstest.CheckRule(t, "own leaf with other keys", err, wire.RuleWelcomeLeaf)
	_, _, err = join(w, w.NewClient(), welcome, nil)
	mlstest.CheckRule(t, "stranger", err, wire.RuleWelcomeRecipient)
	o := member.JoinOptions{Options: w.Options, Joined: func(id []byte) bool { return bytes.Equal(id, w.Server.GroupID()) }}
	_, _, err = member.Join(welcome, added.Find, o)
	mlstest.CheckRule(t, "joined twice", err, wire.RuleWelcomeGroupID)
	_, _, err = member.Join(welcome, added.Find, member.JoinOptions{})
	if !errors.Is(err, mls.ErrNoRules) {
		t.Errorf("without rules: %v", err)
	}
	for i := range welcome {
		if _, _, err := join(w, added, flipAt(welcome, i), nil); err == nil {
			t.Fatalf("Welcome with byte %d changed accepted", i)
		}
	}
	g, _, err := join(w, added, welcome, nil)
	if err != nil || g.Status() != member.Active {
		t.Fatalf("the true Welcome after all: %v", err)
	}
	added.Find(mls.KeyPackageRef(added.KeyPackage())).Wipe() // another one
	for _, ref := range refs(t, welcome) {
		added.Find(ref).Wipe()
	}
	if _, _, err := join(w, added, welcome, nil); !errors.Is(err, member.ErrWiped) {
		t.Errorf("with a wiped key package: %v", err)
	}
}

// replaceLeaf puts another leaf of the same client into the tree of a GroupInfo.
func replaceLeaf(t *testing.T, c *mlstest.Client, g *wire.GroupInfo) {
	t.Helper()
	l := (&wire.Limits{}).WithDefaults()
	data, _ := g.Extension(wire.ExtensionRatchetTree)
	nodes, err := wire.ParseRatchetTree(data, l)
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		if leaf := nodes[i].Leaf; leaf != nil && bytes.Equal(leaf.SignatureKey, c.ID.Signer.Public()) {
			nodes[i].Leaf = c.KeyPackage().Leaf
		}
	}
	data = wire.AppendRatchetTree(nil, nodes)
	parsed, err := tree.Parse(suite.Get(1), data, l)
	if err != nil {
		t.Fatal(err)
	}
	context := *g.Context
	context.TreeHash = parsed.Hash()
	g.Context = context.Seal()
	g.Extensions = slices.Clone(g.Extensions)
	for i := range g.Extensions {
		if g.Extensions[i].Type == wire.ExtensionRatchetTree {
			g.Extensions[i].Data = data
		}
	}
}

func refs(t *testing.T, welcome []byte) [][]byte {
	t.Helper()
	r, err := mls.WelcomeRefs(welcome, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func flipAt(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// Number 66: the path secret of a Welcome gives the keys up to the root, in a
// tree with gaps too.
func TestWelcomePathSecret(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 6)
		for _, c := range w.Clients {
			w.Commit(c, member.CommitOptions{})
		}
		w.Commit(w.Clients[0], member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(2), mls.RemoveProposal(3)}})
		a, b := w.NewClient(), w.NewClient()
		w.Commit(w.Clients[2], member.CommitOptions{}, a, b)
		// Both read what comes through every node above them.
		for _, c := range w.Clients {
			w.Commit(c, member.CommitOptions{})
		}
		w.Commit(a, member.CommitOptions{}, w.NewClient())
		w.Commit(b, member.CommitOptions{NoPath: true}, w.NewClient())
		w.Say(b, member.SendOptions{})

		// The nodes between the new leaf and the root: others encrypt to them
		// before anybody replaces them.
		w = mlstest.NewWorld(t, s, 8)
		for _, c := range w.Clients {
			w.Commit(c, member.CommitOptions{})
		}
		at := slices.Clone(w.Clients) // by leaf
		w.Commit(at[6], member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(1)}})
		w.Commit(at[0], member.CommitOptions{}, w.NewClient())
		w.Commit(at[4], member.CommitOptions{}) // to the node above four leaves
		w.Commit(at[2], member.CommitOptions{}) // to the one above two
	})
}

// Number 20: who founded the group, or joined it from outside, can publish a
// GroupInfo at once, and it is good for the next joiner.
func TestGroupInfoByCreatorAndJoiner(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		for _, inMemory := range []bool{false, true} {
			w := mlstest.NewWorld(t, s, 1) // The server took the founder's GroupInfo of epoch 0.
			w.NoReload = inMemory          // A load computes the state of a staged commit again.
			joinersInform(t, w)
		}
	})
}

func joinersInform(t *testing.T, w *mlstest.World) {
	t.Helper()
	for i := range 4 {
		c := w.NewClient()
		w.JoinExternal(c, member.ExternalOptions{AAD: []byte{byte(i)}})
		info, err := c.Group.GroupInfo(member.GroupInfoOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mls.NewPublicGroup(info, nil, &w.Options.Options); err != nil {
			t.Errorf("GroupInfo of joiner %d: %v", i, err)
		}
		m, err := wire.ParseMessage(info, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.GroupInfo.ConfirmationTag, w.Server.ConfirmationTag()) || len(m.GroupInfo.ConfirmationTag) == 0 {
			t.Errorf("joiner %d: confirmation tag differs", i)
		}
		for _, other := range w.Clients {
			a, err := other.Group.ExternalPub()
			if err != nil {
				t.Fatal(err)
			}
			data, _ := m.GroupInfo.Extension(wire.ExtensionExternalPub)
			if b, err := wire.ParseExternalPub(data, wire.Unlimited()); err != nil || !bytes.Equal(a, b) {
				t.Errorf("joiner %d: external_pub differs, err %v", i, err)
			}
		}
	}
	w.Say(w.Clients[0], member.SendOptions{})
	w.Say(w.Clients[4], member.SendOptions{})
	w.Commit(w.Clients[0], member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(2)}})
}

// An external commit's joiner has the old group's external_pub to trust only;
// a false one makes a commit that members refuse.
func TestFalseExternalPub(t *testing.T) {
	w := world(t, 2)
	l := w.NewClient().Stranger()
	init, _ := l.ExternalInit()
	o := mlstest.Forgery{List: []wire.ProposalOrRef{mlstest.ByValue(init)}}
	w.Refused(l.Commit(o), wire.RuleConfirmationTag, false) // with an init secret of zeros
	for _, kem := range [][]byte{nil, make([]byte, 32), make([]byte, 33)} {
		o.List = []wire.ProposalOrRef{mlstest.ByValue((&wire.Proposal{Type: wire.ProposalExternalInit, ExternalInit: kem}).Seal())}
		w.Refused(l.Commit(o), wire.RuleExternalInit, false)
	}
	init, s := l.ExternalInit()
	o = mlstest.Forgery{List: []wire.ProposalOrRef{mlstest.ByValue(init)}, Init: func(suite.Secret) suite.Secret { return s }}
	for _, c := range w.Clients {
		if _, err := c.Process(l.Commit(o)); err != nil {
			t.Errorf("the lawless, obeying the law: %v", err)
		}
	}
}

// Joining from outside refuses what a Welcome's joiner refuses.
func TestJoinExternalRules(t *testing.T) {
	w := world(t, 3)
	c := w.NewClient()
	info, ok := w.Server.GroupInfo()
	if !ok {
		t.Fatal("no GroupInfo")
	}
	o := member.ExternalOptions{Options: w.Options, Tree: w.Server.TreeBytes()}
	try := func(id *member.Identity, info []byte, o member.ExternalOptions) error {
		t.Helper()
		g, s, err := member.JoinExternal(id, info, o)
		if err != nil && (g != nil || s != nil) {
			t.Error("results beside an error")
		}
		return err
	}
	noTree := o
	noTree.Tree = nil
	mlstest.CheckRule(t, "no tree", try(c.ID, info, noTree), wire.RuleTreeMissing)
	wrong := o
	wrong.Tree = append(bytes.Clone(o.Tree), 0)
	if try(c.ID, info, wrong) == nil {
		t.Error("a tree with a trailing byte accepted")
	}
	noKey, err := w.Clients[0].Group.GroupInfo(member.GroupInfoOptions{WithoutExternalPub: true})
	if err != nil {
		t.Fatal(err)
	}
	mlstest.CheckRule(t, "no external_pub", try(c.ID, noKey, o), wire.RuleExternalPub)
	other := *c.ID
	other.Suite = 3
	other.Capabilities = member.DefaultCapabilities(3)
	mlstest.CheckRule(t, "suite", try(&other, info, o), wire.RuleWelcomeSuite)
	// Already there, by its signature key.
	mlstest.CheckRule(t, "same client", try(w.Clients[1].ID, info, o), wire.RuleSameClient)
	// Somebody else's leaf in place of the own former one.
	evict := o
	leaf := w.Clients[1].Group.OwnLeaf()
	evict.Resync = &leaf
	mlstest.CheckRule(t, "evicting", try(c.ID, info, evict), wire.RuleSuccessor)
	blank := o
	none := mls.LeafIndex(3)
	blank.Resync = &none
	mlstest.CheckRule(t, "blank leaf", try(c.ID, info, blank), wire.RuleRemoveBlank)
	for i := range info {
		if try(c.ID, flipAt(info, i), o) == nil {
			t.Fatalf("GroupInfo with byte %d changed accepted", i)
		}
	}
	noRules := o
	noRules.Rules = nil
	if err := try(c.ID, info, noRules); !errors.Is(err, mls.ErrNoRules) {
		t.Errorf("without rules: %v", err)
	}
	g, staged, err := member.JoinExternal(c.ID, info, o)
	if err != nil {
		t.Fatal(err)
	}
	if g.Status() != member.Joining || staged.Epoch() != w.Server.Epoch()+1 {
		t.Errorf("status %d, epoch %d", g.Status(), staged.Epoch())
	}
	for name, err := range map[string]error{
		"Send":    second(g.Send(nil, member.SendOptions{})),
		"Stage":   secondStaged(g.Stage(member.CommitOptions{})),
		"Process": secondEvent(g.Process(info)),
	} {
		if !errors.Is(err, member.ErrJoining) {
			t.Errorf("%s while joining: %v", name, err)
		}
	}
	if _, err := g.Discard(); !errors.Is(err, member.ErrJoining) {
		t.Errorf("Discard while joining: %v", err)
	}
	if _, _, err := g.Process(staged.Commit()); !errors.Is(err, member.ErrOwnCommit) {
		t.Errorf("own external commit echoed: %v", err)
	}
}

func second(_ *member.Group, _ []byte, err error) error               { return err }
func secondStaged(_ *member.Group, _ *member.Staged, err error) error { return err }
func secondEvent(_ *member.Group, _ *mls.Event, err error) error      { return err }

// Number 68.
func TestCreateRules(t *testing.T) {
	w := world(t, 1)
	base := *w.Clients[0].ID
	type edit = func(id *member.Identity, o *member.CreateOptions)
	for name, c := range map[string]struct {
		edit edit
		rule mls.Rule
	}{
		"unknown suite":      {func(id *member.Identity, _ *member.CreateOptions) { id.Suite = 8 }, wire.RuleUnsupportedSuite},
		"suite not listed":   {func(id *member.Identity, _ *member.CreateOptions) { id.Capabilities.Suites = []mls.CipherSuite{2} }, wire.RuleLeafVersion},
		"version not listed": {func(id *member.Identity, _ *member.CreateOptions) { id.Capabilities.Versions = nil }, wire.RuleLeafVersion},
		"credential":         {func(id *member.Identity, _ *member.CreateOptions) { id.Capabilities.Credentials = nil }, wire.RuleCredentialTypes},
		"leaf extension":     {func(id *member.Identity, _ *member.CreateOptions) { id.Extensions = []mls.Extension{{Type: 0xf0a4}} }, wire.RuleLeafExtensions},
		"leaf extension twice": {func(id *member.Identity, _ *member.CreateOptions) {
			id.Capabilities.Extensions = []mls.ExtensionType{0xf0a4}
			id.Extensions = []mls.Extension{{Type: 0xf0a4}, {Type: 0xf0a4}}
		}, wire.RuleDuplicateExtension},
		"group extension": {func(_ *member.Identity, o *member.CreateOptions) { o.Extensions = []mls.Extension{{Type: 0xf0a5}} }, wire.RuleLeafCapabilities},
		"group extension twice": {func(_ *member.Identity, o *member.CreateOptions) {
			o.Extensions = []mls.Extension{{Type: 1}, {Type: 1}}
		}, wire.RuleDuplicateExtension},
		"required": {func(_ *member.Identity, o *member.CreateOptions) {
			o.Extensions = []mls.Extension{mls.RequiredCapabilities{Credentials: []mls.CredentialType{0xf0a1}}.Extension()}
		}, wire.RuleLeafCapabilities},
		"lifetime":  {func(_ *member.Identity, o *member.CreateOptions) { o.Lifetime = mls.Lifetime{} }, wire.RuleLifetime},
		"refused":   {func(_ *member.Identity, o *member.CreateOptions) { o.Rules = nobody{} }, wire.RuleCredential},
		"no signer": {func(id *member.Identity, _ *member.CreateOptions) { id.Signer = nil }, wire.RuleLeafKey},
	} {
		id, o := base, member.CreateOptions{Options: w.Options, Lifetime: mlstest.Lifetime}
		c.edit(&id, &o)
		g, err := member.Create(&id, []byte("group"), o)
		mlstest.CheckRule(t, name, err, c.rule)
		if g != nil {
			t.Errorf("%s: a group beside an error", name)
		}
	}
	if _, err := member.Create(&base, nil, member.CreateOptions{Lifetime: mlstest.Lifetime}); !errors.Is(err, mls.ErrNoRules) {
		t.Errorf("without rules: %v", err)
	}
	if a, b := member.RandomGroupID(), member.RandomGroupID(); len(a) != 32 || bytes.Equal(a, b) {
		t.Error("group ids are not random")
	}
}

// nobody refuses every credential.
type nobody struct{ mls.OpenRules }

func (nobody) Credential(mls.Credential, []byte, mls.Place) error { return errors.New("nobody") }

// Number 70.
func TestExporter(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 2)
		g := w.Clients[0].Group
		seen := map[string]bool{}
		get := func(label, context string, n int) {
			t.Helper()
			out, err := w.Clients[0].Group.Export(label, []byte(context), n)
			if err != nil || len(out) != n {
				t.Fatalf("%d bytes, err %v", len(out), err)
			}
			seen[string(out)] = true
		}
		get("a", "", 32)
		get("b", "", 32)
		get("a", "x", 32)
		get("a", "", 33)
		w.Commit(w.Clients[1], member.CommitOptions{})
		get("a", "", 32)
		if len(seen) != 5 {
			t.Errorf("%d different outputs, want 5", len(seen))
		}
		limit := 255 * suite.Get(s).HashSize()
		get("a", "", limit)
		for _, n := range []int{-1, limit + 1, 1 << 20} {
			if out, err := w.Clients[0].Group.Export("a", nil, n); err == nil || out != nil {
				t.Errorf("%d bytes exported", n)
			}
		}
		if _, err := g.Export("a", nil, 32); !errors.Is(err, member.ErrWiped) {
			t.Errorf("export from a retired state: %v", err)
		}
	})
}

// Peek tells the group without joining it.
func TestPeek(t *testing.T) {
	w := world(t, 2)
	added, welcome := invite(t, w, member.CommitOptions{Welcome: member.WelcomeOptions{WithoutTree: true}})
	context, err := member.Peek(welcome, added.Find, w.Options)
	if err != nil || !bytes.Equal(context.Raw(), w.Clients[0].Group.Public().Context().Raw()) {
		t.Errorf("context differs, err %v", err)
	}
	if _, _, err := join(w, added, welcome, w.Clients[0].Group.Public().TreeBytes()); err != nil {
		t.Errorf("join after a Peek: %v", err)
	}
	_, err = member.Peek(welcome, w.NewClient().Find, w.Options)
	mlstest.CheckRule(t, "stranger", err, wire.RuleWelcomeRecipient)
	for i := range welcome {
		// The entries of others are not looked at; this Welcome has none.
		if c, err := member.Peek(flipAt(welcome, i), added.Find, w.Options); err == nil || c != nil {
			t.Fatalf("Welcome with byte %d changed accepted", i)
		}
	}
}
