package hub_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestCreateRoom: every check of SPEC.md R-120. Nothing is left of a refused one.
func TestCreateRoom(t *testing.T) {
	w := newWorld(t)
	if _, err := w.create(creation{}); err != nil {
		t.Fatalf("a right creation: %v", err)
	}
	policy := func(f func(*pseudonym.Room)) *creation {
		id := w.identity(leafSpec{})
		p := policyOf(id.tbs.User)
		f(p)
		return &creation{id: id, policy: p}
	}
	other := w.identity(leafSpec{}).tbs.User
	extension := func(f func([]mls.Extension) []mls.Extension) *creation { return &creation{extensions: f} }
	request := func(f func(*hubv1.CreateRoomRequest)) *creation { return &creation{request: f} }
	wrapper := mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionIdentityLinkWrapper), Data: pseudonym.AppendWrapperKey(nil, primitive.NewSecret())}
	for name, c := range map[string]struct {
		creation *creation
		want     mmrerr.Code
	}{
		"without external_pub": {&creation{info: member.GroupInfoOptions{WithoutExternalPub: true}}, mmrerr.GroupInfo},
		"without tree":         {&creation{info: member.GroupInfoOptions{WithoutTree: true}}, mmrerr.GroupInfo},
		"wrapper key":          {&creation{info: member.GroupInfoOptions{Extensions: []mls.Extension{wrapper}}}, mmrerr.WrapperKeyLeak},
		"forged GroupInfo":     {request(func(m *hubv1.CreateRoomRequest) { m.GroupInfo = flip(m.GroupInfo) }), mmrerr.GroupInfo},
		"no D":                 {request(func(m *hubv1.CreateRoomRequest) { m.DeliverySecret = nil }), mmrerr.Malformed},
		"no link key":          {request(func(m *hubv1.CreateRoomRequest) { m.LinkEntry = nil }), mmrerr.LinkKeyMissing},
		"short link key":       {request(func(m *hubv1.CreateRoomRequest) { m.LinkEntry = m.LinkEntry[1:] }), mmrerr.LinkKeyLength},
		"forbidden link key":   {policy(func(p *pseudonym.Room) { p.Requirement = pseudonym.RequireNone }), mmrerr.LinkKeyForbidden},
		"no mmr_room":          {extension(func(es []mls.Extension) []mls.Extension { return es[:2] }), mmrerr.PolicyChange},
		"no external_senders":  {extension(func(es []mls.Extension) []mls.Extension { return []mls.Extension{es[0], es[2]} }), mmrerr.PolicyChange},
		"another external sender": {extension(func(es []mls.Extension) []mls.Extension {
			id := w.identity(leafSpec{})
			es[1] = mls.ExternalSendersExtension(mls.ExternalSender{SignatureKey: id.signer.Public(), Credential: mls.X509Credential(w.keys.IdentityCertificates()...)})
			return es
		}), mmrerr.PolicyChange},
		"garbage mmr_room": {extension(func(es []mls.Extension) []mls.Extension { es[2].Data = []byte{9, 9}; return es }), mmrerr.PolicyChange},
		"a fourth extension": {extension(func(es []mls.Extension) []mls.Extension {
			return append(es, mls.Extension{Type: 0xF0A2, Data: []byte{1}})
		}), mmrerr.PolicyChange},
		"no admin":              {policy(func(p *pseudonym.Room) { p.Roles = nil }), mmrerr.PolicyChange},
		"somebody else's admin": {policy(func(p *pseudonym.Room) { p.Roles[0].User = other }), mmrerr.PolicyChange},
		"two admins": {policy(func(p *pseudonym.Room) {
			p.Roles = append(p.Roles, pseudonym.RoleEntry{User: other, Role: pseudonym.Admin})
			if p.Roles[0].User.String() > p.Roles[1].User.String() {
				p.Roles[0], p.Roles[1] = p.Roles[1], p.Roles[0]
			}
		}), mmrerr.PolicyChange},
		"token of another provider": {&creation{call: func(c *call) { c.issuer = "b.example" }}, mmrerr.TokenInvalid},
		"no issuer":                 {&creation{call: func(c *call) { c.issuer = "" }}, mmrerr.TokenInvalid},
		"foreign signature":         {&creation{call: func(c *call) { c.signer = w.identity(leafSpec{}).key(t) }}, mmrerr.Signature},
		"signed as a leaf":          {&creation{call: func(c *call) { c.kind = seal.AuthLeaf }}, mmrerr.Malformed},
		"other group id":            {&creation{call: func(c *call) { c.groupID = member.RandomGroupID() }}, mmrerr.GroupInfo},
		"short group id":            {&creation{call: func(c *call) { c.groupID = c.groupID[:16] }}, mmrerr.Malformed},
		"basic credential":          {&creation{id: w.identity(leafSpec{kind: mls.CredentialBasic})}, mmrerr.CredentialType},
		"real name as pseudonym":    {&creation{id: w.identity(leafSpec{body: realName})}, mmrerr.PseudonymShape},
		"unknown provider":          {&creation{id: w.identity(leafSpec{user: w.id("c.example", pseudonym.User)}), call: func(c *call) { c.issuer = "c.example" }}, mmrerr.QueueDomain},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.dump()
			_, err := w.create(*c.creation)
			w.wantCode(err, c.want)
			w.unchanged(before)
		})
	}
}

// TestCreateRoomTwice: the same bytes are answered again, others are refused.
func TestCreateRoomTwice(t *testing.T) {
	w := newWorld(t)
	var k call
	var req *hubv1.CreateRoomRequest
	if _, err := w.create(creation{call: func(c *call) { k = *c }, request: func(m *hubv1.CreateRoomRequest) { req = m }}); err != nil {
		t.Fatal(err)
	}
	before := w.dump()
	first, err := do(w, k, req, new(hubv1.CreateRoomResponse))
	if err != nil {
		t.Fatalf("repeat: %v", err)
	}
	again, err := do(w, k, req, new(hubv1.CreateRoomResponse))
	if err != nil || cmp.Diff(first.GetAccepted().GetReceipt(), again.GetAccepted().GetReceipt()) != "" {
		t.Errorf("the repeats differ, %v", err)
	}
	a := seal.Accepted{GroupID: k.groupID, Chain: [32]byte(first.GetAccepted().GetChain()), AcceptedMS: first.GetAccepted().GetAcceptedMs()}
	if a.Chain != seal.ChainStart(k.groupID) || a.Verify(w.keys.Identity().Public(), first.GetAccepted().GetReceipt()) != nil {
		t.Error("the receipt is not one of the hub for a new room")
	}
	req.GroupInfo = flip(req.GroupInfo)
	_, err = do(w, k, req, new(hubv1.CreateRoomResponse))
	w.wantCode(err, mmrerr.RoomExists)
	w.unchanged(before)
}
