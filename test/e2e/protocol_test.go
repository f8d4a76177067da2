package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// stored reads a record of a person's state into a map.
func (p *person) stored(prefix string) map[string]map[string]any {
	p.tb.Helper()
	m, err := p.store.Load()
	if err != nil {
		p.tb.Fatal(err)
	}
	out := make(map[string]map[string]any)
	for k, v := range m {
		if rest, ok := strings.CutPrefix(k, prefix); ok && !strings.HasPrefix(k, "public/") && !strings.HasPrefix(k, "private/") {
			x := make(map[string]any)
			if err := json.Unmarshal(v, &x); err != nil {
				p.tb.Fatal(err)
			}
			out[rest] = x
		}
	}
	return out
}

// roomRecord is what is stored of one room.
func (p *person) roomRecord(room string) map[string]any {
	p.tb.Helper()
	_, id, _ := strings.Cut(room, "/r/")
	r := p.stored("room/")[id]
	if r == nil {
		p.tb.Fatalf("%s has no such room", p.name)
	}
	return r
}

// TestForgetting: link keys go with their leaves, and the creator's own is not
// one that a connection could derive (SPEC.md ).
func TestForgetting(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob, w.carol})
	know(t, room, w.alice, w.bob, w.carol)
	keys := func() map[string]any { return w.bob.roomRecord(room)["LinkKeys"].(map[string]any) }
	if len(keys()) != 3 {
		t.Fatalf("bob holds %d link keys of 3 leaves", len(keys()))
	}
	creation := w.hub.tap.of(seal.MethodCreateRoom, w.bob.secrets().Rooms[room].GroupID)[0]
	m, err := mls.ParseMessage(unmarshal(t, creation.Body, new(hubv1.CreateRoomRequest)).GetGroupInfo(), nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := mls.NewPublicGroup(m.GroupInfo.Message(), nil, &mls.Options{Rules: mls.OpenRules{}})
	if err != nil {
		t.Fatal(err)
	}
	cred, err := pseudonym.ParseCredential(pseudonym.CredentialPseudonymous, g.Leaf(0).Credential.Body)
	if err != nil {
		t.Fatal(err)
	}
	for peer, c := range w.alice.secrets().Conns {
		s, err := primitive.ParseSecret(c.OwnKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cred.Open(pseudonym.DeriveLinkKey(s, cred.TBS)); err == nil {
			t.Errorf("the connection key for %s opens the creator's credential", peer)
		}
	}
	if err := w.alice.Remove(ctx, room, w.carol.User()); err != nil {
		t.Fatal(err)
	}
	know(t, room, w.alice, w.bob)
	if n := len(keys()); n != 2 {
		t.Errorf("bob holds %d link keys of 2 leaves", n)
	}
}

// TestRekey: an own path commit brings a fresh credential, address and delivery
// key under the same user pseudonym (SPEC.md ).
func TestRekey(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	for name, opts := range map[string][]client.RoomOption{"treewrap": nil, "static": {client.WithStaticLinks(), client.WithHubKey()}} {
		room := w.room(ctx, t, []*person{w.bob}, opts...)
		know(t, room, w.alice, w.bob)
		before := len(w.hub.tap.of(seal.MethodUpdate, w.alice.secrets().Rooms[room].GroupID))
		for range 2 {
			if err := w.bob.Refresh(ctx, room); err != nil {
				t.Fatal(err)
			}
		}
		var leaves []*mls.LeafNode
		for _, r := range w.hub.tap.of(seal.MethodUpdate, w.alice.secrets().Rooms[room].GroupID)[before:] {
			m, err := mls.ParseMessage(unmarshal(t, r.Body, new(hubv1.UpdateRequest)).GetCommit(), nil)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, m.Public.Content.Commit.Path.Leaf)
		}
		if len(leaves) != 2 {
			t.Fatalf("%s: %d commits", name, len(leaves))
		}
		a, err1 := pseudonym.ParseCredential(pseudonym.CredentialPseudonymous, leaves[0].Credential.Body)
		b, err2 := pseudonym.ParseCredential(pseudonym.CredentialPseudonymous, leaves[1].Credential.Body)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if a.User != b.User || a.Client == b.Client || bytes.Equal(leaves[0].SignatureKey, leaves[1].SignatureKey) || bytes.Equal(leaves[0].Extensions[0].Data, leaves[1].Extensions[0].Data) {
			t.Errorf("%s: the second commit of bob: same user %v, same client %v", name, a.User == b.User, a.Client == b.Client)
		}
		know(t, room, w.alice, w.bob)
		talk(ctx, t, room, w.bob, w.alice)
	}
}

// TestStrangeRooms: nothing is disclosed to a room whose inviter is not in it,
// and a Welcome through a pool that belongs to somebody else is dropped (SPEC.md
//
func TestStrangeRooms(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, nil)
	uri, err := w.alice.CreateLink(ctx, room, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	link, err := pseudonym.ParseJoinLink(uri)
	if err != nil {
		t.Fatal(err)
	}
	if link.Inviter, err = pseudonym.ParseHandle(w.carol.User()); err != nil {
		t.Fatal(err)
	}
	joins := len(w.hub.tap.all(seal.MethodExternalJoin))
	if _, err := w.bob.Join(ctx, link.URI()); !errors.Is(err, client.ErrUnverified) {
		t.Errorf("joining a room without its inviter: %v", err)
	}
	if n := len(w.hub.tap.all(seal.MethodExternalJoin)); n != joins {
		t.Error("the joiner disclosed itself")
	}

	// Carol has got hold of what alice knows of her connection with bob.
	m, err := w.alice.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	w.carol.offline()
	if err := w.carol.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.carol.store.Write(map[string][]byte{"conn/" + w.bob.User(): m["conn/"+w.bob.User()]}); err != nil {
		t.Fatal(err)
	}
	if w.carol.Client, err = client.Open(w.carol.store, w.trust, quick...); err != nil {
		t.Fatal(err)
	}
	trap, err := w.carol.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.carol.Add(ctx, trap, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	w.quiet(t)
	for _, r := range w.bob.Rooms() {
		if r.Room == trap {
			t.Error("bob is in a room of somebody who used another's pool")
		}
	}
}

// TestPoolsRunDry: sets are served once, then last-resort ones, at most ten an
// hour; the owner fills up and replaces (SPEC.md ).
func TestPoolsRunDry(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	w.bob.offline()
	var users []string
	for i := range 11 {
		room, err := w.alice.CreateRoom(ctx, "hub.example")
		if err != nil {
			t.Fatal(err)
		}
		err = w.alice.Add(ctx, room, w.bob.User())
		if i == 10 {
			if !errors.Is(err, mmrerr.NoConsent) {
				t.Errorf("the eleventh set of an hour: %v", err)
			}
			break
		}
		if err != nil {
			t.Fatalf("set %d: %v", i, err)
		}
		info, err := w.alice.Room(room)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range info.Members {
			if m.User == w.bob.User() {
				users = append(users, m.Pseudonym)
			}
		}
	}
	slices.Sort(users)
	if n := len(slices.Compact(slices.Clone(users))); n != 7 && n != 8 {
		t.Errorf("ten sets of a pool of six and two last-resort ones have %d pseudonyms", n)
	}
	if err := w.bob.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	uploads := len(w.relays["b.example"].tap.all(seal.MethodPoolUpload))
	if err := w.bob.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	fresh, last := 0, 0
	for _, r := range w.relays["b.example"].tap.all(seal.MethodPoolUpload)[uploads:] {
		for _, s := range unmarshal(t, r.Body, new(relayv1.PoolUploadRequest)).GetSets() {
			if s.GetLastResort() {
				last++
			} else {
				fresh++
			}
			if slices.Contains(users, s.GetUserPseudonym()) {
				t.Error("a pseudonym is used again")
			}
		}
	}
	if fresh != 6 || last == 0 {
		t.Errorf("the owner filled up %d sets and replaced %d last-resort ones", fresh, last)
	}
}

// TestSchedule: periodic work has a random time of its own for each room, and
// tokens are fetched ahead of need (SPEC.md ).
func TestSchedule(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	for range 3 {
		w.room(ctx, t, nil)
	}
	if err := w.alice.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	m, err := w.alice.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	var due map[string]int64
	if err := json.Unmarshal(m["schedule"], &due); err != nil {
		t.Fatal(err)
	}
	times := make(map[int64]string)
	seals := 0
	for name, at := range due {
		if at <= time.Now().Unix() {
			t.Errorf("%s is due at once", name)
		}
		kind, _, _ := strings.Cut(name, "/")
		if kind == "seal" || kind == "quiet" {
			seals++
			if other, ok := times[at]; ok {
				t.Errorf("%s and %s are due together", name, other)
			}
			times[at] = name
		}
	}
	if seals < 6 {
		t.Errorf("%d pieces of work for three rooms: %v", seals, due)
	}
	before := len(w.hub.tap.all(seal.MethodUpdate))
	if err := w.alice.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(w.hub.tap.all(seal.MethodUpdate)); n != before {
		t.Error("rooms are sealed anew together")
	}
	stock := func() (n int) {
		for _, s := range w.alice.Tokens() {
			n = max(n, s.Count)
		}
		return n
	}
	for range 20 {
		if err := w.alice.Maintain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if stock() < 5 {
		t.Errorf("tokens %v", w.alice.Tokens())
	}
}

// TestDisclosure: a member can prove to others who another member is (SPEC.md
// R-132); nothing else proves it.
func TestDisclosure(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob})
	know(t, room, w.alice, w.bob)
	info, err := w.alice.Room(room)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Members {
		proof, err := w.alice.Disclosure(room, m.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		id, user, err := client.OpenDisclosure(proof, w.trust)
		if err != nil || id != m.Pseudonym || user != m.User {
			t.Errorf("leaf %d: %s is %s, %v", m.Leaf, id, user, err)
		}
		for i := range proof {
			if _, _, err := client.OpenDisclosure(slices.Concat(proof[:i], []byte{proof[i] ^ 1}, proof[i+1:]), w.trust); err == nil {
				t.Fatalf("leaf %d: byte %d does not matter", m.Leaf, i)
			}
		}
	}
	if _, err := w.alice.Disclosure(room, 99); !errors.Is(err, client.ErrUnverified) {
		t.Errorf("a leaf that is not there: %v", err)
	}
}

// TestPackagesLookAlike: KeyPackages of two users of one provider differ in
// nothing but random-looking fields (SPEC.md R-134).
func TestPackagesLookAlike(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	bob, carol := w.bob.secrets().Conns[w.alice.User()], w.carol.secrets().Conns[w.alice.User()]
	pools := make(map[string][][]byte) // by pool: the packages without what is random
	for _, r := range w.relays["b.example"].tap.all(seal.MethodPoolUpload) {
		req := unmarshal(t, r.Body, new(relayv1.PoolUploadRequest))
		for _, s := range req.GetSets() {
			if s.GetLastResort() {
				continue
			}
			for _, p := range s.GetPackages() {
				pools[string(req.GetPoolId())] = append(pools[string(req.GetPoolId())], blank(t, p.GetKeyPackage()))
			}
		}
	}
	id := func(token []byte) string {
		s, err := primitive.ParseSecret(token)
		if err != nil {
			t.Fatal(err)
		}
		h := pseudonym.PoolID(s)
		return string(h[:])
	}
	a, b := pools[id(bob.OwnToken)], pools[id(carol.OwnToken)]
	if len(a) == 0 || len(b) == 0 {
		t.Fatal("no packages")
	}
	for _, p := range append(slices.Clone(a), b...) {
		if !bytes.Equal(p, a[0]) {
			t.Error("two packages differ in more than random fields")
		}
	}
}

// blank returns a KeyPackage with everything random set to zeros.
func blank(t *testing.T, raw []byte) []byte {
	t.Helper()
	kp, err := mls.ParseKeyPackage(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(raw)
	cred, err := pseudonym.ParseCredential(pseudonym.CredentialPseudonymous, kp.Leaf.Credential.Body)
	if err != nil {
		t.Fatal(err)
	}
	d, err := seal.ParseDelivery(kp.Leaf.Extensions[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	uuid := func(id pseudonym.ID) []byte { s := id.String(); return []byte(s[len(s)-36:]) }
	for _, random := range [][]byte{
		kp.InitKey, kp.Leaf.EncryptionKey, kp.Leaf.SignatureKey, cred.Ciphertext, uuid(cred.Client), uuid(cred.User),
		d.Sealed.KEMOutput, d.Sealed.Ciphertext, d.Key.Bytes(), kp.Leaf.Signature, kp.Signature,
	} {
		if len(random) == 0 || !bytes.Contains(out, random) {
			t.Fatal("a field is not where it should be")
		}
		out = bytes.ReplaceAll(out, random, make([]byte, len(random)))
	}
	return out
}

// resign makes a GroupInfo say something else, signed by its signer.
func resign(t *testing.T, raw []byte, key *primitive.SigningKey, change func(*mls.GroupInfo)) []byte {
	m, err := mls.ParseMessage(raw, nil)
	if err != nil {
		t.Error(err)
		return raw
	}
	change(m.GroupInfo)
	if m.GroupInfo.Signature, err = key.SignWithLabel("GroupInfoTBS", m.GroupInfo.Seal().TBS()); err != nil {
		t.Error(err)
	}
	return m.GroupInfo.Seal().Message()
}

// forgeUpdate makes a client's next hub.Update say something else, validly signed.
func (w *trio) forgeUpdate(t *testing.T, by *person, room string, change func(*hubv1.UpdateRequest, *primitive.SigningKey)) {
	t.Helper()
	key, leaf := by.leafKey(room)
	w.hub.tap.forge(seal.MethodUpdate, func(r *seal.Request) {
		w.hub.tap.forge(seal.MethodUpdate, nil)
		req := new(hubv1.UpdateRequest)
		if err := proto.Unmarshal(r.Body, req); err != nil {
			t.Error(err)
			return
		}
		change(req, key)
		var err error
		if r.Body, err = proto.Marshal(req); err != nil {
			t.Error(err)
		}
		if err := r.Sign(seal.AuthLeaf, leaf, key); err != nil {
			t.Error(err)
		}
	})
}

// TestWrongExternalPub: a committer leaves a GroupInfo that nobody could join by;
// the others notice and put a right one (SPEC.md R-126).
func TestWrongExternalPub(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob})
	know(t, room, w.alice, w.bob)
	uri, err := w.alice.CreateLink(ctx, room, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	know(t, room, w.alice, w.bob)
	w.forgeUpdate(t, w.alice, room, func(req *hubv1.UpdateRequest, key *primitive.SigningKey) {
		req.GroupInfo = resign(t, req.GetGroupInfo(), key, func(g *mls.GroupInfo) {
			for i, e := range g.Extensions {
				if e.Type == mls.ExtensionExternalPub {
					g.Extensions[i].Data = slices.Concat(e.Data[:len(e.Data)-32], randomBytes(32))
				}
			}
		})
	})
	t.Log("alice, who was made to lie:", w.alice.SetRole(ctx, room, w.bob.User(), "moderator"))
	put := func() int { return len(w.hub.tap.of(seal.MethodPutGroupInfo, w.bob.secrets().Rooms[room].GroupID)) }
	for range 500 {
		if put() > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if put() == 0 {
		t.Fatal("nobody put a right GroupInfo")
	}
	if _, err := w.carol.Join(ctx, uri); err != nil {
		t.Errorf("joining by the corrected GroupInfo: %v", err)
	}
	talk(ctx, t, room, w.carol, w.bob)
}

// TestStuck: a commit that the hub accepted and nobody can process is reported,
// and nobody joins again on the word of its author (SPEC.md ).
func TestStuck(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob, w.carol})
	know(t, room, w.alice, w.bob, w.carol)
	w.forgeUpdate(t, w.alice, room, func(req *hubv1.UpdateRequest, key *primitive.SigningKey) {
		m, err := mls.ParseMessage(req.GetCommit(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		tag := m.Public.Auth.ConfirmationTag
		tag[0] ^= 1
		req.Commit = m.Public.Message()
		req.GroupInfo = resign(t, req.GetGroupInfo(), key, func(g *mls.GroupInfo) { g.ConfirmationTag = bytes.Clone(tag) })
	})
	t.Log("alice, who is told another history than hers:", w.alice.SetRole(ctx, room, w.bob.User(), "moderator"))
	for _, p := range []*person{w.bob, w.carol} {
		p.waitFor("a commit that cannot be processed", func(e client.Event) bool { return e.Kind == client.KindStuck && e.Room == room })
		if err := p.Send(ctx, room, []byte("?")); !errors.Is(err, client.ErrStuck) {
			t.Errorf("%s sends into a stuck room: %v", p.name, err)
		}
	}
	id := w.bob.secrets().Rooms[room].GroupID
	for range 500 {
		if len(w.hub.tap.of(seal.MethodReportCommit, id)) == 2 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := len(w.hub.tap.of(seal.MethodReportCommit, id)); n != 2 {
		t.Errorf("%d reports", n)
	}
	if n := len(w.hub.tap.of(seal.MethodExternalJoin, id)); n != 0 {
		t.Error("somebody joined again on the word of the commit's author")
	}
	info, err := w.bob.Room(room)
	if err != nil || !info.Stuck {
		t.Errorf("the room: %+v, %v", info, err)
	}
}

// TestRecreate: a room is made anew with those who are connected (SPEC.md R-142).
func TestRecreate(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob, w.carol}, client.WithInviteOnly())
	know(t, room, w.alice, w.bob, w.carol)
	fresh, missing, err := w.alice.Recreate(ctx, room, "", w.carol.User())
	if err != nil || len(missing) != 0 {
		t.Fatal(err, missing)
	}
	w.bob.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == fresh })
	know(t, fresh, w.alice, w.bob)
	talk(ctx, t, fresh, w.bob, w.alice)
	if _, missing, err := w.bob.Recreate(ctx, room, ""); err != nil || !slices.Equal(missing, []string{w.carol.User()}) {
		t.Errorf("by bob, who is not connected with carol: missing %v, %v", missing, err)
	}
}

// TestPoolFull: a pool holds a hundred sets (SPEC.md R-43).
func TestPoolFull(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	s, err := primitive.ParseSecret(w.bob.secrets().Conns[w.alice.User()].OwnToken)
	if err != nil {
		t.Fatal(err)
	}
	id := pseudonym.PoolID(s)
	store, group := w.relays["b.example"].stores["packages"], "p"+string(id[:])
	var some kv.Record
	for rec, err := range store.Scan(ctx, group, "set/") {
		if err != nil {
			t.Fatal(err)
		}
		some = rec
		if _, err := store.Apply(ctx, []kv.Op{{Key: rec.Key}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if _, err := store.Apply(ctx, []kv.Op{{Key: kv.Key{Group: group, Name: fmt.Sprintf("set/%064x", i)}, Value: some.Value}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.bob.Maintain(ctx); !errors.Is(err, mmrerr.PoolFull) {
		t.Errorf("the hundred and first set: %v", err)
	}
}

// TestUnavailable: a service that cannot reach its store says so, and the client
// gives up after its time.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	w.hub.tap.refuse(seal.MethodSubmit)
	if err := w.alice.Send(within(t), w.room, []byte("?")); !errors.Is(err, mmrerr.Unavailable) {
		t.Errorf("sending to a hub without a store: %v", err)
	}
}
