package hub_test

import (
	"testing"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestOrder: of everything that is wrong with a commit the first step answers
// (SPEC.md R-121): what is wrong is put right step by step, and each time the
// next step refuses.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed, func(p *pseudonym.Room) { p.Limits.AddMinRole = pseudonym.Moderator })
	bob := alice.add("b.example")
	psk, err := member.ResumptionPSKProposal(suite, alice.groupID(), bob.g.Epoch())
	if err != nil {
		t.Fatal(err)
	}
	right := w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
	wrong := w.identity(leafSpec{user: w.id("c.example", pseudonym.User)})
	type fix struct {
		auth, format, epoch, signed, aad, types, role bool
		leaf, delta, welcome, info, secret, key       bool
	}
	all := fix{}
	for _, s := range []struct {
		name string
		fix  func(*fix)
		want mmrerr.Code
	}{
		{"2 authentication", func(*fix) {}, mmrerr.NoRoom},
		{"5 format", func(f *fix) { f.auth = true }, mmrerr.WireFormat},
		{"6 epoch", func(f *fix) { f.format = true }, mmrerr.WrongEpoch},
		{"7 signature", func(f *fix) { f.epoch = true }, mmrerr.Signature},
		{"8 authenticated data", func(f *fix) { f.signed = true }, mmrerr.AAD},
		{"9 proposals", func(f *fix) { f.aad = true }, mmrerr.ProposalType},
		{"10 roles", func(f *fix) { f.types = true }, mmrerr.Role},
		{"11 leaves", func(f *fix) { f.role = true }, mmrerr.QueueDomain},
		{"13 link keys", func(f *fix) { f.leaf = true }, mmrerr.WrapMissing},
		{"14 Welcome", func(f *fix) { f.delta = true }, mmrerr.Welcome},
		{"15 GroupInfo", func(f *fix) { f.welcome = true }, mmrerr.GroupInfo},
		{"16 delivery secret", func(f *fix) { f.info = true }, mmrerr.Malformed},
		{"16 key at rest", func(f *fix) { f.secret = true }, mmrerr.EARKey},
		{"nothing", func(f *fix) { f.key = true }, mmrerr.OK},
	} {
		s.fix(&all)
		f := all
		by := bob // who may not add
		if f.role {
			by = alice
		}
		id := wrong
		if f.leaf {
			id = right
		}
		c := commit{adds: []*member.KeyPackage{w.keyPackage(id, false)}, linkKeys: []*identity{id}}
		if !f.types {
			c.proposals = append(c.proposals, psk)
		}
		if !f.aad {
			c.aad = func(pseudonym.AAD) []byte { return []byte{9, 9} }
		}
		if !f.delta {
			c.tree.none = true
		}
		if !f.info {
			c.info.WithoutExternalPub = true
		}
		c.request = func(m *hubv1.UpdateRequest) {
			if !f.signed {
				m.Commit = flipAt(m.Commit, len(m.Commit)-150)
			}
			if !f.epoch {
				m.Commit = withEpoch(m.Commit, by.groupID(), 77)
			}
			if !f.format {
				m.Commit = append(m.Commit, 0)
			}
			if !f.welcome {
				m.Welcome = nil
			}
			if !f.secret {
				m.DeliverySecret = nil
			}
			if !f.key {
				m.NextEarKey = by.ear.Bytes()
			}
		}
		if !f.auth {
			c.call = func(k *call) { k.ear = primitive.NewSecret() }
		}
		before := w.dump()
		_, err := by.commit(c)
		got, _ := mmrerr.Of(err)
		if got != s.want || (err == nil) != (s.want == mmrerr.OK) {
			t.Fatalf("step %s: %v, want %s", s.name, err, s.want)
		}
		if err != nil {
			w.unchanged(before)
		}
	}
}

// withEpoch changes the epoch that a PublicMessage says.
func withEpoch(m, groupID []byte, epoch byte) []byte {
	m = append([]byte(nil), m...)
	m[4+1+len(groupID)+7] = epoch // version, format, vector of the group id
	return m
}

// TestProposalSteps: stand-alone proposals (SPEC.md ).
func TestProposalSteps(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	send := func(ms ...[]byte) error {
		_, err := do(w, bob.call(seal.MethodUpdate), &hubv1.UpdateRequest{Proposals: ms}, new(hubv1.UpdateResponse))
		return err
	}
	propose := func(p *mls.ProposalBody, aad []byte) []byte {
		t.Helper()
		_, m, err := bob.g.Propose(p, member.SendOptions{AAD: aad})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	update := func(l *member.LeafOptions) []byte {
		t.Helper()
		_, m, err := bob.g.ProposeUpdate(l, member.SendOptions{AAD: []byte{0}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	own := mls.RemoveProposal(bob.g.OwnLeaf())
	elsewhere := w.room(sealed)
	_, foreign, err := elsewhere.g.Propose(mls.RemoveProposal(0), member.SendOptions{AAD: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := bob.g.Propose(own, member.SendOptions{AAD: []byte{0}, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	fresh := w.identity(leafSpec{user: bob.tbs.User})
	ext := func(i *identity) *member.LeafOptions { return &member.LeafOptions{Extensions: []mls.Extension{i.ext}} }
	policy := mls.ExtensionsProposal(bob.g.Public().Context().Extensions)
	for name, c := range map[string]struct {
		ms   [][]byte
		want mmrerr.Code
	}{
		"garbage":               {[][]byte{{1, 2, 3}}, mmrerr.WireFormat},
		"private":               {[][]byte{private}, mmrerr.WireFormat},
		"another room's":        {[][]byte{foreign}, mmrerr.WireFormat},
		"a commit":              {[][]byte{bob.stage(commit{}).req.GetCommit()}, mmrerr.WireFormat},
		"seventeen":             {make([][]byte, 17), mmrerr.Malformed},
		"another epoch":         {[][]byte{withEpoch(propose(own, []byte{0}), bob.groupID(), 9)}, mmrerr.WrongEpoch},
		"forged":                {[][]byte{flipAt(propose(own, []byte{0}), len(propose(own, []byte{0}))-50)}, mmrerr.Signature},
		"authenticated data":    {[][]byte{propose(own, []byte{4, 0x8a, 0x01, 1, 0})}, mmrerr.AAD},
		"no authenticated data": {[][]byte{propose(own, nil)}, mmrerr.AAD},
		"policy":                {[][]byte{propose(policy, []byte{0})}, mmrerr.ProposalType},
		"another user's leaf":   {[][]byte{propose(mls.RemoveProposal(alice.g.OwnLeaf()), []byte{0})}, mmrerr.Role},
		"other credential":      {[][]byte{update(w.newLeaf(bob))}, mmrerr.ParticipantMismatch},
		"queue of another":      {[][]byte{update(ext(w.identity(leafSpec{user: bob.tbs.User, domain: "a.example"})))}, mmrerr.QueueDomain},
		"no queue":              {[][]byte{update(&member.LeafOptions{Extensions: []mls.Extension{}})}, mmrerr.QueueMissing},
		"a member's queue":      {[][]byte{update(&member.LeafOptions{Extensions: []mls.Extension{{Type: mls.ExtensionType(pseudonym.ExtensionDelivery), Data: deliveryOf(t, alice)}}})}, mmrerr.QueueDomain},
		"good and then bad":     {[][]byte{update(ext(fresh)), propose(mls.RemoveProposal(alice.g.OwnLeaf()), []byte{0})}, mmrerr.Role},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.dump()
			w.wantCode(send(c.ms...), c.want)
			w.unchanged(before)
		})
	}
	m := update(ext(fresh))
	if err := send(m); err != nil {
		t.Fatalf("a right Update: %v", err)
	}
	before := w.dump()
	if err := send(m); err != nil {
		t.Errorf("the same again: %v", err)
	}
	w.unchanged(before)
	// It need not be in the next commit, and may be.
	alice.process(m)
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	if l := alice.g.Public().Leaf(bob.g.OwnLeaf()); l == nil {
		t.Error("the leaf is gone")
	}
}
