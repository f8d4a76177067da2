package e2e_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// badWorld is a world with a connection, a room of three and something of
// everything at rest.
type badWorld struct {
	*world
	alice, bob, carol *person
	room              string
	groupID           []byte
	link              *pseudonym.JoinLink
}

func newBadWorld(tb testing.TB) *badWorld {
	tb.Helper()
	w := &badWorld{world: newWorld(tb)}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	w.alice, w.bob, w.carol = w.person(ctx, "alice", "a.example"), w.person(ctx, "bob", "b.example"), w.person(ctx, "carol", "b.example")
	for _, p := range []*person{w.alice, w.bob, w.carol} {
		p.online(ctx)
	}
	connect(ctx, tb, w.alice, w.bob)
	var err error
	w.room, err = w.alice.CreateRoom(ctx, "hub.example")
	must(err)
	must(w.alice.Add(ctx, w.room, w.bob.User()))
	w.bob.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined })
	must(w.alice.Send(ctx, w.room, []byte("early")))
	must(w.alice.Refresh(ctx, w.room))
	link, err := w.alice.CreateLink(ctx, w.room, time.Hour)
	must(err)
	w.link, err = pseudonym.ParseJoinLink(link)
	must(err)
	_, err = w.carol.Join(ctx, link)
	must(err)
	// A message of the epoch before her join would not be for her.
	w.alice.waitFor("carol", func(e client.Event) bool {
		return e.Kind == client.KindMembers && slices.Contains(e.Added, w.carol.User())
	})
	must(w.alice.Send(ctx, w.room, []byte("late")))
	for _, p := range []*person{w.bob, w.carol} {
		p.waitFor("late", func(e client.Event) bool { return string(e.Data) == "late" })
	}
	for _, p := range []*person{w.alice, w.bob, w.carol} {
		p.offline()
	}
	w.groupID = w.alice.secrets().Rooms[w.room].GroupID
	w.quiet(tb)
	return w
}

func (w *badWorld) gate(tb testing.TB, svc *service, conn *grpc.ClientConn, audience string) *gate {
	tb.Helper()
	g := &gate{raw: raw{tb, w.world}, svc: svc, conn: conn, audience: audience, issuer: w.relays["a.example"], pot: make(map[string][][]byte), covered: make(map[string]bool)}
	g.account = g.session(w.alice, g.issuer)
	g.key = g.gatewayKey(conn)
	return g
}

func (g *gate) complete(t *testing.T) {
	t.Helper()
	for _, m := range g.svc.tap.served() {
		if !g.covered[m] {
			t.Errorf("%s is served and not in the table", m)
		}
	}
}

// body returns a fresh copy of a sample's body, changed.
func change[T proto.Message](m T, f func(T)) func() proto.Message {
	return func() proto.Message {
		c := proto.Clone(m).(T)
		f(c)
		return c
	}
}

func unmarshal[T proto.Message](t *testing.T, b []byte, m T) T {
	t.Helper()
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func last[T any](t *testing.T, xs []T) T {
	t.Helper()
	if len(xs) == 0 {
		t.Fatal("no sample")
	}
	return xs[len(xs)-1]
}

// flip changes the last byte.
func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// TestBadInputHub: every method of a hub with everything that is wrong.
func TestBadInputHub(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	g := w.gate(t, w.hub, raw{t, w.world}.peer("a.example", w.hub), "hub:hub.example")
	signer, leaf := w.alice.leafKey(w.room)
	_, bobLeaf := w.bob.leafKey(w.room)
	ear := w.alice.ear(w.room)
	stranger, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	otherRoom := func(_ proto.Message, a *ask) { a.GroupID = randomBytes(32) }
	// What a stranger can do about a room must look like a room that does not exist.
	strangers := []variant{
		{name: "leaf that does not exist", ask: func(a *ask) { a.leaf = 4000 }},
		{name: "somebody else's leaf", ask: func(a *ask) { a.leaf = bobLeaf }},
		{name: "another key at rest", ask: func(a *ask) { a.EARKey = primitive.NewSecret() }},
		{name: "no key at rest", ask: func(a *ask) { a.EARKey = primitive.Secret{} }},
		{name: "short group id", ask: func(a *ask) { a.GroupID = a.GroupID[:31] }},
		{name: "no group id", ask: func(a *ask) { a.GroupID = nil }},
		{name: "other kind of key", ask: func(a *ask) { a.kind, a.leaf = seal.AuthPool, 0 }},
		{name: "unsigned", ask: func(a *ask) { a.kind, a.leaf, a.signer = seal.AuthNone, 0, nil }},
	}
	member := func(method string, body proto.Message, cases ...variant) spec {
		return spec{
			method: method, kind: seal.AuthLeaf, leaf: leaf, signer: signer, groupID: w.groupID, ear: ear, body: body,
			badSig: mmrerr.NoRoom, unknown: otherRoom, refused: mmrerr.NoRoom, existing: strangers, cases: cases,
		}
	}
	w.unchanged(t, func() {
		g.outer(t)

		creation := w.hub.tap.of(seal.MethodCreateRoom, w.groupID)[0]
		create := unmarshal(t, creation.Body, new(hubv1.CreateRoomRequest))
		fresh := func(a *ask) { a.GroupID = randomBytes(32) }
		g.method(t, spec{
			method: seal.MethodCreateRoom, token: true, kind: seal.AuthNewLeaf, signer: stranger, groupID: w.groupID, ear: ear, body: create,
			cases: []variant{
				{"room exists", change(create, func(m *hubv1.CreateRoomRequest) { m.GroupInfo = flip(m.GroupInfo) }), nil, mmrerr.RoomExists},
				{"short group id", nil, func(a *ask) { a.GroupID = randomBytes(31) }, mmrerr.Malformed},
				{"signed as a leaf", nil, func(a *ask) { a.kind = seal.AuthLeaf }, mmrerr.Malformed},
				{"short D", change(create, func(m *hubv1.CreateRoomRequest) { m.DeliverySecret = m.DeliverySecret[1:] }), fresh, mmrerr.Malformed},
				{"another room's GroupInfo", nil, fresh, mmrerr.GroupInfo},
				{"garbage GroupInfo", change(create, func(m *hubv1.CreateRoomRequest) { m.GroupInfo = randomBytes(300) }), fresh, mmrerr.GroupInfo},
				{"cut GroupInfo", change(create, func(m *hubv1.CreateRoomRequest) { m.GroupInfo = m.GroupInfo[:len(m.GroupInfo)/2] }), fresh, mmrerr.GroupInfo},
				{"no GroupInfo", change(create, func(m *hubv1.CreateRoomRequest) { m.GroupInfo = nil }), fresh, mmrerr.GroupInfo},
			},
		})

		commit := unmarshal(t, w.hub.tap.of(seal.MethodUpdate, w.groupID)[0].Body, new(hubv1.UpdateRequest))
		stale := change(commit, func(m *hubv1.UpdateRequest) { m.Commit = flip(m.Commit) })
		message := unmarshal(t, w.hub.tap.of(seal.MethodSubmit, w.groupID)[0].Body, new(hubv1.SubmitRequest))
		g.method(t, member(seal.MethodUpdate, stale(), []variant{
			{"wrong epoch", stale, nil, mmrerr.WrongEpoch},
			{"nothing", change(commit, func(m *hubv1.UpdateRequest) { m.Commit = nil }), nil, mmrerr.Malformed},
			{"commit and proposals", change(commit, func(m *hubv1.UpdateRequest) { m.Proposals = [][]byte{m.Commit} }), nil, mmrerr.Malformed},
			{"garbage commit", change(commit, func(m *hubv1.UpdateRequest) { m.Commit = randomBytes(400) }), nil, mmrerr.WireFormat},
			{"cut commit", change(commit, func(m *hubv1.UpdateRequest) { m.Commit = m.Commit[:len(m.Commit)/2] }), nil, mmrerr.WireFormat},
			{"a message as commit", change(commit, func(m *hubv1.UpdateRequest) { m.Commit = message.Message }), nil, mmrerr.WireFormat},
			{"a GroupInfo as commit", change(commit, func(m *hubv1.UpdateRequest) { m.Commit = m.GroupInfo }), nil, mmrerr.WireFormat},
			{"garbage proposal", func() proto.Message { return &hubv1.UpdateRequest{Proposals: [][]byte{randomBytes(80)}} }, nil, mmrerr.WireFormat},
			{"a commit as proposal", func() proto.Message { return &hubv1.UpdateRequest{Proposals: [][]byte{flip(commit.GetCommit())}} }, nil, mmrerr.WireFormat},
			{"seventeen proposals", func() proto.Message { return &hubv1.UpdateRequest{Proposals: make([][]byte, 17)} }, nil, mmrerr.Malformed},
			{"proposal with a Welcome", func() proto.Message {
				return &hubv1.UpdateRequest{Proposals: [][]byte{randomBytes(80)}, Welcome: []byte{1}}
			}, nil, mmrerr.Malformed},
			{"somebody else's commit", stale, func(a *ask) { a.signer, a.leaf = w.bob.leafKey(w.room) }, mmrerr.WireFormat},
		}...))

		g.method(t, member(seal.MethodSubmit, &hubv1.SubmitRequest{Message: flip(message.GetMessage())}, []variant{
			{"epoch too old", nil, nil, mmrerr.EpochTooOld},
			{"nothing", func() proto.Message { return &hubv1.SubmitRequest{} }, nil, mmrerr.WireFormat},
			{"garbage", func() proto.Message { return &hubv1.SubmitRequest{Message: randomBytes(400)} }, nil, mmrerr.WireFormat},
			{"cut", func() proto.Message { return &hubv1.SubmitRequest{Message: message.GetMessage()[:100]} }, nil, mmrerr.WireFormat},
			{"a commit", func() proto.Message { return &hubv1.SubmitRequest{Message: commit.GetCommit()} }, nil, mmrerr.WireFormat},
		}...))

		joining := w.hub.tap.of(seal.MethodExternalJoin, w.groupID)[0]
		join := unmarshal(t, joining.Body, new(hubv1.ExternalJoinRequest))
		carolKey, _ := w.carol.leafKey(w.room)
		stalejoin := change(join, func(m *hubv1.ExternalJoinRequest) { m.Commit = flip(m.Commit) })
		g.method(t, spec{
			method: seal.MethodExternalJoin, token: true, kind: seal.AuthNewLeaf, signer: carolKey, groupID: w.groupID, ear: ear, body: stalejoin(),
			badSig: mmrerr.NoRoom, refused: mmrerr.NoRoom,
			unknown: func(m proto.Message, a *ask) {
				a.GroupID = randomBytes(32)
				j := m.(*hubv1.ExternalJoinRequest)
				j.Commit = bytes.ReplaceAll(j.Commit, w.groupID, a.GroupID)
			},
			existing: []variant{
				{name: "another key at rest", ask: func(a *ask) { a.EARKey = primitive.NewSecret() }},
				{name: "no key at rest", ask: func(a *ask) { a.EARKey = primitive.Secret{} }},
				{name: "signed as a leaf", ask: func(a *ask) { a.kind = seal.AuthLeaf }},
			},
			cases: []variant{
				{"wrong epoch", nil, nil, mmrerr.WrongEpoch},
				{"garbage commit", change(join, func(m *hubv1.ExternalJoinRequest) { m.Commit = randomBytes(300) }), nil, mmrerr.WireFormat},
				{"garbage commit for an unknown room", change(join, func(m *hubv1.ExternalJoinRequest) { m.Commit = randomBytes(300) }), fresh, mmrerr.WireFormat},
				{"member's commit", change(join, func(m *hubv1.ExternalJoinRequest) { m.Commit = commit.GetCommit() }), nil, mmrerr.WireFormat},
				{"member's commit for an unknown room", change(join, func(m *hubv1.ExternalJoinRequest) { m.Commit = commit.GetCommit() }), fresh, mmrerr.WireFormat},
			},
		})

		code := w.link.Code()
		g.method(t, spec{
			method: seal.MethodLinkInfo, kind: seal.AuthNone, groupID: w.groupID, body: &hubv1.LinkInfoRequest{Code: randomBytes(32)},
			unknown: otherRoom, refused: mmrerr.NoRoom,
			existing: []variant{
				{name: "wrong code"},
				{name: "short code", body: func() proto.Message { return &hubv1.LinkInfoRequest{Code: []byte{1}} }},
				{name: "no code", body: func() proto.Message { return &hubv1.LinkInfoRequest{} }},
				{name: "right code with a key where the room has none", body: func() proto.Message { return &hubv1.LinkInfoRequest{Code: code.Bytes()} }, ask: func(a *ask) { a.EARKey = primitive.NewSecret() }},
			},
			cases: []variant{{"signed", nil, func(a *ask) { a.kind, a.signer = seal.AuthNewLeaf, stranger }, mmrerr.Malformed}},
		})

		proof, err := (&pseudonym.SiblingProof{Leaf: leaf, NotAfter: uint64(time.Now().Add(time.Hour / 2).Unix()), Signature: randomBytes(64)}).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		info := member(seal.MethodGroupInfo, &hubv1.GroupInfoRequest{})
		info.existing = append(slices.Clone(strangers),
			variant{name: "wrong code", body: func() proto.Message { return &hubv1.GroupInfoRequest{Code: randomBytes(32)} }},
			variant{name: "short code", body: func() proto.Message { return &hubv1.GroupInfoRequest{Code: []byte{1}} }},
			variant{name: "garbage sibling proof", body: func() proto.Message { return &hubv1.GroupInfoRequest{SiblingProof: randomBytes(70)} }},
			variant{name: "forged sibling proof", body: func() proto.Message { return &hubv1.GroupInfoRequest{SiblingProof: proof} }})
		g.method(t, info)

		g.method(t, member(seal.MethodPutGroupInfo, &hubv1.PutGroupInfoRequest{GroupInfo: commit.GetGroupInfo()}, []variant{
			{"of an old epoch", nil, nil, mmrerr.GroupInfo},
			{"nothing", func() proto.Message { return &hubv1.PutGroupInfoRequest{} }, nil, mmrerr.GroupInfo},
			{"garbage", func() proto.Message { return &hubv1.PutGroupInfoRequest{GroupInfo: randomBytes(200)} }, nil, mmrerr.GroupInfo},
			{"signed by another member", nil, func(a *ask) { a.signer, a.leaf = w.bob.leafKey(w.room) }, mmrerr.GroupInfo},
		}...))

		g.method(t, member(seal.MethodCatchUp, &hubv1.CatchUpRequest{FromSeq: 1, Max: 1}, []variant{
			{"too many", func() proto.Message { return &hubv1.CatchUpRequest{FromSeq: 1, Max: 1001} }, nil, mmrerr.Malformed},
			{"of the far future", func() proto.Message { return &hubv1.CatchUpRequest{FromSeq: 1 << 63} }, nil, mmrerr.OK},
		}...))

		bobKey, _ := w.bob.leafKey(w.room)
		state := &hubv1.JoinStateRequest{Epoch: 1, SignatureKey: bobKey.Public().Bytes()}
		g.method(t, spec{
			method: seal.MethodJoinState, kind: seal.AuthNewLeaf, signer: bobKey, groupID: w.groupID, ear: ear, body: state,
			badSig: mmrerr.NoRoom, unknown: otherRoom, refused: mmrerr.NoRoom,
			existing: []variant{
				{name: "no member's key", body: change(state, func(m *hubv1.JoinStateRequest) { m.SignatureKey = stranger.Public().Bytes() }), ask: func(a *ask) { a.signer = stranger }},
				{name: "no key", body: change(state, func(m *hubv1.JoinStateRequest) { m.SignatureKey = nil })},
				{name: "signed as a leaf", ask: func(a *ask) { a.kind = seal.AuthLeaf }},
			},
			cases: []variant{{"epoch without Welcome", change(state, func(m *hubv1.JoinStateRequest) { m.Epoch = 77 }), nil, mmrerr.LogTruncated}},
		})
		w.furtherHubMethods(t, g, member)
	})
	g.complete(t)

	// The table is not vacuous: what it breaks is right before.
	for name, s := range map[string]spec{
		"CatchUp":   member(seal.MethodCatchUp, &hubv1.CatchUpRequest{FromSeq: 1, Max: 1}),
		"GroupInfo": member(seal.MethodGroupInfo, &hubv1.GroupInfoRequest{}),
	} {
		if got := g.ask(g.right(s)); got.Code != mmrerr.OK {
			t.Errorf("right %s: %s", name, got)
		}
	}
}

// TestRateLimitTellsNothing: guessing codes of a room that exists and of one
// that does not ends alike.
func TestRateLimitTellsNothing(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	g := w.gate(t, w.hub, raw{t, w.world}.peer("a.example", w.hub), "hub:hub.example")
	unknown := randomBytes(32)
	for i := range 15 {
		a := g.ask(ask{Request: seal.Request{Method: seal.MethodLinkInfo, GroupID: w.groupID, Body: mustMarshal(t, &hubv1.LinkInfoRequest{Code: randomBytes(32)})}})
		b := g.ask(ask{Request: seal.Request{Method: seal.MethodLinkInfo, GroupID: unknown, Body: mustMarshal(t, &hubv1.LinkInfoRequest{Code: randomBytes(32)})}})
		if spent := i == 8 || i == 9; a != b && !spent { // carol's join took two of the room's ten
			t.Errorf("guess %d: %s for a room, %s for none", i, a, b)
		}
		if i == 14 && a.Code != mmrerr.RateLimited {
			t.Errorf("guess %d: %s, want mmr/rate-limited", i, a)
		}
	}
}

func mustMarshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBadInputProvider: every method of a provider.
func TestBadInputProvider(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	relayB := w.relays["b.example"]
	stranger, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	g := w.gate(t, relayB, raw{t, w.world}.peer("a.example", relayB), "provider:b.example")
	bob := w.bob.secrets()
	conn := bob.Conns[w.alice.User()]
	token, err := primitive.ParseSecret(conn.OwnToken)
	if err != nil {
		t.Fatal(err)
	}
	pool := pseudonym.PoolID(token)
	upload := signingKey(t, conn.UploadKey)
	queueKey := signingKey(t, bob.Account.QueueKey)
	w.unchanged(t, func() {
		g.outer(t)

		unknownPool := func(m proto.Message, _ *ask) {
			fd := m.ProtoReflect().Descriptor().Fields().ByName("pool_id")
			m.ProtoReflect().Set(fd, protoBytes(randomBytes(32)))
		}
		owner := func(method string, tok bool, body proto.Message, cases ...variant) spec {
			cases = append(cases,
				variant{"named a room", nil, func(a *ask) { a.GroupID = w.groupID }, mmrerr.Malformed},
				variant{"a room's key", nil, func(a *ask) { a.EARKey = primitive.NewSecret() }, mmrerr.Malformed},
				variant{"other kind of key", nil, func(a *ask) { a.kind = seal.AuthQueue }, mmrerr.Malformed},
				variant{"short pool id", func() proto.Message {
					m := proto.Clone(body)
					m.ProtoReflect().Set(m.ProtoReflect().Descriptor().Fields().ByName("pool_id"), protoBytes(pool[:31]))
					return m
				}, nil, mmrerr.Malformed})
			return spec{method: method, token: tok, kind: seal.AuthPool, signer: upload, body: body, badSig: mmrerr.NoConsent, unknown: unknownPool, refused: mmrerr.NoConsent, cases: cases}
		}
		create := &relayv1.PoolCreateRequest{PoolId: pool[:], UploadKey: stranger.Public().Bytes(), Slots: [][]byte{randomBytes(16)}}
		g.method(t, spec{
			method: seal.MethodPoolCreate, token: true, kind: seal.AuthPool, signer: stranger, body: create, badSig: mmrerr.Malformed,
			cases: []variant{
				{"another's pool", nil, nil, mmrerr.NoConsent},
				{"short id", change(create, func(m *relayv1.PoolCreateRequest) { m.PoolId = m.PoolId[:5] }), nil, mmrerr.Malformed},
				{"no key", change(create, func(m *relayv1.PoolCreateRequest) { m.UploadKey = nil }), nil, mmrerr.Malformed},
				{"no slots", change(create, func(m *relayv1.PoolCreateRequest) { m.PoolId, m.Slots = randomBytes(32), nil }), nil, mmrerr.Malformed},
				{"eleven slots", change(create, func(m *relayv1.PoolCreateRequest) {
					m.PoolId, m.Slots = randomBytes(32), nil
					for range 11 {
						m.Slots = append(m.Slots, randomBytes(16))
					}
				}), nil, mmrerr.Malformed},
				{"a slot twice", change(create, func(m *relayv1.PoolCreateRequest) {
					m.PoolId, m.Slots = randomBytes(32), append(m.Slots, m.Slots[0])
				}), nil, mmrerr.Malformed},
				{"short slot", change(create, func(m *relayv1.PoolCreateRequest) { m.PoolId, m.Slots = randomBytes(32), [][]byte{{1}} }), nil, mmrerr.Malformed},
			},
		})
		g.method(t, owner(seal.MethodPoolSlots, false, &relayv1.PoolSlotsRequest{PoolId: pool[:], Slots: nil},
			variant{"no slots", nil, nil, mmrerr.Malformed},
			variant{"short slot", func() proto.Message { return &relayv1.PoolSlotsRequest{PoolId: pool[:], Slots: [][]byte{{1, 2}}} }, nil, mmrerr.Malformed}))

		sample := unmarshal(t, last(t, relayB.tap.all(seal.MethodPoolUpload)).Body, new(relayv1.PoolUploadRequest))
		sample.PoolId = pool[:]
		ups := func(f func(*relayv1.PoolUploadRequest)) func() proto.Message { return change(sample, f) }
		newUser, err := pseudonym.NewID("b.example", pseudonym.User)
		if err != nil {
			t.Fatal(err)
		}
		bad := ups(func(m *relayv1.PoolUploadRequest) { m.Sets = nil })()
		g.method(t, owner(seal.MethodPoolUpload, true, bad,
			variant{"no sets", nil, nil, mmrerr.Malformed},
			variant{"33 sets", ups(func(m *relayv1.PoolUploadRequest) { m.Sets = make([]*relayv1.PoolSet, 33) }), nil, mmrerr.Malformed},
			variant{"empty set", ups(func(m *relayv1.PoolUploadRequest) { m.Sets[0].Packages = nil }), nil, mmrerr.PackageInvalid},
			variant{"the second set is bad", ups(func(m *relayv1.PoolUploadRequest) { m.Sets[1].Packages[0].KeyPackage = randomBytes(300) }), nil, mmrerr.PackageInvalid},
			variant{"garbage package", ups(func(m *relayv1.PoolUploadRequest) { m.Sets[0].Packages[0].KeyPackage = randomBytes(300) }), nil, mmrerr.PackageInvalid},
			variant{"cut package", ups(func(m *relayv1.PoolUploadRequest) {
				kp := m.Sets[0].Packages[0].KeyPackage
				m.Sets[0].Packages[0].KeyPackage = kp[:len(kp)-40]
			}), nil, mmrerr.PackageInvalid},
			variant{"forged package", ups(func(m *relayv1.PoolUploadRequest) {
				m.Sets[0].Packages[0].KeyPackage = flip(m.Sets[0].Packages[0].KeyPackage)
			}), nil, mmrerr.PackageInvalid},
			variant{"other user pseudonym", ups(func(m *relayv1.PoolUploadRequest) { m.Sets[0].UserPseudonym = newUser.String() }), nil, mmrerr.PackageInvalid},
			variant{"a real user", ups(func(m *relayv1.PoolUploadRequest) { m.Sets[0].UserPseudonym = w.bob.User() }), nil, mmrerr.PackageInvalid},
			variant{"unknown slot", ups(func(m *relayv1.PoolUploadRequest) { m.Sets[0].Packages[0].Slot = randomBytes(16) }), nil, mmrerr.PackageInvalid},
			variant{"marked last-resort", ups(func(m *relayv1.PoolUploadRequest) { m.Sets[0].LastResort = !m.Sets[0].LastResort }), nil, mmrerr.PackageInvalid},
			variant{"the same set twice", ups(func(m *relayv1.PoolUploadRequest) { m.Sets = append(m.Sets, m.Sets[0]) }), nil, mmrerr.PackageInvalid}))
		g.method(t, owner(seal.MethodPoolList, false, &relayv1.PoolListRequest{PoolId: pool[:]}))
		g.method(t, owner(seal.MethodPoolDelete, false, &relayv1.PoolDeleteRequest{PoolId: pool[:]}))

		fetch := &relayv1.FetchKeyPackagesRequest{ConnectionToken: conn.OwnToken, CipherSuite: 1, CredentialTypes: []uint32{uint32(mls.CredentialX509)}}
		open := func(method string, body proto.Message, cases ...variant) spec {
			return spec{method: method, token: true, kind: seal.AuthNone, body: body, cases: append(cases,
				variant{"signed", nil, func(a *ask) { a.kind, a.signer = seal.AuthPool, stranger }, mmrerr.Malformed},
				variant{"named a room", nil, func(a *ask) { a.GroupID = w.groupID }, mmrerr.Malformed})}
		}
		fetchSpec := open(seal.MethodFetchKeyPackages, fetch,
			variant{"short token", change(fetch, func(m *relayv1.FetchKeyPackagesRequest) { m.ConnectionToken = m.ConnectionToken[1:] }), nil, mmrerr.Malformed},
			variant{"nine credential types", change(fetch, func(m *relayv1.FetchKeyPackagesRequest) { m.CredentialTypes = make([]uint32, 9) }), nil, mmrerr.Malformed})
		fetchSpec.refused = mmrerr.NoConsent
		fetchSpec.unknown = func(m proto.Message, _ *ask) { m.(*relayv1.FetchKeyPackagesRequest).ConnectionToken = randomBytes(32) }
		fetchSpec.existing = []variant{
			{name: "no package of that credential type"},
			{name: "no package of that suite", body: change(fetch, func(m *relayv1.FetchKeyPackagesRequest) { m.CipherSuite = 3 })},
			{name: "no credential type", body: change(fetch, func(m *relayv1.FetchKeyPackagesRequest) { m.CredentialTypes = nil })},
		}
		g.method(t, fetchSpec)

		user := func(u string) func() proto.Message {
			return func() proto.Message { return &relayv1.FetchConnectionPackageRequest{User: u} }
		}
		pkg := open(seal.MethodFetchConnectionPackage, &relayv1.FetchConnectionPackageRequest{User: "mimi://b.example/u/nobody"})
		pkg.refused = mmrerr.NoConsent
		pkg.unknown = func(m proto.Message, _ *ask) {
			m.(*relayv1.FetchConnectionPackageRequest).User = "mimi://b.example/u/another"
		}
		pkg.existing = []variant{
			{name: "user without packages"},
			{name: "user of another provider", body: user("mimi://a.example/u/alice")},
			{name: "no user", body: user("")},
			{name: "garbage", body: user("mimi://b.example/u/../../x")},
			{name: "device", body: user("mimi://b.example/d/bob-phone")},
			{name: "long", body: user("mimi://b.example/u/" + strings.Repeat("x", 1000))},
		}
		g.method(t, pkg)

		request := &relayv1.SendConnectionRequestRequest{PackageRef: randomBytes(32), Sealed: randomBytes(4200)}
		send := open(seal.MethodSendConnectionRequest, request,
			variant{"short ref", change(request, func(m *relayv1.SendConnectionRequestRequest) { m.PackageRef = m.PackageRef[1:] }), nil, mmrerr.Malformed},
			variant{"nothing sealed", change(request, func(m *relayv1.SendConnectionRequestRequest) { m.Sealed = nil }), nil, mmrerr.Malformed},
			variant{"oversized", change(request, func(m *relayv1.SendConnectionRequestRequest) { m.Sealed = randomBytes(8193) }), nil, mmrerr.Malformed},
			variant{"unknown package is answered ok", nil, nil, mmrerr.OK})
		g.method(t, send)

		newQueue := &relayv1.QueueCreateRequest{ReadKey: stranger.Public().Bytes()}
		g.method(t, spec{
			method: seal.MethodQueueCreate, token: true, kind: seal.AuthQueue, signer: stranger, body: newQueue, badSig: mmrerr.Malformed,
			cases: []variant{
				{"no key", func() proto.Message { return &relayv1.QueueCreateRequest{} }, nil, mmrerr.Malformed},
				{"short key", func() proto.Message { return &relayv1.QueueCreateRequest{ReadKey: randomBytes(31)} }, nil, mmrerr.Malformed},
				{"31 days", change(newQueue, func(m *relayv1.QueueCreateRequest) { m.MaxAgeDays = 31 }), nil, mmrerr.Malformed},
				{"a room's key", nil, func(a *ask) { a.EARKey = primitive.NewSecret() }, mmrerr.Malformed},
			},
		})
		unknownQueue := func(m proto.Message, _ *ask) {
			m.ProtoReflect().Set(m.ProtoReflect().Descriptor().Fields().ByName("queue_id"), protoBytes(randomBytes(16)))
		}
		reader := func(method string, body proto.Message, cases ...variant) spec {
			return spec{method: method, kind: seal.AuthQueue, signer: queueKey, body: body, badSig: mmrerr.NoConsent, unknown: unknownQueue, refused: mmrerr.NoConsent, cases: append(cases,
				variant{"short queue id", func() proto.Message {
					m := proto.Clone(body)
					m.ProtoReflect().Set(m.ProtoReflect().Descriptor().Fields().ByName("queue_id"), protoBytes(randomBytes(15)))
					return m
				}, nil, mmrerr.Malformed},
				variant{"other kind of key", nil, func(a *ask) { a.kind = seal.AuthPool }, mmrerr.Malformed})}
		}
		id := bob.Account.QueueID
		block := &relayv1.QueueBlockRequest{QueueId: id, Handle: randomBytes(16)}
		g.method(t, reader(seal.MethodQueueBlock, block,
			variant{"short handle", change(block, func(m *relayv1.QueueBlockRequest) { m.Handle = m.Handle[1:] }), nil, mmrerr.Malformed}))
		g.method(t, reader(seal.MethodQueueDelete, &relayv1.QueueDeleteRequest{QueueId: id}))
		g.method(t, reader(seal.MethodQueueStat, &relayv1.QueueStatRequest{QueueId: id}))
		push := &relayv1.QueueSetPushRequest{QueueId: id, Token: randomBytes(100)}
		g.method(t, reader(seal.MethodQueueSetPush, push,
			variant{"long token", change(push, func(m *relayv1.QueueSetPushRequest) { m.Token = randomBytes(513) }), nil, mmrerr.Malformed}))
	})
	g.complete(t)
	right := spec{method: seal.MethodQueueStat, kind: seal.AuthQueue, signer: queueKey, body: &relayv1.QueueStatRequest{QueueId: bob.Account.QueueID}}
	if got := g.ask(g.right(right)); got.Code != mmrerr.OK {
		t.Errorf("right QueueStat: %s", got)
	}

	// The gateway on the client listener is the same gateway, without an account.
	anon := w.gate(t, relayB, raw{t, w.world}.anonymous(relayB), "provider:b.example")
	w.unchanged(t, func() { anon.outer(t) })
	onSession := w.gate(t, relayB, raw{t, w.world}.session(w.bob, relayB), "provider:b.example")
	if got := onSession.ask(onSession.right(right)); got.Code != mmrerr.Malformed {
		t.Errorf("provider method on an account session: %s", got)
	}
}

// TestUndecodable: every RPC of every listener with bytes that are no message.
func TestUndecodable(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	r := raw{t, w.world}
	relayA := w.relays["a.example"]
	w.unchanged(t, func() {
		undecodable(t, r.peer("a.example", w.hub), w.hub.rpcs)
		undecodable(t, r.peer("hub.example", relayA), relayA.rpcs)
		undecodable(t, r.anonymous(relayA), relayA.rpcs)
		undecodable(t, r.session(w.alice, relayA), relayA.rpcs)
	})
	// GetPublishedKeys takes nothing that could be wrong; it answers on both listeners.
	for _, c := range []*grpc.ClientConn{r.peer("hub.example", relayA), r.anonymous(relayA), r.peer("a.example", w.hub)} {
		if _, err := gatewayv1.NewGatewayServiceClient(c).GetPublishedKeys(context.Background(), &gatewayv1.GetPublishedKeysRequest{}); err != nil {
			t.Errorf("GetPublishedKeys: %v", err)
		}
	}
	want := []string{
		"mmr.delivery.v1.DeliveryService/Deliver", "mmr.gateway.v1.GatewayService/Call", "mmr.gateway.v1.GatewayService/GetPublishedKeys",
		"mmr.relay.v1.AccountService/DeleteConnectionRequests", "mmr.relay.v1.AccountService/IssueTokens", "mmr.relay.v1.AccountService/ListConnectionRequests",
		"mmr.relay.v1.AccountService/PublishConnectionPackages", "mmr.relay.v1.AccountService/Register", "mmr.relay.v1.AccountService/RemoveClient", "mmr.relay.v1.AccountService/Renew",
		"mmr.relay.v1.ForwardService/Forward", "mmr.relay.v1.ForwardService/GetPublishedKeys", "mmr.relay.v1.MailboxService/Listen",
	}
	if got := slices.Sorted(maps.Keys(relayA.rpcs)); !slices.Equal(got, want) {
		t.Errorf("a relay serves %q: the tables of this file know %q", got, want)
	}
	if got := slices.Sorted(maps.Keys(w.hub.rpcs)); !slices.Equal(got, want[1:3]) {
		t.Errorf("a hub serves %q", got)
	}
}
