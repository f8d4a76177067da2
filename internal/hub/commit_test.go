package hub_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// realName replaces the user pseudonym's UUID by a name of the same length.
func realName(body []byte) []byte {
	i := bytes.Index(body, []byte("/u/"))
	out := slices.Clone(body)
	copy(out[i+3:], "alice-has-a-real-name-and-it-is-long")
	return out
}

// refusals runs commits that must be refused without a trace.
type refusals struct {
	w *world
	p *party
}

func (r refusals) run(t *testing.T, name string, want mmrerr.Code, c commit) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		before, g := r.w.dump(), r.p.g
		_, err := r.p.commit(c)
		if got, _ := mmrerr.Of(err); err == nil || got != want {
			t.Errorf("error %v, want %s", err, want)
		}
		r.w.unchanged(before)
		r.p.g = g
	})
}

func (r refusals) add(t *testing.T, name string, want mmrerr.Code, id *identity) {
	t.Helper()
	r.run(t, name, want, commit{adds: []*member.KeyPackage{r.w.keyPackage(id, false)}, linkKeys: []*identity{id}})
}

// TestCommitSteps: SPEC.md R-121 step by step, one refusal for each reason.
func TestCommitSteps(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	r := refusals{w, alice}
	newcomer := func() *identity { return w.identity(leafSpec{user: w.id("b.example", pseudonym.User)}) }
	add := func(f func(*commit)) commit {
		id := newcomer()
		c := commit{adds: []*member.KeyPackage{w.keyPackage(id, false)}, linkKeys: []*identity{id}}
		f(&c)
		return c
	}
	stranger, elsewhere := newcomer(), w.room()

	// Step 2.
	r.run(t, "unknown room", mmrerr.NoRoom, commit{call: func(c *call) { c.groupID = member.RandomGroupID() }})
	r.run(t, "foreign key", mmrerr.NoRoom, commit{call: func(c *call) { c.signer = stranger.key(t) }})
	r.run(t, "another's leaf", mmrerr.NoRoom, commit{call: func(c *call) { c.leaf = uint32(bob.g.OwnLeaf()) }})
	r.run(t, "a key where there is none", mmrerr.NoRoom, commit{call: func(c *call) { c.ear = primitive.NewSecret() }})
	// Step 5.
	r.run(t, "PrivateMessage", mmrerr.WireFormat, commit{options: func(o *member.CommitOptions) { o.Private = true }})
	r.run(t, "garbage", mmrerr.WireFormat, commit{request: func(m *hubv1.UpdateRequest) { m.Commit = []byte{1, 2, 3} }})
	r.run(t, "trailing byte", mmrerr.WireFormat, commit{request: func(m *hubv1.UpdateRequest) { m.Commit = append(m.Commit, 0) }})
	r.run(t, "another member's commit", mmrerr.WireFormat, commit{request: func(m *hubv1.UpdateRequest) { m.Commit = bob.stage(commit{}).req.Commit }})
	r.run(t, "another room's commit", mmrerr.WireFormat, commit{request: func(m *hubv1.UpdateRequest) { m.Commit = elsewhere.stage(commit{}).req.Commit }})
	// Step 7: any byte of the commit that is signed, here of the path's last ciphertext.
	r.run(t, "forged", mmrerr.Signature, commit{request: func(m *hubv1.UpdateRequest) {
		m.Commit = flipAt(m.Commit, len(m.Commit)-150) // before signature and tags, 132 bytes
	}})
	// Step 8.
	aad := func(items ...pseudonym.AADItem) func(pseudonym.AAD) []byte {
		return func(pseudonym.AAD) []byte {
			b, err := pseudonym.AAD(items).AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	r.run(t, "no aad", mmrerr.AAD, commit{aad: func(pseudonym.AAD) []byte { return nil }})
	r.run(t, "garbage aad", mmrerr.AAD, commit{aad: func(pseudonym.AAD) []byte { return []byte{3, 1, 2} }})
	r.run(t, "unknown item", mmrerr.AAD, commit{aad: func(pseudonym.AAD) []byte { return []byte{3, 0x12, 0x34, 0} }})
	r.run(t, "frank in a commit", mmrerr.AAD, commit{aad: aad(pseudonym.AADItem{Type: pseudonym.AADFrank, Data: make([]byte, 32)})})
	r.run(t, "add_aad without Add", mmrerr.AAD, commit{aad: aad(pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: []byte{0}})})
	r.run(t, "Add without add_aad", mmrerr.AAD, add(func(c *commit) { c.aad = aad() }))
	// Step 9.
	psk, err := member.ResumptionPSKProposal(suite, alice.g.Public().GroupID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r.run(t, "PreSharedKey", mmrerr.ProposalType, commit{proposals: []*mls.ProposalBody{psk}})
	r.run(t, "ReInit", mmrerr.ProposalType, commit{proposals: []*mls.ProposalBody{mls.ReInitProposal(mls.ReInit{GroupID: member.RandomGroupID(), Version: 1, Suite: suite})}, samePath: true})
	forge := func(by *party, o mlstest.Forgery) commit {
		if o.AAD == nil {
			o.AAD = []byte{0}
		}
		return commit{request: func(m *hubv1.UpdateRequest) { m.Commit = by.lawless().Commit(o) }}
	}
	remove := mls.RemoveProposal
	r.run(t, "blank leaf removed", mmrerr.ProposalList, forge(alice, mlstest.Forgery{List: list(mlstest.ByValue(remove(700)))}))
	r.run(t, "one leaf removed twice", mmrerr.ProposalList, forge(alice, mlstest.Forgery{List: list(mlstest.ByValue(remove(1)), mlstest.ByValue(remove(1)))}))
	r.run(t, "committer removed", mmrerr.ProposalList, forge(alice, mlstest.Forgery{List: list(mlstest.ByValue(remove(0)))}))
	r.run(t, "unknown reference", mmrerr.ProposalList, forge(alice, mlstest.Forgery{List: list(mlstest.ByRef(&mls.Proposal{Ref: make([]byte, 32)}))}))
	// Step 12.
	r.run(t, "Remove without path", mmrerr.Tree, forge(alice, mlstest.Forgery{NoPath: true, List: list(mlstest.ByValue(remove(1)))}))
	r.run(t, "a key of the tree in the path", mmrerr.Tree, forge(alice, mlstest.Forgery{Keys: func(publics [][]byte) {
		publics[len(publics)-1] = alice.g.Public().Leaf(1).EncryptionKey
	}}))
	// Step 15 and 16.
	r.run(t, "no GroupInfo", mmrerr.GroupInfo, commit{request: func(m *hubv1.UpdateRequest) { m.GroupInfo = nil }})
	r.run(t, "forged GroupInfo", mmrerr.GroupInfo, commit{request: func(m *hubv1.UpdateRequest) { m.GroupInfo = flip(m.GroupInfo) }})
	r.run(t, "GroupInfo without external_pub", mmrerr.GroupInfo, commit{info: member.GroupInfoOptions{WithoutExternalPub: true}})
	r.run(t, "GroupInfo with a stranger's extension", mmrerr.GroupInfo, commit{info: member.GroupInfoOptions{Extensions: []mls.Extension{{Type: 0xF0A6, Data: []byte{1}}}}})
	wrapper := mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionIdentityLinkWrapper), Data: pseudonym.AppendWrapperKey(nil, alice.wrapper)}
	r.run(t, "GroupInfo with the wrapper key", mmrerr.WrapperKeyLeak, commit{info: member.GroupInfoOptions{Extensions: []mls.Extension{wrapper}}})
	r.run(t, "another commit's GroupInfo", mmrerr.GroupInfo, commit{request: func(m *hubv1.UpdateRequest) { m.GroupInfo = alice.stage(commit{}).req.GroupInfo }})
	r.run(t, "another member's GroupInfo", mmrerr.GroupInfo, commit{request: func(m *hubv1.UpdateRequest) { m.GroupInfo = bob.stage(commit{}).req.GroupInfo }})
	r.run(t, "no D", mmrerr.Malformed, commit{request: func(m *hubv1.UpdateRequest) { m.DeliverySecret = nil }})
	r.run(t, "short D", mmrerr.Malformed, commit{request: func(m *hubv1.UpdateRequest) { m.DeliverySecret = m.DeliverySecret[1:] }})
	r.run(t, "key at rest", mmrerr.EARKey, commit{request: func(m *hubv1.UpdateRequest) { m.NextEarKey = make([]byte, 32) }})
	// Step 14.
	r.run(t, "Welcome without Add", mmrerr.Welcome, commit{request: func(m *hubv1.UpdateRequest) { m.Welcome = alice.stage(add(func(*commit) {})).req.Welcome }})
	r.run(t, "Add without Welcome", mmrerr.Welcome, add(func(c *commit) { c.request = func(m *hubv1.UpdateRequest) { m.Welcome = nil } }))
	r.run(t, "garbage Welcome", mmrerr.Welcome, add(func(c *commit) { c.request = func(m *hubv1.UpdateRequest) { m.Welcome = m.Welcome[:40] } }))
	r.run(t, "another's Welcome", mmrerr.Welcome, add(func(c *commit) {
		c.request = func(m *hubv1.UpdateRequest) { m.Welcome = alice.stage(add(func(*commit) {})).req.Welcome }
	}))
	// Step 13.
	r.run(t, "no entry", mmrerr.LinkKeysCount, add(func(c *commit) { c.aad = aad(pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: []byte{0}}) }))
	r.run(t, "two entries", mmrerr.LinkKeysCount, add(func(c *commit) { c.entries = pseudonym.AddAAD{make([]byte, 60), make([]byte, 60)} }))
	r.run(t, "absent entry", mmrerr.LinkKeyMissing, add(func(c *commit) { c.entries = pseudonym.AddAAD{nil} }))
	r.run(t, "long entry", mmrerr.LinkKeyLength, add(func(c *commit) { c.entries = pseudonym.AddAAD{make([]byte, 61)} }))
	// Step 6: last, because it needs another epoch.
	old := alice.stage(commit{})
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	_, err = do(w, old.call, old.req, new(hubv1.UpdateResponse))
	w.wantCode(err, mmrerr.WrongEpoch)
	if d := mmrerr.Detail(err); len(d) != 8 || binary.BigEndian.Uint64(d) != alice.g.Epoch() {
		t.Errorf("detail %x of mmr/wrong-epoch is not the current epoch", d)
	}
}

// TestAddedLeaf: SPEC.md R-3 for leaves that a commit adds.
func TestAddedLeaf(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	r := refusals{w, alice}
	user := func() pseudonym.ID { return w.id("b.example", pseudonym.User) }
	r.add(t, "basic credential", mmrerr.CredentialType, w.identity(leafSpec{user: user(), kind: mls.CredentialBasic}))
	r.add(t, "credential that does not parse", mmrerr.CredentialType, w.identity(leafSpec{user: user(), body: func(b []byte) []byte { return b[:len(b)-1] }}))
	r.add(t, "real name", mmrerr.PseudonymShape, w.identity(leafSpec{user: user(), body: realName}))
	r.add(t, "another key in the credential", mmrerr.KeyMismatch, w.identity(leafSpec{user: user(), tbsKey: w.identity(leafSpec{}).signer.Public()}))
	r.add(t, "no delivery extension", mmrerr.QueueMissing, w.identity(leafSpec{user: user(), noDelivery: true}))
	r.add(t, "garbage delivery extension", mmrerr.QueueMissing, w.identity(leafSpec{user: user(), delivery: []byte{1, 2, 3}}))
	r.add(t, "queue of another provider", mmrerr.QueueDomain, w.identity(leafSpec{user: user(), domain: "a.example"}))
	r.add(t, "client of another provider", mmrerr.QueueDomain, w.identity(leafSpec{user: user(), client: w.id("a.example", pseudonym.Client)}))
	r.add(t, "queue key nobody published", mmrerr.QueueDomain, w.identity(leafSpec{user: user(), keyID: 9}))
	r.add(t, "provider nobody configured", mmrerr.QueueDomain, w.identity(leafSpec{user: w.id("c.example", pseudonym.User)}))
	r.add(t, "ciphertext of another length", mmrerr.LinkCiphertextLength, w.identity(leafSpec{user: user(), body: longerCiphertext}))
	r.add(t, "other capabilities", mmrerr.Uniformity, w.identity(leafSpec{user: user(), caps: func(c *mls.Capabilities) { c.Extensions = append(c.Extensions, 0xF0FF) }}))
	r.add(t, "GREASE", mmrerr.Uniformity, w.identity(leafSpec{user: user(), caps: func(c *mls.Capabilities) { c.Proposals = append(c.Proposals, 0x0A0A) }}))
	r.add(t, "further leaf extension", mmrerr.Uniformity, w.identity(leafSpec{user: user(), extensions: []mls.Extension{{Type: 0xF0A7, Data: []byte{}}}}))
	r.add(t, "client pseudonym of a member", mmrerr.PseudonymReused, w.identity(leafSpec{user: user(), client: bob.tbs.Client}))
	r.add(t, "delivery of a member", mmrerr.PseudonymReused, w.identity(leafSpec{user: user(), delivery: deliveryOf(t, bob)}))
	r.add(t, "user of another member", mmrerr.ParticipantMismatch, w.identity(leafSpec{user: bob.tbs.User}))
	other := refusals{w, bob}
	other.add(t, "the admin's pseudonym, added by a member", mmrerr.ParticipantMismatch, w.identity(leafSpec{user: alice.tbs.User}))
	{
		id := w.identity(leafSpec{user: user()})
		kp, err := member.NewKeyPackage(id.Identity, member.KeyPackageOptions{Lifetime: mls.Lifetime{NotBefore: uint64(time.Now().Unix()), NotAfter: uint64(time.Now().Add(24 * time.Hour).Unix())}})
		if err != nil {
			t.Fatal(err)
		}
		r.run(t, "another lifetime", mmrerr.Uniformity, commit{adds: []*member.KeyPackage{kp}, linkKeys: []*identity{id}})
	}
}

func deliveryOf(t *testing.T, p *party) []byte {
	t.Helper()
	l := p.g.Public().Leaf(p.g.OwnLeaf())
	data, ok := mls.FindExtension(l.Extensions, mls.ExtensionType(pseudonym.ExtensionDelivery))
	if !ok {
		t.Fatal("no delivery")
	}
	return data
}

// longerCiphertext makes the identity link ciphertext, the last field, a byte longer.
func longerCiphertext(body []byte) []byte {
	c, err := pseudonym.ParseCredential(pseudonym.CredentialPseudonymous, body)
	if err != nil {
		panic(err)
	}
	n := len(c.Ciphertext)
	out := slices.Clone(body[:len(body)-n-2])
	out = append(out, 0x40|byte((n+1)>>8), byte(n+1))
	return append(append(out, c.Ciphertext...), 0)
}

// TestRoles: SPEC.md at the hub.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	alice := w.room(func(p *pseudonym.Room) { p.Limits.AddMinRole = pseudonym.Moderator })
	bob := alice.add("b.example")
	s, err := alice.tryCarol(t)
	if err != nil {
		t.Fatal(err)
	}
	carol := s.carol
	bob.process(s.commit)
	r, admin := refusals{w, bob}, refusals{w, alice}
	id := w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
	r.add(t, "a member adds", mmrerr.Role, id)
	remove := func(p *party) []*mls.ProposalBody { return []*mls.ProposalBody{mls.RemoveProposal(p.g.OwnLeaf())} }
	r.run(t, "a member removes a member", mmrerr.Role, commit{proposals: remove(carol)})
	r.run(t, "a member removes the admin", mmrerr.Role, commit{proposals: remove(alice)})
	policy := func(p *party, f func(*pseudonym.Room)) commit {
		data, _ := p.g.Public().Extension(mls.ExtensionType(pseudonym.ExtensionRoom))
		room, err := pseudonym.ParseRoom(data)
		if err != nil {
			t.Fatal(err)
		}
		f(room)
		es := slices.Clone(p.g.Public().Context().Extensions)
		if es[2].Data, err = room.AppendBinary(nil); err != nil {
			t.Fatal(err)
		}
		return commit{proposals: []*mls.ProposalBody{mls.ExtensionsProposal(es)}}
	}
	entry := func(p *party, role pseudonym.Role) func(*pseudonym.Room) {
		return func(m *pseudonym.Room) {
			m.Roles = append(m.Roles, pseudonym.RoleEntry{User: p.tbs.User, Role: role})
			slices.SortFunc(m.Roles, func(a, b pseudonym.RoleEntry) int {
				return bytes.Compare([]byte(a.User.String()), []byte(b.User.String()))
			})
		}
	}
	r.run(t, "a member makes itself admin", mmrerr.Role, policy(bob, entry(bob, pseudonym.Admin)))
	r.run(t, "a member changes the join rule", mmrerr.Role, policy(bob, func(m *pseudonym.Room) { m.JoinRule = pseudonym.JoinByInvite }))
	r.run(t, "a member adds a link", mmrerr.Role, policy(bob, func(m *pseudonym.Room) {
		m.Links = []pseudonym.RoomLink{pseudonym.NewRoomLink([16]byte{1}, primitive.NewSecret(), bob.g.Public().GroupID(), 1<<40)}
	}))
	admin.run(t, "the admin changes the scheme", mmrerr.PolicyChange, policy(alice, func(m *pseudonym.Room) { m.Scheme = pseudonym.SchemeTree }))
	admin.run(t, "the admin changes the requirement", mmrerr.PolicyChange, policy(alice, func(m *pseudonym.Room) { m.Requirement = pseudonym.RequireNone }))
	admin.run(t, "nobody is admin", mmrerr.PolicyChange, policy(alice, func(m *pseudonym.Room) { m.Roles = nil }))
	admin.run(t, "a role for nobody", mmrerr.PolicyChange, policy(alice, func(m *pseudonym.Room) {
		m.Roles = append(m.Roles, pseudonym.RoleEntry{User: w.id("zz.example", pseudonym.User), Role: pseudonym.Moderator})
	}))
	es := slices.Clone(alice.g.Public().Context().Extensions)
	admin.run(t, "an extension less", mmrerr.PolicyChange, commit{proposals: []*mls.ProposalBody{mls.ExtensionsProposal(es[1:])}})
	es[0] = (&mls.RequiredCapabilities{Extensions: convert[mls.ExtensionType](pseudonym.RequiredExtensions()), Credentials: []mls.CredentialType{mls.CredentialType(pseudonym.CredentialPseudonymous), mls.CredentialBasic}}).Extension()
	admin.run(t, "other required capabilities", mmrerr.PolicyChange, commit{proposals: []*mls.ProposalBody{mls.ExtensionsProposal(es)}})

	// What roles allow goes through.
	for _, step := range []struct {
		name string
		by   *party
		c    commit
	}{
		{"the admin makes bob moderator", alice, policy(alice, entry(bob, pseudonym.Moderator))},
	} {
		s, err := step.by.commit(step.c)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for _, p := range []*party{alice, bob, carol} {
			if p != step.by {
				p.process(s.req.GetCommit())
			}
		}
	}
	if _, err := bob.commit(commit{proposals: remove(alice)}); err == nil {
		t.Fatal("a moderator removed the admin")
	}
	gone, err := bob.commit(commit{proposals: remove(carol)})
	if err != nil {
		t.Fatalf("a moderator removes a member: %v", err)
	}
	alice.process(gone.req.GetCommit())

	// Burned: nothing of carol comes back (SPEC.md R-112).
	admin.add(t, "burned user pseudonym", mmrerr.PseudonymReused, w.identity(leafSpec{user: carol.tbs.User}))
	admin.add(t, "burned client pseudonym", mmrerr.PseudonymReused, w.identity(leafSpec{user: w.id("b.example", pseudonym.User), client: carol.tbs.Client}))
	admin.add(t, "burned key", mmrerr.PseudonymReused, w.identity(leafSpec{user: w.id("b.example", pseudonym.User), signer: carol.signer}))
	if _, err := carol.catchUp(1); err == nil {
		t.Error("a removed leaf catches up")
	}
}

type carolAdded struct {
	carol  *party
	commit []byte
}

func (p *party) tryCarol(t *testing.T) (*carolAdded, error) {
	t.Helper()
	id := p.w.identity(leafSpec{user: p.w.id("b.example", pseudonym.User)})
	kp := p.w.keyPackage(id, false)
	s, err := p.commit(commit{adds: []*member.KeyPackage{kp}, linkKeys: []*identity{id}})
	if err != nil {
		return nil, err
	}
	return &carolAdded{p.welcome(s, id, kp), s.req.GetCommit()}, nil
}

// TestLimits: SPEC.md R-116 and the rate limits.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	alice := w.room(func(p *pseudonym.Room) { p.Limits.MaxLeaves, p.Limits.MaxLeavesPerUser = 3, 2 })
	r := refusals{w, alice}
	if _, err := alice.tryAdd(w.identity(leafSpec{user: alice.tbs.User}), commit{}); err != nil {
		t.Fatal(err)
	}
	r.add(t, "third leaf of a user", mmrerr.Limit, w.identity(leafSpec{user: alice.tbs.User}))
	alice.add("b.example")
	r.add(t, "fourth leaf of the room", mmrerr.Limit, w.identity(leafSpec{user: w.id("b.example", pseudonym.User)}))
}

// TestRates: a leaf that asks too often, and commits too often.
func TestRates(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	w.h.Close()
	w.rates.Requests, w.rates.Commits = 20, 3
	w.start()
	var err error
	for range 3 {
		if _, err = alice.commit(commit{}); err != nil {
			t.Fatal(err)
		}
	}
	refusals{w, alice}.run(t, "fourth commit", mmrerr.RateLimited, commit{})
	for range 16 {
		if _, err = alice.submit(alice.message("x")); err != nil {
			t.Fatal(err)
		}
	}
	_, err = alice.submit(alice.message("x"))
	w.wantCode(err, mmrerr.RateLimited)
	_, err = alice.catchUp(1)
	w.wantCode(err, mmrerr.RateLimited)
}

// TestRepeat: the same bytes are answered again and fanned out once, also by a
// hub that was restarted.
func TestRepeat(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	alice.add("b.example")
	rows := len(w.sentTo("b.example", 1))
	s, err := alice.commit(commit{})
	if err != nil {
		t.Fatal(err)
	}
	m := alice.message("hello")
	first, err := alice.submit(m)
	if err != nil {
		t.Fatal(err)
	}
	rows += 2
	w.sentTo("b.example", rows)
	before := w.dump()
	for restart := range 2 {
		res, err := do(w, s.call, s.req, new(hubv1.UpdateResponse))
		if err != nil || res.GetAccepted().GetSeq() != s.res.GetAccepted().GetSeq() || !bytes.Equal(res.GetAccepted().GetReceipt(), s.res.GetAccepted().GetReceipt()) {
			t.Errorf("repeated commit: %v, %v", res, err)
		}
		again, err := alice.submit(m)
		if err != nil || again.GetAccepted().GetSeq() != first.GetAccepted().GetSeq() {
			t.Errorf("repeated message: %v, %v", again, err)
		}
		// A message is no commit because it was accepted once, nor the reverse.
		_, err = do(w, s.call, &hubv1.UpdateRequest{Commit: m}, new(hubv1.UpdateResponse))
		w.wantCode(err, mmrerr.WireFormat)
		_, err = alice.submit(s.req.GetCommit())
		w.wantCode(err, mmrerr.WireFormat)
		if restart == 0 {
			w.h.Close()
			w.start()
		}
	}
	time.Sleep(50 * time.Millisecond) // what should not be sent would be on its way
	w.sentTo("b.example", rows)
	w.unchanged(before)
}

// TestConnectionRoomMembers: nobody can be added to a connection room but
// further devices of its users (SPEC.md R-37).
func TestConnectionRoomMembers(t *testing.T) {
	w := newWorld(t)
	alice := w.room(func(p *pseudonym.Room) { p.JoinRule = pseudonym.JoinByConnection })
	r := refusals{w, alice}
	r.add(t, "a third person", mmrerr.NotConnectionRoom, w.identity(leafSpec{user: w.id("b.example", pseudonym.User)}))
	if _, err := alice.tryAdd(w.identity(leafSpec{user: alice.tbs.User}), commit{}); err != nil {
		t.Errorf("own device: %v", err)
	}
}
