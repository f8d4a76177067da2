package hub_test

import (
	"bytes"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestSubmit: SPEC.md R-124.
func TestSubmit(t *testing.T) {
	w := newWorld(t)
	alice := w.room(func(p *pseudonym.Room) { p.Limits.MaxMessage = 2000 })
	bob := alice.add("b.example")
	send := func(o member.SendOptions, n int) []byte {
		g, m, err := alice.g.Send(make([]byte, n), o)
		if err != nil {
			t.Fatal(err)
		}
		alice.g = g
		return m
	}
	right := member.SendOptions{AAD: []byte{0}, Padding: member.PadToBucket}
	frank, err := pseudonym.AAD{{Type: pseudonym.AADFrank, Data: make([]byte, 32)}}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(f func(*member.SendOptions)) member.SendOptions { o := right; f(&o); return o }
	for name, c := range map[string]struct {
		m    []byte
		want mmrerr.Code
	}{
		"nothing":             {nil, mmrerr.WireFormat},
		"garbage":             {[]byte{0, 1, 0, 2, 7}, mmrerr.WireFormat},
		"a commit":            {alice.stage(commit{}).req.Commit, mmrerr.WireFormat},
		"a private commit":    {alice.stage(commit{options: func(o *member.CommitOptions) { o.Private = true }}).req.Commit, mmrerr.WireFormat},
		"another room's":      {w.room().message("x"), mmrerr.WireFormat},
		"trailing byte":       {append(send(right, 5), 0), mmrerr.WireFormat},
		"unpadded":            {send(with(func(o *member.SendOptions) { o.Padding = nil }), 5), mmrerr.PaddingBucket},
		"padded by one":       {send(with(func(o *member.SendOptions) { o.Padding = func(n int) int { return member.PadToBucket(n) + 1 } }), 5), mmrerr.PaddingBucket},
		"too large":           {send(right, 2100), mmrerr.TooLarge},
		"no aad":              {send(with(func(o *member.SendOptions) { o.AAD = nil }), 5), mmrerr.AAD},
		"add_aad":             {send(with(func(o *member.SendOptions) { o.AAD = []byte{4, 0x8a, 0x01, 1, 0} }), 5), mmrerr.AAD},
		"right":               {send(right, 5), mmrerr.OK},
		"with a franking tag": {send(with(func(o *member.SendOptions) { o.AAD = frank }), 5), mmrerr.OK},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.dump()
			_, err := alice.submit(c.m)
			if got, _ := mmrerr.Of(err); got != c.want || (err == nil) != (c.want == mmrerr.OK) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if c.want != mmrerr.OK {
				w.unchanged(before)
			}
		})
	}
	// Epochs: one that ended a moment ago without a Remove will do, older ones and
	// those to come will not.
	stale, crossing := send(right, 1), send(right, 2)
	past := send(right, 3)
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.submit(crossing); err != nil {
		t.Errorf("a message that crossed a commit: %v", err)
	}
	late := alice.call(seal.MethodSubmit)
	late.now = time.Now().Add(61 * time.Second)
	_, err = do(w, late, &hubv1.SubmitRequest{Message: past}, new(hubv1.SubmitResponse))
	w.wantCode(err, mmrerr.EpochTooOld)
	future := alice.stage(commit{})
	g, _, err := future.g.Confirm()
	if err != nil {
		t.Fatal(err)
	}
	_, m, err := g.Send([]byte("x"), right)
	if err != nil {
		t.Fatal(err)
	}
	_, err = alice.submit(m)
	w.wantCode(err, mmrerr.EpochTooOld)
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	_, err = alice.submit(stale)
	w.wantCode(err, mmrerr.EpochTooOld)
	// Nobody may read, once removed, what is accepted after that.
	crossing = send(right, 4)
	if _, err := alice.commit(commit{proposals: []*mls.ProposalBody{mls.RemoveProposal(bob.g.OwnLeaf())}}); err != nil {
		t.Fatal(err)
	}
	_, err = alice.submit(crossing)
	w.wantCode(err, mmrerr.EpochTooOld)
	_, err = bob.submit(bob.message("still here?"))
	w.wantCode(err, mmrerr.NoRoom)
}

// TestObserver: who may not send is told so, and who may sends.
func TestObserver(t *testing.T) {
	w := newWorld(t)
	alice := w.room(func(p *pseudonym.Room) { p.DefaultRole = pseudonym.Observer })
	bob := alice.add("b.example")
	_, err := bob.submit(bob.message("may I?"))
	w.wantCode(err, mmrerr.Role)
	if _, err := bob.commit(commit{}); err != nil { // everyone may refresh itself
		t.Errorf("an observer's empty commit: %v", err)
	}
}

// TestLeaving: SPEC.md R-113: what a leaf proposes about its own user is cached
// and fanned out, and ends what it may do; commits that leave it out are refused.
func TestLeaving(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	propose := func(p *party, i mls.LeafIndex) []byte {
		g, m, err := p.g.Propose(mls.RemoveProposal(i), member.SendOptions{AAD: []byte{0}})
		if err != nil {
			t.Fatal(err)
		}
		p.g = g
		return m
	}
	send := func(p *party, ms ...[]byte) error {
		_, err := do(w, p.call(seal.MethodUpdate), &hubv1.UpdateRequest{Proposals: ms}, new(hubv1.UpdateResponse))
		return err
	}
	before := bob.g
	w.wantCode(send(bob, propose(bob, alice.g.OwnLeaf())), mmrerr.Role)
	bob.g = before
	_, add, err := bob.g.Propose(mls.AddProposal(w.keyPackage(w.identity(leafSpec{}), false).Public()), member.SendOptions{AAD: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	w.wantCode(send(bob, add), mmrerr.ProposalType)
	leave := propose(bob, bob.g.OwnLeaf())
	w.wantCode(send(bob, flipAt(leave, len(leave)-100)), mmrerr.Signature)
	w.wantCode(send(alice, leave), mmrerr.WireFormat) // not hers
	if err := send(bob, leave); err != nil {
		t.Fatal(err)
	}
	rows := len(w.sentTo("a.example", 2)) // her confirmation of the Add, and the proposal
	if err := send(bob, leave); err == nil {
		t.Error("a leaving leaf does something more")
	}
	for name, err := range map[string]error{
		"submit":   func() error { _, err := bob.submit([]byte{1}); return err }(),
		"catch up": func() error { _, err := bob.catchUp(1); return err }(),
		"commit": func() error {
			_, err := do(w, bob.call(seal.MethodUpdate), &hubv1.UpdateRequest{Commit: []byte{1}}, new(hubv1.UpdateResponse))
			return err
		}(),
		"GroupInfo": func() error {
			_, err := do(w, bob.call(seal.MethodGroupInfo), &hubv1.GroupInfoRequest{}, new(hubv1.GroupInfoResponse))
			return err
		}(),
		"JoinState": func() error {
			c := bob.call(seal.MethodJoinState)
			c.kind, c.leaf = seal.AuthNewLeaf, 0
			_, err := do(w, c, &hubv1.JoinStateRequest{Epoch: 1, SignatureKey: bob.signer.Public()}, new(hubv1.JoinStateResponse))
			return err
		}(),
	} {
		if got, _ := mmrerr.Of(err); err == nil || got != mmrerr.Leaving {
			t.Errorf("a leaving leaf's %s: %v", name, err)
		}
	}
	unaware := alice.stage(commit{})
	_, err = do(w, unaware.call, unaware.req, new(hubv1.UpdateResponse))
	w.wantCode(err, mmrerr.LeaveMissing)
	if !bytes.Contains(mmrerr.Detail(err), leave) {
		t.Errorf("the refusal brings %d bytes, not the proposal", len(mmrerr.Detail(err)))
	}
	alice.process(leave)
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatalf("with the cached Remove: %v", err)
	}
	if n := alice.g.Public().Len(); n != 1 {
		t.Errorf("%d leaves after the leave", n)
	}
	if got := len(w.sentTo("a.example", rows+1)); got != rows+1 { // alice's own confirmation
		t.Errorf("%d rows", got)
	}
	w.sentTo("b.example", 1) // nothing after the Welcome reached the leaver
}

// TestManyLargeEnvelopes: what one event makes for all members is more than one
// record of a store holds.
func TestManyLargeEnvelopes(t *testing.T) {
	w := newWorld(t)
	alice := w.room(func(p *pseudonym.Room) { p.Limits.MaxLeavesPerUser = 10 })
	const users, devices = 4, 9
	n := 0
	for range users {
		user := w.id("b.example", pseudonym.User)
		first, err := alice.tryAdd(w.identity(leafSpec{user: user}), commit{})
		if err != nil {
			t.Fatal(err)
		}
		n++
		for range devices - 1 {
			s, err := first.commit(first.addOf(w.identity(leafSpec{user: user})))
			if err != nil {
				t.Fatal(err)
			}
			alice.process(s.req.GetCommit())
			n++
		}
	}
	w.settled(alice.groupID())
	had := w.inOutbox("b.example")
	if _, err := alice.submit(alice.message(string(make([]byte, 250_000)))); err != nil {
		t.Fatalf("%d envelopes of half a megabyte: %v", n, err)
	}
	w.settled(alice.groupID())
	rows := w.sentTo("b.example", had+n)
	lanes := make(map[string]bool)
	for _, r := range rows[had:] {
		lanes[r.Lane] = true
	}
	if len(lanes) != n {
		t.Errorf("%d leaves were reached, of %d", len(lanes), n)
	}
}

// addOf is a commit that adds one leaf.
func (p *party) addOf(id *identity) commit {
	return commit{adds: []*member.KeyPackage{p.w.keyPackage(id, false)}, linkKeys: []*identity{id}}
}
