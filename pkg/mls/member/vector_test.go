package member_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

type passiveClient struct {
	CipherSuite    suite.ID    `json:"cipher_suite"`
	KeyPackage     mlstest.Hex `json:"key_package"`
	SignaturePriv  mlstest.Hex `json:"signature_priv"`
	EncryptionPriv mlstest.Hex `json:"encryption_priv"`
	InitPriv       mlstest.Hex `json:"init_priv"`
	Welcome        mlstest.Hex
	RatchetTree    mlstest.Hex `json:"ratchet_tree"`
	Authenticator  mlstest.Hex `json:"initial_epoch_authenticator"`
	ExternalPSKs   []struct {
		ID  mlstest.Hex `json:"psk_id"`
		PSK mlstest.Hex
	} `json:"external_psks"`
	Epochs []struct {
		Proposals     []mlstest.Hex
		Commit        mlstest.Hex
		Authenticator mlstest.Hex `json:"epoch_authenticator"`
	}
}

// passiveRules are those of the vectors' generators, whose members may do what
// RFC 9420 allows.
type passiveRules struct{ group.OpenRules }

func (passiveRules) Successor(_, _ *wire.LeafNode) error { return nil }

func (v *passiveClient) join(t *testing.T) *member.Group {
	t.Helper()
	signer, err := member.NewSigner(v.CipherSuite, v.SignaturePriv)
	if err != nil {
		t.Fatal(err)
	}
	kp, err := member.ImportKeyPackage(v.KeyPackage, v.InitPriv, v.EncryptionPriv, signer)
	if err != nil {
		t.Fatal(err)
	}
	find := func(ref []byte) *member.KeyPackage {
		if bytes.Equal(ref, kp.Ref()) {
			return kp
		}
		return nil
	}
	o := member.JoinOptions{Tree: v.RatchetTree}
	o.Rules = passiveRules{}
	o.Limits.MaxLifetime = -1
	o.Limits.StoredPerLeaf = 1024 // The random run has more proposals than the default allows.
	o.PSK = func(id []byte) []byte {
		for _, p := range v.ExternalPSKs {
			if bytes.Equal(p.ID, id) {
				return p.PSK
			}
		}
		return nil
	}
	g, _, err := member.Join(v.Welcome, find, o)
	if err != nil {
		t.Fatalf("suite %d: join: %v", v.CipherSuite, err)
	}
	if !bytes.Equal(g.EpochAuthenticator(), v.Authenticator) {
		t.Fatalf("suite %d: epoch authenticator after the join differs", v.CipherSuite)
	}
	return g
}

// follow processes all epochs and returns how many there were, and how many
// stand-alone proposals.
func (v *passiveClient) follow(t *testing.T, g *member.Group) (commits, proposals int) {
	t.Helper()
	for i, e := range v.Epochs {
		var err error
		for _, p := range e.Proposals {
			if g, _, err = g.Process(p); err != nil {
				t.Fatalf("suite %d, epoch %d: proposal: %v", v.CipherSuite, i, err)
			}
			proposals++
		}
		if g, _, err = g.Process(e.Commit); err != nil {
			t.Fatalf("suite %d, epoch %d: commit: %v", v.CipherSuite, i, err)
		}
		if !bytes.Equal(g.EpochAuthenticator(), e.Authenticator) {
			t.Fatalf("suite %d, epoch %d: epoch authenticator differs", v.CipherSuite, i)
		}
		commits++
	}
	return commits, proposals
}

func testPassive(t *testing.T, file string, cases, commits, proposals int) {
	var vectors []passiveClient
	mlstest.Vectors(t, file, &vectors)
	c, p, perSuite := 0, 0, map[suite.ID]int{}
	for i := range vectors {
		v := &vectors[i]
		dc, dp := v.follow(t, v.join(t))
		c, p = c+dc, p+dp
		perSuite[v.CipherSuite]++
		mlstest.Ran(t, file, v.CipherSuite)
	}
	mlstest.Count(t, file, len(vectors), cases)
	mlstest.Count(t, file+" commits", c, commits)
	mlstest.Count(t, file+" proposals", p, proposals)
	for id, n := range perSuite {
		if cases > 1 && n != cases/7 {
			t.Errorf("%s: %d cases of suite %d, want %d", file, n, id, cases/7)
		}
	}
}

func TestVectorPassiveClientWelcome(t *testing.T) {
	testPassive(t, "passive-client-welcome.json", 56, 0, 0)
}

func TestVectorPassiveClientHandlingCommit(t *testing.T) {
	testPassive(t, "passive-client-handling-commit.json", 91, 182, 84)
}

func TestVectorPassiveClientRandom(t *testing.T) {
	testPassive(t, "passive-client-random.json", 1, 200, 1542)
}
