package hub_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func tree(p *pseudonym.Room) { p.Scheme = pseudonym.SchemeTree }

func requirement(r pseudonym.LinkKeyRequirement) func(*pseudonym.Room) {
	return func(p *pseudonym.Room) { p.Requirement = r }
}

// newLeaf is the leaf of a member with another credential (SPEC.md R-9).
func (w *world) newLeaf(p *party) *member.LeafOptions {
	w.t.Helper()
	next := w.identity(leafSpec{user: p.tbs.User})
	return &member.LeafOptions{Credential: &next.Credential, Signer: next.signer, Extensions: []mls.Extension{next.ext}}
}

func (p *party) withLink(id byte) *mls.ProposalBody {
	p.w.t.Helper()
	room := roomOf(p.w.t, p.g.Public())
	room.Links = append(room.Links, pseudonym.NewRoomLink([16]byte{id}, primitive.NewSecret(), p.g.Public().GroupID(), uint64(time.Now().Add(time.Hour).Unix())))
	return mls.ExtensionsProposal(p.w.extensions(room))
}

func (p *party) wrapState() *hubv1.WrapStateResponse {
	p.w.t.Helper()
	res, err := do(p.w, p.call(seal.MethodWrapState), &hubv1.WrapStateRequest{}, new(hubv1.WrapStateResponse))
	if err != nil {
		p.w.t.Fatal(err)
	}
	return res
}

// sameState compares the hub's tree with a member's.
func (p *party) sameState() {
	p.w.t.Helper()
	want, err := p.view.State().AppendBinary(nil)
	if err != nil {
		p.w.t.Fatal(err)
	}
	res := p.wrapState()
	if !bytes.Equal(res.GetWrapState(), want) {
		p.w.t.Error("the hub's link key tree is not the member's")
	}
	if res.GetEpoch() != p.g.Epoch() {
		p.w.t.Errorf("epoch %d, the member's is %d", res.GetEpoch(), p.g.Epoch())
	}
}

// TestTreeWrap: the hub keeps the link key tree that members write, and gives
// it to those who need it (SPEC.md ).
func TestTreeWrap(t *testing.T) {
	w := newWorld(t)
	alice := w.room(tree)
	alice.sameState()
	bob := alice.add("b.example")
	epoch := alice.g.Epoch()
	first := alice.view.State()
	alice.sameState()
	s, err := alice.commit(commit{tree: treeWrite{refresh: []uint32{0}}})
	if err != nil {
		t.Fatal(err)
	}
	bob.follow(s)
	bob.sameState()
	s, err = bob.commit(commit{tree: treeWrite{none: true}}) // leaves the tree behind
	if err != nil {
		t.Fatal(err)
	}
	alice.follow(s)
	alice.sameState()
	es, err := alice.catchUp(1)
	if err != nil || len(es) != 3 {
		t.Fatalf("%d events, %v", len(es), err)
	}
	for i, e := range es {
		c, ok := e.Body.(*seal.CommitEvent)
		if !ok || (c.Delta != nil) != (i < 2) {
			t.Errorf("event %d is a %T, with a delta: %v", i+1, e.Body, ok && c.Delta != nil)
		}
	}
	// The joiner's snapshot is of its epoch, whatever came later.
	c := bob.call(seal.MethodJoinState)
	c.kind, c.leaf = seal.AuthNewLeaf, 0
	res, err := do(w, c, &hubv1.JoinStateRequest{Epoch: epoch, SignatureKey: bob.signer.Public()}, new(hubv1.JoinStateResponse))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := first.AppendBinary(nil)
	if !bytes.Equal(res.GetWrapState(), want) || len(res.GetLinkEntries()) != 0 {
		t.Error("the joiner gets another tree than that of its epoch")
	}
	info, err := do(w, alice.call(seal.MethodGroupInfo), &hubv1.GroupInfoRequest{}, new(hubv1.GroupInfoResponse))
	if err != nil || !bytes.Equal(info.GetWrapState(), alice.wrapState().GetWrapState()) {
		t.Errorf("GroupInfo brings another tree, %v", err)
	}
	// Who leaves, leaves the tree.
	if _, err := alice.commit(commit{proposals: removal(1)}); err != nil {
		t.Fatal(err)
	}
	alice.sameState()
	if got := alice.view.State().Occupied(); len(got) != 1 {
		t.Errorf("leaves %v have a link key", got)
	}
}

// TestTreeSteps: SPEC.md, and that step 13 comes before 14 and 15.
func TestTreeSteps(t *testing.T) {
	w := newWorld(t)
	alice := w.room(tree)
	alice.add("b.example")
	r := refusals{w, alice}
	add := func(f func(*commit)) commit {
		id := w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
		c := commit{adds: []*member.KeyPackage{w.keyPackage(id, false)}, linkKeys: []*identity{id}}
		f(&c)
		return c
	}
	change := func(f func(*treewrap.Delta)) commit { return commit{tree: treeWrite{change: f}} }
	without := treeWrite{none: true}
	r.run(t, "Add without delta", mmrerr.WrapMissing, add(func(c *commit) { c.tree = without }))
	r.run(t, "new credential without delta", mmrerr.WrapMissing, commit{leaf: w.newLeaf(alice), tree: without})
	r.run(t, "new link without delta", mmrerr.WrapMissing, commit{proposals: []*mls.ProposalBody{alice.withLink(1)}, tree: without})
	r.run(t, "added leaf unresolved", mmrerr.LinkKeyMissing, add(func(c *commit) { c.tree.lacks = []uint32{2} }))
	r.run(t, "own new credential unresolved", mmrerr.LinkKeyMissing, commit{leaf: w.newLeaf(alice), tree: treeWrite{lacks: []uint32{0}}})
	r.run(t, "another base", mmrerr.WrapStale, change(func(d *treewrap.Delta) { d.BaseID[3] ^= 1 }))
	r.run(t, "another epoch", mmrerr.WrapStale, change(func(d *treewrap.Delta) { d.Epoch-- }))
	r.run(t, "no nodes", mmrerr.WrapStructure, change(func(d *treewrap.Delta) { d.Nodes = nil }))
	r.run(t, "a node too many", mmrerr.WrapStructure, change(func(d *treewrap.Delta) {
		d.Nodes = append(d.Nodes, treewrap.Node{Index: 14, Epoch: d.Epoch, Ciphertext: make([]byte, 48)})
	}))
	r.run(t, "a node without its parent", mmrerr.WrapStructure, add(func(c *commit) {
		c.tree.change = func(d *treewrap.Delta) { d.Nodes = d.Nodes[1:] }
	}))
	r.run(t, "a node of another epoch", mmrerr.WrapStructure, change(func(d *treewrap.Delta) { d.Nodes[0].Epoch++ }))
	r.run(t, "something gone", mmrerr.WrapStructure, change(func(d *treewrap.Delta) { d.Gone = []uint32{0} }))
	r.run(t, "a known leaf unresolved", mmrerr.WrapStructure, change(func(d *treewrap.Delta) { d.Unresolved = []uint32{0} }))
	r.run(t, "a link that is none", mmrerr.WrapStructure, change(func(d *treewrap.Delta) {
		key, err := primitive.GenerateKEMKey(primitive.X25519)
		if err != nil {
			t.Fatal(err)
		}
		ct, err := key.Public().SealWithLabel("x", nil, make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		d.Links = []treewrap.LinkTop{{TopKey: ct}}
	}))
	r.run(t, "no top for the new link", mmrerr.WrapStructure, commit{proposals: []*mls.ProposalBody{alice.withLink(1)}, tree: treeWrite{change: func(d *treewrap.Delta) { d.Links = nil }}})
	r.run(t, "nodes out of order", mmrerr.Malformed, add(func(c *commit) {
		c.tree.change = func(d *treewrap.Delta) { d.Nodes[0], d.Nodes[1] = d.Nodes[1], d.Nodes[0] }
	}))
	r.run(t, "garbage", mmrerr.Malformed, commit{tree: without, info: member.GroupInfoOptions{Extensions: []mls.Extension{{Type: 0xF0A6, Data: []byte{1}}}}})
	r.run(t, "before the Welcome", mmrerr.WrapMissing, add(func(c *commit) {
		c.tree, c.request = without, func(m *hubv1.UpdateRequest) { m.Welcome = nil }
	}))
	r.run(t, "before the GroupInfo", mmrerr.WrapStale, commit{
		info: member.GroupInfoOptions{WithoutExternalPub: true}, tree: treeWrite{change: func(d *treewrap.Delta) { d.BaseID[0] ^= 1 }},
	})
	r.run(t, "no GroupInfo", mmrerr.GroupInfo, commit{tree: without, request: func(m *hubv1.UpdateRequest) { m.GroupInfo = nil }})
	r.run(t, "static entries", mmrerr.AAD, add(func(c *commit) { c.entries = pseudonym.AddAAD{make([]byte, 60)} }))
	// All of these work when they are right.
	for name, c := range map[string]commit{
		"Add": add(func(*commit) {}), "new credential": {leaf: w.newLeaf(alice)}, "new link": {proposals: []*mls.ProposalBody{alice.withLink(1)}}, "without delta": {tree: without},
	} {
		if _, err := alice.commit(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "new credential" {
			alice.signer = c.leaf.Signer.(*member.SigningKey)
			alice.tbs.Key = alice.signer.Public()
		}
	}
	alice.sameState()
}

// TestTreeStale: of two writers of one state the second loses, and sends the
// same commit with another GroupInfo (SPEC.md R-95).
func TestTreeStale(t *testing.T) {
	w := newWorld(t)
	alice := w.room(tree)
	bob := alice.add("b.example")
	s := alice.stage(commit{})
	d, view := w.write(bob.view, treeWrite{full: true, policy: roomOf(t, bob.g.Public())}, bob.g.Public(), bob.g.Export, nil)
	if err := bob.refresh(d); err != nil {
		t.Fatal(err)
	}
	bob.view = view
	before := w.dump()
	_, err := do(w, s.call, s.req, new(hubv1.UpdateResponse))
	w.wantCode(err, mmrerr.WrapStale)
	w.unchanged(before)
	alice.apply(d)
	again := proto.CloneOf(s.req)
	delta, next := w.write(alice.view, treeWrite{policy: roomOf(t, s.staged.Public())}, s.staged.Public(), s.staged.Export, nil)
	if again.GroupInfo, err = s.staged.GroupInfo(member.GroupInfoOptions{WithoutTree: true, Extensions: []mls.Extension{deltaExtension(t, delta, nil)}}); err != nil {
		t.Fatal(err)
	}
	if _, err = do(w, s.call, again, new(hubv1.UpdateResponse)); err != nil {
		t.Fatalf("the same commit with a new GroupInfo: %v", err)
	}
	s.view = next
	alice.adopt(s)
	alice.sameState()
}

func (p *party) refresh(d *treewrap.Delta) error {
	p.w.t.Helper()
	_, err := do(p.w, p.call(seal.MethodWrapRefresh), &hubv1.WrapRefreshRequest{Delta: deltaBytes(p.w.t, d)}, new(hubv1.WrapRefreshResponse))
	return err
}

// TestWrapRefresh: SPEC.md R-98.
func TestWrapRefresh(t *testing.T) {
	w := newWorld(t)
	alice := w.room(tree)
	bob := alice.add("b.example")
	write := func(p *party, o treeWrite) (*treewrap.Delta, *treewrap.View) {
		t.Helper()
		o.policy = roomOf(t, p.g.Public())
		return w.write(p.view, o, p.g.Public(), p.g.Export, nil)
	}
	needless, _ := write(bob, treeWrite{})
	w.wantCode(bob.refresh(needless), mmrerr.WrapStale)
	w.wantCode(bob.refresh(&treewrap.Delta{}), mmrerr.WrapStale)
	_, err := do(w, bob.call(seal.MethodWrapRefresh), &hubv1.WrapRefreshRequest{Delta: []byte{1}}, new(hubv1.WrapRefreshResponse))
	w.wantCode(err, mmrerr.Malformed)
	// The tree is behind: anybody brings it up.
	s, err := alice.commit(commit{tree: treeWrite{none: true}})
	if err != nil {
		t.Fatal(err)
	}
	bob.follow(s)
	d, view := write(bob, treeWrite{})
	had := len(w.sentTo("a.example", 2)) // confirmations of her own commits
	if err := bob.refresh(d); err != nil {
		t.Fatal(err)
	}
	bob.view = view
	bob.sameState()
	if err := bob.refresh(d); err != nil {
		t.Errorf("a repeat: %v", err)
	}
	w.sentTo("a.example", had+1)
	es, err := alice.catchUp(3)
	if err != nil || len(es) != 1 || !bytes.Equal(es[0].Body.(*seal.WrapEvent).Delta, deltaBytes(t, d)) {
		t.Errorf("events %v, %v", es, err)
	}
	alice.apply(d)
	// One full rewrite per leaf and epoch.
	for i, want := range []mmrerr.Code{mmrerr.OK, mmrerr.WrapStale} {
		d, view := write(bob, treeWrite{full: true})
		err := bob.refresh(d)
		w.wantCode(err, want)
		if i == 0 {
			bob.view = view
			alice.apply(d)
		}
	}
	d, view = write(alice, treeWrite{full: true})
	w.wantCode(alice.refresh(d), mmrerr.OK)
	alice.view = view
	bob.apply(d)
	if s, err = alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	bob.follow(s)
	d, view = write(bob, treeWrite{full: true})
	w.wantCode(bob.refresh(d), mmrerr.OK)
	bob.view = view
	bob.sameState()
}

// TestTreeCreation: the delta of SPEC.md R-120.
func TestTreeCreation(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		shape   []func(*pseudonym.Room)
		info    []mls.Extension
		change  func(*treewrap.Delta)
		request func(*hubv1.CreateRoomRequest)
		want    mmrerr.Code
	}{
		"right":            {shape: list(tree)},
		"admins":           {shape: list(tree, requirement(pseudonym.RequireAdmins))},
		"nobody":           {shape: list(tree, requirement(pseudonym.RequireNone))},
		"with a base":      {shape: list(tree), change: func(d *treewrap.Delta) { d.BaseID[0] = 1 }, want: mmrerr.WrapStale},
		"another epoch":    {shape: list(tree), change: func(d *treewrap.Delta) { d.Epoch = 1 }, want: mmrerr.WrapStale},
		"empty":            {shape: list(tree), change: func(d *treewrap.Delta) { d.Nodes = nil }, want: mmrerr.WrapStructure},
		"unresolved":       {shape: list(tree), change: func(d *treewrap.Delta) { d.Nodes, d.Unresolved = nil, []uint32{0} }, want: mmrerr.LinkKeyMissing},
		"nobody and delta": {shape: list(tree, requirement(pseudonym.RequireNone)), info: []mls.Extension{{Type: 0xF0A6, Data: deltaBytes(t, &treewrap.Delta{})}}, want: mmrerr.LinkKeyForbidden},
		"garbage":          {shape: list(tree, requirement(pseudonym.RequireNone)), info: []mls.Extension{{Type: 0xF0A6, Data: []byte{1}}}, want: mmrerr.Malformed},
		"static and delta": {info: []mls.Extension{{Type: 0xF0A6, Data: deltaBytes(t, &treewrap.Delta{})}}, want: mmrerr.GroupInfo},
		"static entry":     {shape: list(tree), request: func(m *hubv1.CreateRoomRequest) { m.LinkEntry = make([]byte, 60) }, want: mmrerr.Malformed},
		"unknown":          {shape: list(tree), info: []mls.Extension{{Type: 0xF0FF, Data: []byte{1}}}, want: mmrerr.GroupInfo},
	} {
		t.Run(name, func(t *testing.T) {
			id := w.identity(leafSpec{})
			policy := policyOf(id.tbs.User)
			for _, f := range c.shape {
				f(policy)
			}
			before := w.dump()
			_, err := w.create(creation{id: id, policy: policy, delta: c.change, info: member.GroupInfoOptions{Extensions: c.info}, request: c.request})
			w.wantCode(err, c.want)
			if c.want != mmrerr.OK {
				w.unchanged(before)
			}
		})
	}
	id := w.identity(leafSpec{})
	policy := policyOf(id.tbs.User)
	tree(policy)
	before := w.dump()
	_, err := w.create(creation{id: id, policy: policy, noDelta: true})
	w.wantCode(err, mmrerr.WrapMissing)
	w.unchanged(before)
}

// TestTreeRequirements: who must and who must not give a link key.
func TestTreeRequirements(t *testing.T) {
	w := newWorld(t)
	alice := w.room(tree, requirement(pseudonym.RequireAdmins))
	alice.add("b.example")
	alice.sameState()
	if got := alice.view.State().Occupied(); len(got) != 1 || got[0] != 0 {
		t.Errorf("in an admins room the leaves %v have a key", got)
	}
	refusals{w, alice}.run(t, "a member's key", mmrerr.WrapStructure, commit{tree: treeWrite{change: func(d *treewrap.Delta) {
		d.Nodes = append(d.Nodes, treewrap.Node{Index: 2, Epoch: d.Epoch, Ciphertext: make([]byte, 48)})
	}}})
	// Promoted, a member's key is due: pending until somebody writes it.
	room := roomOf(t, alice.g.Public())
	for i, n := range alice.g.Public().Members() {
		if i == 1 {
			c, err := pseudonym.ParseCredential(uint16(n.Credential.Type), n.Credential.Body)
			if err != nil {
				t.Fatal(err)
			}
			room.Roles = append(room.Roles, pseudonym.RoleEntry{User: c.User, Role: pseudonym.Moderator})
		}
	}
	slices.SortFunc(room.Roles, func(a, b pseudonym.RoleEntry) int { return strings.Compare(a.User.String(), b.User.String()) })
	promotion := commit{proposals: []*mls.ProposalBody{mls.ExtensionsProposal(w.extensions(room))}, tree: treeWrite{lacks: []uint32{1}}}
	if _, err := alice.commit(promotion); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	alice.sameState()
	if got := alice.view.State().Occupied(); len(got) != 2 {
		t.Errorf("after the promotion the leaves %v have a key", got)
	}

	none := w.room(tree, requirement(pseudonym.RequireNone))
	none.add("b.example")
	refusals{w, none}.run(t, "delta in a room without link keys", mmrerr.LinkKeyForbidden, commit{info: member.GroupInfoOptions{Extensions: []mls.Extension{{Type: 0xF0A6, Data: deltaBytes(t, &treewrap.Delta{})}}}})
	_, err := do(w, none.call(seal.MethodWrapState), &hubv1.WrapStateRequest{}, new(hubv1.WrapStateResponse))
	w.wantCode(err, mmrerr.Malformed)
	w.wantCode(none.refresh(&treewrap.Delta{}), mmrerr.LinkKeyForbidden)

	optional := w.room(tree, requirement(pseudonym.RequireOptional))
	id := w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
	if _, err := optional.tryAdd(id, commit{tree: treeWrite{lacks: []uint32{1}}}); err != nil {
		t.Fatalf("a keyless Add in an optional room: %v", err)
	}
	optional.sameState()
	if got := optional.view.State().Occupied(); len(got) != 1 {
		t.Errorf("the keyless leaf has a key: %v", got)
	}
}

// TestTreeExternalJoin: where an external joiner's link key is (SPEC.md R-97,
// the table of §4.4).
func TestTreeExternalJoin(t *testing.T) {
	w := newWorld(t)
	alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), tree)
	code := pseudonym.JoinCode(l.seed, alice.g.Public().GroupID()).Bytes()
	joinerLink := func(a pseudonym.AAD) []byte {
		b, err := append(a, pseudonym.AADItem{Type: pseudonym.AADJoinerLink, Data: []byte("sealed")}).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		join join
		want mmrerr.Code
	}{
		"neither":         {join{from: alice, code: code, tree: treeWrite{none: true}}, mmrerr.AAD},
		"both":            {join{from: alice, code: code, aad: joinerLink}, mmrerr.AAD},
		"stale delta":     {join{from: alice, code: code, tree: treeWrite{change: func(d *treewrap.Delta) { d.BaseID[1] ^= 1 }}}, mmrerr.WrapStale},
		"without its top": {join{from: alice, code: code, tree: treeWrite{change: func(d *treewrap.Delta) { d.Links = nil }}}, mmrerr.WrapStructure},
		"garbage delta":   {join{from: alice, code: code, sealed: true, info: member.GroupInfoOptions{Extensions: []mls.Extension{{Type: 0xF0A6, Data: []byte{1}}}}}, mmrerr.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.dump()
			_, _, _, err := w.join(c.join)
			w.wantCode(err, c.want)
			w.unchanged(before)
		})
	}
	bob, req, _, err := w.join(join{from: alice, code: code})
	if err != nil {
		t.Fatal(err)
	}
	bob.sameState()
	// Resync: pending until somebody writes its key again, if the leaf moves; here
	// it keeps leaf and credential, and with them its key.
	alice.process(req.GetCommit())
	own := bob.g.OwnLeaf()
	alice.view = bob.view
	again, req, _, err := w.join(join{from: alice, id: bob.identity, resync: &own, sealed: true})
	if err != nil {
		t.Fatalf("resync: %v", err)
	}
	again.sameState()
	// A new device with a sibling's proof and a sealed link key: pending.
	alice.process(req.GetCommit())
	device := w.identity(leafSpec{user: bob.tbs.User})
	proof := w.sibling(again, device)
	third, req, _, err := w.join(join{from: alice, id: device, sealed: true, aad: func(a pseudonym.AAD) []byte {
		b, err := append(a, pseudonym.AADItem{Type: pseudonym.AADSiblingProof, Data: proof}).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}})
	if err != nil {
		t.Fatalf("sibling: %v", err)
	}
	alice.process(req.GetCommit())
	third.sameState()
	if got := alice.view.State().Occupied(); len(got) != 2 {
		t.Errorf("leaves %v have a key while the third is pending", got)
	}
	d, view := w.write(alice.view, treeWrite{policy: roomOf(t, alice.g.Public())}, alice.g.Public(), alice.g.Export, nil)
	if err := alice.refresh(d); err != nil {
		t.Fatal(err)
	}
	alice.view = view
	alice.sameState()
	if got := alice.view.State().Occupied(); len(got) != 3 {
		t.Errorf("leaves %v have a key after the refresh", got)
	}

	// Rooms in which the joiner need not, or must not, give its key.
	opt, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), tree, requirement(pseudonym.RequireOptional))
	code = pseudonym.JoinCode(l.seed, opt.g.Public().GroupID()).Bytes()
	if _, _, _, err := w.join(join{from: opt, code: code, tree: treeWrite{none: true}}); err != nil {
		t.Errorf("keyless into an optional room: %v", err)
	}
	none, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), tree, requirement(pseudonym.RequireNone))
	code = pseudonym.JoinCode(l.seed, none.g.Public().GroupID()).Bytes()
	_, _, _, err = w.join(join{from: none, code: code, sealed: true})
	w.wantCode(err, mmrerr.AAD)
	if _, _, _, err := w.join(join{from: none, code: code, tree: treeWrite{none: true}}); err != nil {
		t.Errorf("into a room without link keys: %v", err)
	}
}

// sibling makes a proof by which a device of p's user may join (SPEC.md R-24).
func (w *world) sibling(p *party, device *identity) []byte {
	w.t.Helper()
	proof, err := pseudonym.NewSiblingProof(p.g.Public().GroupID(), uint32(p.g.OwnLeaf()), uint64(time.Now().Add(time.Minute).Unix()), device.tbs, p.key(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := proof.AppendBinary(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}
