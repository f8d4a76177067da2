package mls_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// passive is an entry of the passive-client files.
type passive struct {
	Suite        suite.ID `json:"cipher_suite"`
	ExternalPSKs []struct {
		ID  mlstest.Hex `json:"psk_id"`
		PSK mlstest.Hex `json:"psk"`
	} `json:"external_psks"`
	KeyPackage     mlstest.Hex `json:"key_package"`
	SignaturePriv  mlstest.Hex `json:"signature_priv"`
	EncryptionPriv mlstest.Hex `json:"encryption_priv"`
	InitPriv       mlstest.Hex `json:"init_priv"`
	Welcome        mlstest.Hex `json:"welcome"`
	Tree           mlstest.Hex `json:"ratchet_tree"`
	Epochs         []struct {
		Proposals     []mlstest.Hex `json:"proposals"`
		Commit        mlstest.Hex   `json:"commit"`
		Authenticator mlstest.Hex   `json:"epoch_authenticator"`
	} `json:"epochs"`
}

// follow opens the GroupInfo in the entry's Welcome, as a server never could, and
// starts to follow the group from it.
func (e *passive) follow(t *testing.T) *mls.PublicGroup {
	t.Helper()
	g, err := mls.NewPublicGroup(e.groupInfo(t), e.Tree, openOptions())
	if err != nil {
		t.Fatalf("following a group: %v", err)
	}
	return g
}

func (e *passive) groupInfo(t *testing.T) []byte {
	t.Helper()
	l := (&mls.Limits{}).WithDefaults()
	s := suite.Get(e.Suite)
	m, err := mls.ParseMessage(e.Welcome, nil)
	if err != nil {
		t.Fatal(err)
	}
	kp, err := mls.ParseKeyPackage(e.KeyPackage, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := mls.VerifyKeyPackage(kp, time.Time{}, nil); err != nil {
		t.Errorf("key package: %v", err)
	}
	for _, es := range m.Welcome.Secrets {
		if !bytes.Equal(es.NewMember, mls.KeyPackageRef(kp)) {
			continue
		}
		private, err := s.ImportPrivateKey(e.InitPriv)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.DecryptWithLabel(private, "Welcome", m.Welcome.EncryptedGroupInfo,
			es.Secrets.KEMOutput, es.Secrets.Ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		gs, err := wire.ParseGroupSecrets(b.Bytes(), l)
		if err != nil {
			t.Fatal(err)
		}
		var psks []secret.PSK
		for _, id := range gs.PSKs {
			for _, p := range e.ExternalPSKs {
				if bytes.Equal(p.ID, id.ID) {
					psks = append(psks, secret.PSK{ID: id.AppendTo(nil), Key: suite.NewSecret(p.PSK)})
				}
			}
		}
		member := secret.Member(s, suite.NewSecret(gs.JoinerSecret), secret.PSKSecret(s, psks))
		welcome := secret.Welcome(s, member)
		info, err := s.Open(s.DeriveKey(welcome, "key", nil), s.DeriveNonce(welcome, "nonce", nil), nil, m.Welcome.EncryptedGroupInfo)
		if err != nil {
			t.Fatal("the GroupInfo does not open")
		}
		g, err := wire.ParseGroupInfo(info, l)
		if err != nil {
			t.Fatal(err)
		}
		return g.Message()
	}
	t.Fatal("the Welcome is for somebody else")
	return nil
}

// openOptions accept everybody. The random vector has senders with more
// proposals in an epoch than the default allows.
func openOptions() *mls.Options {
	return &mls.Options{Rules: mls.OpenRules{}, Limits: mls.Limits{StoredPerLeaf: 1024}}
}

// run follows all epochs of an entry as a server and as the entry's client. The
// client's epoch authenticator proves that its GroupContext is the one that the
// vector's generator had; the server's must be the same bytes.
func (e *passive) run(t *testing.T) (commits int) {
	t.Helper()
	g, m := e.follow(t), e.join(t)
	for n, epoch := range e.Epochs {
		for _, msg := range append(slices.Clone(epoch.Proposals), epoch.Commit) {
			g = step(t, g, msg)
			var err error
			if m, _, err = m.Process(msg); err != nil {
				t.Fatalf("epoch %d: the member: %v", n, err)
			}
		}
		if !bytes.Equal(m.EpochAuthenticator(), epoch.Authenticator) {
			t.Fatalf("epoch %d: epoch authenticator differs", n)
		}
		if !bytes.Equal(g.Context().Raw(), m.Public().Context().Raw()) {
			t.Fatalf("epoch %d: the server's GroupContext differs", n)
		}
		if !bytes.Equal(g.TreeBytes(), m.Public().TreeBytes()) || !bytes.Equal(g.Context().TreeHash, m.Public().Context().TreeHash) {
			t.Fatalf("epoch %d: the server's tree differs", n)
		}
		commits++
	}
	return commits
}

// join joins as the entry's client.
func (e *passive) join(t *testing.T) *member.Group {
	t.Helper()
	signer, err := member.NewSigner(e.Suite, e.SignaturePriv)
	if err != nil {
		t.Fatal(err)
	}
	kp, err := member.ImportKeyPackage(e.KeyPackage, e.InitPriv, e.EncryptionPriv, signer)
	if err != nil {
		t.Fatal(err)
	}
	o := member.JoinOptions{Tree: e.Tree}
	o.Rules, o.Limits = openOptions().Rules, openOptions().Limits
	o.PSK = func(id []byte) []byte {
		for _, p := range e.ExternalPSKs {
			if bytes.Equal(p.ID, id) {
				return p.PSK
			}
		}
		return nil
	}
	m, _, err := member.Join(e.Welcome, func([]byte) *member.KeyPackage { return kp }, o)
	if err != nil {
		t.Fatalf("joining: %v", err)
	}
	return m
}

// step processes a message, compares the old state before and after, and the
// new one with itself saved and loaded.
func step(t *testing.T, g *mls.PublicGroup, msg []byte) *mls.PublicGroup {
	t.Helper()
	before := save(t, g)
	next, event, err := g.Process(msg, time.Time{})
	if err != nil {
		t.Fatalf("processing a message of epoch %d: %v", g.Epoch(), err)
	}
	if !bytes.Equal(save(t, g), before) {
		t.Error("the old state changed")
	}
	if event.Kind == mls.KindCommit && next.Epoch() != g.Epoch()+1 {
		t.Errorf("a commit led from epoch %d to %d", g.Epoch(), next.Epoch())
	}
	b := save(t, next)
	loaded, err := mls.ParsePublicGroup(b, openOptions())
	if err != nil {
		t.Fatalf("loading a state: %v", err)
	}
	if !bytes.Equal(save(t, loaded), b) {
		t.Error("a loaded state is saved as other bytes")
	}
	return loaded
}

func save(tb testing.TB, g *mls.PublicGroup) []byte {
	tb.Helper()
	b, err := g.AppendBinary(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestVectorPublicGroupCommits(t *testing.T) {
	var entries []passive
	mlstest.Vectors(t, "passive-client-handling-commit.json", &entries)
	groups, commits := map[suite.ID]int{}, map[suite.ID]int{}
	for _, e := range entries {
		groups[e.Suite]++
		commits[e.Suite] += e.run(t)
		mlstest.Ran(t, "passive-client-handling-commit.json", e.Suite)
	}
	mlstest.Count(t, "groups", len(entries), 91)
	for _, id := range suite.IDs() {
		mlstest.Count(t, "groups of a suite", groups[id], 13)
		mlstest.Count(t, "commits of a suite", commits[id], 26)
	}
}

func TestVectorPublicGroupRandom(t *testing.T) {
	var entries []passive
	mlstest.Vectors(t, "passive-client-random.json", &entries)
	mlstest.Count(t, "groups", len(entries), 1)
	mlstest.Count(t, "commits", entries[0].run(t), 200)
	mlstest.Ran(t, "passive-client-random.json", entries[0].Suite)
}

func TestVectorPublicGroupWelcomes(t *testing.T) {
	var entries []passive
	mlstest.Vectors(t, "passive-client-welcome.json", &entries)
	for _, e := range entries {
		e.follow(t)
		mlstest.Ran(t, "passive-client-welcome.json", e.Suite)
	}
	mlstest.Count(t, "groups", len(entries), 56)
}
