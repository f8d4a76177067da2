package member_test

import (
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// TestVectorRecorded writes passive-client files from self-play, in the official
// format, and follows them like the official ones. Other implementations can be
// given the same files.
func TestVectorRecorded(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		n := 20
		if raceEnabled {
			n = 4
		}
		file := record(t, s, n)
		var v passiveClient
		if err := json.Unmarshal(file, &v); err != nil {
			t.Fatal(err)
		}
		commits, proposals := v.follow(t, v.join(t))
		mlstest.Count(t, "recorded commits", commits, n)
		if proposals == 0 && !raceEnabled {
			t.Error("no proposal was recorded")
		}
	})
}

type recordedEpoch struct {
	Proposals     []string `json:"proposals"`
	Commit        string   `json:"commit"`
	Authenticator string   `json:"epoch_authenticator"`
}

// record lets a client join and watch others change the group.
func record(t *testing.T, s mls.CipherSuite, commits int) []byte {
	w := mlstest.NewWorld(t, s, 1)
	passive, welcome := invite(t, w, member.CommitOptions{})
	kp := passive.Find(refs(t, welcome)[0])
	saved, err := kp.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := codec.NewReader(saved[6:])
	r.Vector(codec.MaxVector)
	initPrivate, leafPrivate := r.Vector(codec.MaxVector), r.Vector(codec.MaxVector)
	if err := r.Done(); err != nil {
		t.Fatal(err)
	}
	file := map[string]any{
		"cipher_suite": s, "external_psks": []string{}, "ratchet_tree": nil,
		"key_package": hex.EncodeToString(kp.Message()), "welcome": hex.EncodeToString(welcome),
		"signature_priv":  hex.EncodeToString(passive.ID.Signer.(*member.SigningKey).Private()),
		"encryption_priv": hex.EncodeToString(leafPrivate), "init_priv": hex.EncodeToString(initPrivate),
	}
	info, err := w.Clients[0].Group.GroupInfo(member.GroupInfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if w.Server, err = mls.NewPublicGroup(info, nil, &w.Options.Options); err != nil {
		t.Fatal(err)
	}
	w.Join(welcome, false, passive)
	file["initial_epoch_authenticator"] = hex.EncodeToString(passive.Group.EpochAuthenticator())
	var epochs []recordedEpoch
	e := recordedEpoch{Proposals: []string{}}
	w.Sent = func(msg []byte) {
		m, err := wire.ParseMessage(msg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if m.ContentType() == mls.ContentProposal {
			e.Proposals = append(e.Proposals, hex.EncodeToString(msg))
			return
		}
		e.Commit = hex.EncodeToString(msg)
	}
	for range commits {
		watched(w, passive)
		e.Authenticator = hex.EncodeToString(passive.Group.EpochAuthenticator())
		epochs = append(epochs, e)
		e = recordedEpoch{Proposals: []string{}}
	}
	file["epochs"] = epochs
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// watched changes the group by one commit, which the passive client does not
// make and which leaves it in the group.
func watched(w *mlstest.World, passive *mlstest.Client) {
	var others []*mlstest.Client
	for _, c := range w.Clients {
		if c != passive {
			others = append(others, c)
		}
	}
	c, d := others[rand.IntN(len(others))], others[rand.IntN(len(others))]
	if rand.IntN(2) == 0 {
		w.ProposeUpdate(d, nil, member.SendOptions{})
	}
	if rand.IntN(2) == 0 {
		w.Propose(c, mls.AddProposal(w.NewClient().KeyPackage()), member.SendOptions{AAD: []byte("aad")})
	}
	o := member.CommitOptions{Except: func(p *mls.Proposal) bool { return p.Type == mls.ProposalAdd }}
	switch n := rand.IntN(5); {
	case n == 0:
		w.JoinExternal(w.NewClient(), member.ExternalOptions{})
		return
	case n == 1 && c != d:
		o.ByValue = []*mls.ProposalBody{mls.RemoveProposal(d.Group.OwnLeaf())}
	case n == 2:
		o.Private = len(w.Server.Proposals()) == 0
	case n == 3:
		w.Commit(c, o, w.NewClient(), w.NewClient())
		return
	}
	w.Commit(c, o)
}
