package hub_test

import (
	"encoding/binary"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// link is a join link of a room under test.
type link struct {
	seed primitive.Secret
	room pseudonym.RoomLink
}

// linked returns a room whose policy has a link, with the join rule.
func (w *world) linked(rule pseudonym.JoinRule, notAfter time.Time, shape ...func(*pseudonym.Room)) (*party, link) {
	w.t.Helper()
	l := link{seed: primitive.NewSecret()}
	id := w.identity(leafSpec{})
	policy := policyOf(id.tbs.User)
	policy.JoinRule = rule
	for _, f := range shape {
		f(policy)
	}
	p, err := w.create(creation{id: id, policy: policy})
	if err != nil {
		w.t.Fatal(err)
	}
	groupID := p.g.Public().GroupID()
	l.room = pseudonym.NewRoomLink([16]byte{7}, l.seed, groupID, uint64(notAfter.Unix()))
	policy.Links = []pseudonym.RoomLink{l.room}
	if _, err := p.commit(commit{proposals: []*mls.ProposalBody{mls.ExtensionsProposal(w.extensions(policy))}}); err != nil {
		w.t.Fatal(err)
	}
	return p, l
}

// join is an ExternalJoin in the making: zero fields are right.
type join struct {
	from    *party // a member whose state the joiner starts from
	id      *identity
	code    []byte
	resync  *mls.LeafIndex
	tree    treeWrite // with delta: by link; else the joiner seals its link key to the members
	sealed  bool      // joiner_link instead of the delta
	dry     bool      // it is not sent
	aad     func(pseudonym.AAD) []byte
	info    member.GroupInfoOptions
	request func(*hubv1.ExternalJoinRequest)
	call    func(*call)
}

func (w *world) join(j join) (*party, *hubv1.ExternalJoinRequest, call, error) {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if j.id == nil {
		j.id = w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
	}
	info, err := j.from.g.GroupInfo(member.GroupInfoOptions{})
	must(err)
	groupID := j.from.g.Public().GroupID()
	items := pseudonym.AAD{}
	switch {
	case j.from.view == nil:
		entries, err := pseudonym.AddAAD{pseudonym.WrapStatic(j.from.wrapper, groupID, j.id.tbs.Hash(), j.id.linkKey)}.AppendBinary(nil)
		must(err)
		items = append(items, pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: entries})
	case j.sealed:
		items = append(items, pseudonym.AADItem{Type: pseudonym.AADJoinerLink, Data: []byte("sealed")})
	}
	var aad []byte
	if j.aad != nil {
		aad = j.aad(items)
	} else {
		aad, err = items.AppendBinary(nil)
		must(err)
	}
	g, staged, err := member.JoinExternal(j.id.Identity, info, member.ExternalOptions{Options: options(), AAD: aad, Resync: j.resync})
	must(err)
	j.info.WithoutTree = true
	view := j.from.view
	if view != nil && !j.tree.none && !j.sealed {
		j.tree.policy = roomOf(w.t, staged.Public())
		var delta *treewrap.Delta
		delta, view = w.write(view, j.tree, staged.Public(), staged.Export, nil)
		j.info.Extensions = append(j.info.Extensions, deltaExtension(w.t, delta, j.tree.change))
	}
	gi, err := staged.GroupInfo(j.info)
	must(err)
	d := primitive.NewSecret()
	req := &hubv1.ExternalJoinRequest{Commit: staged.Commit(), GroupInfo: gi, DeliverySecret: d.Bytes(), Code: j.code}
	if j.request != nil {
		j.request(req)
	}
	k := call{method: seal.MethodExternalJoin, groupID: groupID, kind: seal.AuthNewLeaf, signer: j.id.key(w.t), issuer: j.id.tbs.User.Host(), ear: j.from.ear}
	if j.call != nil {
		j.call(&k)
	}
	if j.dry {
		return nil, req, k, nil
	}
	res, err := do(w, k, req, new(hubv1.ExternalJoinResponse))
	if err != nil {
		return nil, req, k, err
	}
	if g, _, err = g.Confirm(); err != nil {
		w.t.Fatal(err)
	}
	if uint32(g.OwnLeaf()) != res.GetLeafIndex() {
		w.t.Errorf("the hub says leaf %d, the joiner is %d", res.GetLeafIndex(), g.OwnLeaf())
	}
	return &party{identity: j.id, w: w, g: g, wrapper: j.from.wrapper, view: view, ear: j.from.ear, k: seal.NewDeliveryKey(d, groupID, g.Epoch(), j.id.signer.Public())}, req, k, nil
}

// TestExternalJoin: SPEC.md.
func TestExternalJoin(t *testing.T) {
	w := newWorld(t)
	alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour))
	code := pseudonym.JoinCode(l.seed, alice.g.Public().GroupID()).Bytes()
	aad := func(items ...pseudonym.AADItem) func(pseudonym.AAD) []byte {
		return func(pseudonym.AAD) []byte {
			b, err := pseudonym.AAD(items).AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	wrapper := mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionIdentityLinkWrapper), Data: pseudonym.AppendWrapperKey(nil, alice.wrapper)}
	invite, _ := w.linked(pseudonym.JoinByInvite, time.Now().Add(time.Hour))
	expired, old := w.linked(pseudonym.JoinByLink, time.Now().Add(-time.Minute))
	user := func() pseudonym.ID { return w.id("b.example", pseudonym.User) }
	for name, c := range map[string]struct {
		join join
		want mmrerr.Code
	}{
		"no code":                   {join{from: alice}, mmrerr.JoinNotAllowed},
		"wrong code":                {join{from: alice, code: make([]byte, 32)}, mmrerr.JoinNotAllowed},
		"short code":                {join{from: alice, code: code[:31]}, mmrerr.JoinNotAllowed},
		"invite room":               {join{from: invite, code: code}, mmrerr.JoinNotAllowed},
		"expired":                   {join{from: expired, code: pseudonym.JoinCode(old.seed, expired.g.Public().GroupID()).Bytes()}, mmrerr.JoinNotAllowed},
		"a member's pseudonym":      {join{from: alice, code: code, id: w.identity(leafSpec{user: alice.tbs.User})}, mmrerr.JoinNotAllowed},
		"token of another issuer":   {join{from: alice, code: code, call: func(c *call) { c.issuer = "a.example" }}, mmrerr.TokenInvalid},
		"no token":                  {join{from: alice, code: code, call: func(c *call) { c.issuer = "" }}, mmrerr.TokenInvalid},
		"foreign signature":         {join{from: alice, code: code, call: func(c *call) { c.signer = alice.key(t) }}, mmrerr.NoRoom},
		"signed as leaf":            {join{from: alice, code: code, call: func(c *call) { c.kind = seal.AuthLeaf }}, mmrerr.NoRoom},
		"a key where there is none": {join{from: alice, code: code, call: func(c *call) { c.ear = primitive.NewSecret() }}, mmrerr.NoRoom},
		"another room's commit":     {join{from: alice, code: code, call: func(c *call) { c.groupID = invite.g.Public().GroupID() }}, mmrerr.WireFormat},
		"no aad":                    {join{from: alice, code: code, aad: func(pseudonym.AAD) []byte { return nil }}, mmrerr.AAD},
		"no link key":               {join{from: alice, code: code, aad: aad()}, mmrerr.AAD},
		"empty link key list":       {join{from: alice, code: code, aad: aad(pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: []byte{0}})}, mmrerr.LinkKeysCount},
		"absent link key":           {join{from: alice, code: code, aad: aad(pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: []byte{1, 0}})}, mmrerr.LinkKeyMissing},
		"joiner_link": {join{from: alice, code: code, aad: func(a pseudonym.AAD) []byte {
			return aad(a[0], pseudonym.AADItem{Type: pseudonym.AADJoinerLink, Data: []byte{1}})(nil)
		}}, mmrerr.AAD},
		"no D":                           {join{from: alice, code: code, request: func(m *hubv1.ExternalJoinRequest) { m.DeliverySecret = nil }}, mmrerr.Malformed},
		"no GroupInfo":                   {join{from: alice, code: code, request: func(m *hubv1.ExternalJoinRequest) { m.GroupInfo = nil }}, mmrerr.GroupInfo},
		"forged GroupInfo":               {join{from: alice, code: code, request: func(m *hubv1.ExternalJoinRequest) { m.GroupInfo = flip(m.GroupInfo) }}, mmrerr.GroupInfo},
		"GroupInfo with the wrapper key": {join{from: alice, code: code, info: member.GroupInfoOptions{Extensions: []mls.Extension{wrapper}}}, mmrerr.WrapperKeyLeak},
		"a member's commit":              {join{from: alice, code: code, request: func(m *hubv1.ExternalJoinRequest) { m.Commit = alice.stage(commit{}).req.Commit }}, mmrerr.WireFormat},
		"garbage":                        {join{from: alice, code: code, request: func(m *hubv1.ExternalJoinRequest) { m.Commit = m.Commit[1:] }}, mmrerr.WireFormat},
		"forged commit":                  {join{from: alice, code: code, request: func(m *hubv1.ExternalJoinRequest) { m.Commit = flipAt(m.Commit, len(m.Commit)-200) }}, mmrerr.OK},
		"basic credential":               {join{from: alice, code: code, id: w.identity(leafSpec{user: user(), kind: mls.CredentialBasic})}, mmrerr.CredentialType},
		"unpublished queue key":          {join{from: alice, code: code, id: w.identity(leafSpec{user: user(), keyID: 99})}, mmrerr.QueueDomain},
		"a member's delivery":            {join{from: alice, code: code, id: w.identity(leafSpec{user: w.id("a.example", pseudonym.User), delivery: deliveryOf(t, alice)})}, mmrerr.PseudonymReused},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.dump()
			_, _, _, err := w.join(c.join)
			got, _ := mmrerr.Of(err)
			switch {
			case c.want == mmrerr.OK: // which check sees it first depends on the byte
				if err == nil {
					t.Error("accepted")
				}
			case err == nil || got != c.want:
				t.Errorf("error %v, want %s", err, c.want)
			}
			w.unchanged(before)
		})
	}
	bob, req, k, err := w.join(join{from: alice, code: code})
	if err != nil {
		t.Fatalf("a right join: %v", err)
	}
	if _, err := bob.submit(bob.message("here I am")); err != nil {
		t.Errorf("the joiner speaks: %v", err)
	}
	before := w.dump()
	if res, err := do(w, k, req, new(hubv1.ExternalJoinResponse)); err != nil || res.GetLeafIndex() != uint32(bob.g.OwnLeaf()) || len(res.GetAccepted().GetReceipt()) == 0 {
		t.Errorf("repeat: %v, %v", res, err)
	}
	w.unchanged(before)
	_, _, _, err = w.join(join{from: alice, code: code})
	w.wantCode(err, mmrerr.WrongEpoch) // alice's state is that of the epoch before
	if d := mmrerr.Detail(err); len(d) != 8 || binary.BigEndian.Uint64(d) != bob.g.Epoch() {
		t.Errorf("detail %x", d)
	}
	// Resync: the joiner replaces its own leaf, without code or token.
	alice.process(req.GetCommit())
	own := bob.g.OwnLeaf()
	again, _, _, err := w.join(join{from: alice, id: bob.identity, resync: &own})
	if err != nil {
		t.Fatalf("resync: %v", err)
	}
	if _, err := again.submit(again.message("back")); err != nil {
		t.Errorf("after the resync: %v", err)
	}
}

func flipAt(b []byte, i int) []byte {
	b = append([]byte(nil), b...)
	b[i] ^= 1
	return b
}

// TestConnectionRoom: one code, one join (SPEC.md R-37).
func TestConnectionRoom(t *testing.T) {
	w := newWorld(t)
	alice, l := w.linked(pseudonym.JoinByConnection, time.Now().Add(time.Hour))
	code := pseudonym.JoinCode(l.seed, alice.g.Public().GroupID()).Bytes()
	response := func(a pseudonym.AAD) []byte {
		b, err := append(a, pseudonym.AADItem{Type: pseudonym.AADConnectionResponse, Data: []byte("sealed")}).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	_, _, _, err := w.join(join{from: alice, code: code})
	w.wantCode(err, mmrerr.AAD) // without the response
	_, req, _, err := w.join(join{from: alice, code: code, aad: response})
	if err != nil {
		t.Fatal(err)
	}
	alice.process(req.GetCommit())
	_, _, _, err = w.join(join{from: alice, code: code, aad: response})
	w.wantCode(err, mmrerr.NotConnectionRoom)
	// Also when the second user has gone: the code is dead.
	if _, err := alice.commit(commit{proposals: []*mls.ProposalBody{mls.RemoveProposal(1)}}); err != nil {
		t.Fatal(err)
	}
	_, _, _, err = w.join(join{from: alice, code: code, aad: response})
	w.wantCode(err, mmrerr.NotConnectionRoom)
}
