package hub_test

import (
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestSiblingInfo: a new device gets the GroupInfo by the proof of a leaf of
// its user, and nobody else does (SPEC.md ).
func TestSiblingInfo(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	device := w.identity(leafSpec{user: bob.tbs.User})
	other := w.identity(leafSpec{user: bob.tbs.User})
	prove := func(by *party, tbs pseudonym.TBS, notAfter time.Time) []byte {
		t.Helper()
		p, err := pseudonym.NewSiblingProof(by.groupID(), uint32(by.g.OwnLeaf()), uint64(notAfter.Unix()), tbs, by.key(t))
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	proof := prove(bob, device.tbs, time.Now().Add(time.Minute))
	right := func() (*hubv1.GroupInfoRequest, call) {
		req := &hubv1.GroupInfoRequest{SiblingProof: proof, ClientPseudonym: device.tbs.Client.String(), UserPseudonym: device.tbs.User.String(), SignatureKey: device.signer.Public()}
		return req, call{method: seal.MethodGroupInfo, groupID: bob.groupID(), kind: seal.AuthNewLeaf, signer: device.key(t), ear: bob.ear}
	}
	for name, f := range map[string]func(*hubv1.GroupInfoRequest, *call){
		"garbage": func(m *hubv1.GroupInfoRequest, _ *call) { m.SiblingProof = []byte{1, 2} },
		"forged":  func(m *hubv1.GroupInfoRequest, _ *call) { m.SiblingProof = flip(proof) },
		"expired": func(_ *hubv1.GroupInfoRequest, c *call) { c.now = time.Now().Add(2 * time.Minute) },
		"good for too long": func(m *hubv1.GroupInfoRequest, _ *call) {
			m.SiblingProof = prove(bob, device.tbs, time.Now().Add(2*time.Hour))
		},
		"of another user's leaf": func(m *hubv1.GroupInfoRequest, _ *call) {
			m.SiblingProof = prove(alice, device.tbs, time.Now().Add(time.Minute))
		},
		"for another client": func(m *hubv1.GroupInfoRequest, _ *call) { m.ClientPseudonym = other.tbs.Client.String() },
		"for another user":   func(m *hubv1.GroupInfoRequest, _ *call) { m.UserPseudonym = alice.tbs.User.String() },
		"for another key": func(m *hubv1.GroupInfoRequest, c *call) {
			m.SignatureKey, c.signer = other.signer.Public(), other.key(t)
		},
		"seen by somebody else": func(_ *hubv1.GroupInfoRequest, c *call) { c.signer = other.key(t) },
		"signed as a leaf": func(_ *hubv1.GroupInfoRequest, c *call) {
			c.kind, c.leaf, c.signer = seal.AuthLeaf, uint32(bob.g.OwnLeaf()), bob.key(t)
		},
		"unsigned":                 func(_ *hubv1.GroupInfoRequest, c *call) { c.kind = seal.AuthNone },
		"no names":                 func(m *hubv1.GroupInfoRequest, _ *call) { m.ClientPseudonym, m.UserPseudonym = "", "" },
		"a real handle":            func(m *hubv1.GroupInfoRequest, _ *call) { m.UserPseudonym = "mimi://b.example/u/bob" },
		"no key":                   func(m *hubv1.GroupInfoRequest, _ *call) { m.SignatureKey = nil },
		"with a code":              func(m *hubv1.GroupInfoRequest, _ *call) { m.Code = make([]byte, 32) },
		"without the key at rest":  func(_ *hubv1.GroupInfoRequest, c *call) { c.ear = primitive.Secret{} },
		"with another key at rest": func(_ *hubv1.GroupInfoRequest, c *call) { c.ear = primitive.NewSecret() },
		"for another room":         func(_ *hubv1.GroupInfoRequest, c *call) { c.groupID = member.RandomGroupID() },
		"pseudonyms the other way on": func(m *hubv1.GroupInfoRequest, _ *call) {
			m.ClientPseudonym, m.UserPseudonym = m.UserPseudonym, m.ClientPseudonym
		},
	} {
		t.Run(name, func(t *testing.T) {
			req, c := right()
			f(req, &c)
			w.resetLimits()
			_, err := do(w, c, req, new(hubv1.GroupInfoResponse))
			w.wantCode(err, mmrerr.NoRoom)
		})
	}
	w.resetLimits()
	req, c := right()
	res, err := do(w, c, req, new(hubv1.GroupInfoResponse))
	if err != nil || len(res.GetGroupInfo()) == 0 || len(res.GetWrapState()) == 0 {
		t.Fatalf("a right one: %v", err)
	}
	// The device joins with the proof, and what it was given serves it no more.
	if err := bob.leave(); err != nil {
		t.Fatal(err)
	}
	_, err = do(w, c, req, new(hubv1.GroupInfoResponse))
	w.wantCode(err, mmrerr.NoRoom) // of a leaving leaf
	// Ten calls a minute, whatever they bring.
	var limited error
	for range 12 {
		_, limited = do(w, c, req, new(hubv1.GroupInfoResponse))
	}
	w.wantCode(limited, mmrerr.RateLimited)
}

// leave proposes the party's own removal.
func (p *party) leave(also ...mls.LeafIndex) error {
	p.w.t.Helper()
	var ms [][]byte
	for _, i := range append([]mls.LeafIndex{p.g.OwnLeaf()}, also...) {
		g, m, err := p.g.Propose(mls.RemoveProposal(i), member.SendOptions{AAD: []byte{0}})
		if err != nil {
			p.w.t.Fatal(err)
		}
		p.g, ms = g, append(ms, m)
	}
	_, err := do(p.w, p.call(seal.MethodUpdate), &hubv1.UpdateRequest{Proposals: ms}, new(hubv1.UpdateResponse))
	return err
}
