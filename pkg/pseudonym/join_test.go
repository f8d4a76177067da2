package pseudonym_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

func testJoinLink(tb testing.TB) *pseudonym.JoinLink {
	tb.Helper()
	return &pseudonym.JoinLink{
		HubDomain: "h.example", GroupID: bytes.Repeat([]byte{0xc0}, 32), LinkID: [16]byte{1}, Seed: primitive.NewSecret(),
		Inviter: handle(tb, "a.example", pseudonym.User, "alice"), NotAfter: 5,
	}
}

func sameLink(a, b *pseudonym.JoinLink) bool {
	return a.HubDomain == b.HubDomain && bytes.Equal(a.GroupID, b.GroupID) && a.LinkID == b.LinkID && a.Seed.Equal(b.Seed) &&
		a.WrapperKey.Equal(b.WrapperKey) && a.Inviter == b.Inviter && a.NotAfter == b.NotAfter
}

func TestJoinLinks(t *testing.T) {
	tree, static := testJoinLink(t), testJoinLink(t)
	static.WrapperKey = primitive.NewSecret()
	for _, l := range []*pseudonym.JoinLink{tree, static} {
		uri := l.URI()
		got, err := pseudonym.ParseJoinLink(uri)
		if err != nil || !sameLink(got, l) {
			t.Fatalf("round trip: %v", err)
		}
		if room, _, _ := strings.Cut(uri, "#"); room != pseudonym.RoomURI("h.example", l.GroupID) {
			t.Errorf("link before the fragment: %s", room)
		}
		// The hub's half matches ours.
		r := got.Room()
		if r.CodeHash != pseudonym.CodeHash(got.Code()) || r.Pub != got.Key().Public() || r.ID != l.LinkID || r.NotAfter != l.NotAfter {
			t.Error("room link differs")
		}
		for _, verb := range []string{"%v", "%s"} {
			if s := fmt.Sprintf(verb, l); s != "[redacted]" {
				t.Errorf("prints %q", s)
			}
		}
	}
	uri := tree.URI()
	room, fragment, _ := strings.Cut(uri, "#")
	for name, bad := range map[string]string{
		"empty":           "",
		"no fragment":     room,
		"empty fragment":  room + "#",
		"other room":      pseudonym.RoomURI("h.example", make([]byte, 32)) + "#" + fragment,
		"other hub":       strings.Replace(uri, "h.example", "g.example", 1),
		"padding":         uri + "=",
		"line end":        uri[:len(room)+8] + "\n" + uri[len(room)+8:],
		"cut":             uri[:len(uri)-2],
		"another version": room + "#" + "Ag" + fragment[2:],
		"long":            room + "#" + strings.Repeat("A", 4000),
		"two fragments":   uri + "#",
	} {
		l, err := pseudonym.ParseJoinLink(bad)
		is(t, name, err, mmrerr.Malformed)
		if l != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, change := range map[string]func(l *pseudonym.JoinLink){
		"hub":     func(l *pseudonym.JoinLink) { l.HubDomain = "h" },
		"group":   func(l *pseudonym.JoinLink) { l.GroupID = l.GroupID[1:] },
		"seed":    func(l *pseudonym.JoinLink) { l.Seed = primitive.Secret{} },
		"inviter": func(l *pseudonym.JoinLink) { l.Inviter = handle(t, "a.example", pseudonym.Client, "phone") },
		"nobody":  func(l *pseudonym.JoinLink) { l.Inviter = pseudonym.Handle{} },
	} {
		l := testJoinLink(t)
		change(l)
		b, err := l.AppendBinary(nil)
		is(t, name, err, mmrerr.Malformed)
		if b != nil || l.URI() != "" {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestSiblingProof(t *testing.T) {
	const at = 1_000_000
	gid := bytes.Repeat([]byte{0xc0}, 32)
	key, other := newKey(t, primitive.Ed25519), newKey(t, primitive.Ed25519)
	device := newTBS(t, "a.example")
	p, err := pseudonym.NewSiblingProof(gid, 7, at+1800, device, key)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := p.AppendBinary(nil)
	p, err = pseudonym.ParseSiblingProof(b)
	if err != nil || p.Leaf != 7 {
		t.Fatal(err)
	}
	is(t, "good", p.Verify(gid, device, key.Public(), at), nil)
	is(t, "at its end", p.Verify(gid, device, key.Public(), at+1800), nil)
	client, user, k := device, device, device
	client.Client = newID(t, "a.example", pseudonym.Client)
	user.User = newID(t, "a.example", pseudonym.User)
	k.Key = other.Public().Bytes()
	late := *p
	late.NotAfter++
	for name, err := range map[string]error{
		"expired":            p.Verify(gid, device, key.Public(), at+1801),
		"too far":            p.Verify(gid, device, key.Public(), at+1800-3601),
		"group":              p.Verify(gid[1:], device, key.Public(), at),
		"client pseudonym":   p.Verify(gid, client, key.Public(), at),
		"user pseudonym":     p.Verify(gid, user, key.Public(), at),
		"device key":         p.Verify(gid, k, key.Public(), at),
		"leaf key":           p.Verify(gid, device, other.Public(), at),
		"prolonged by hand":  late.Verify(gid, device, key.Public(), at),
		"no leaf key at all": p.Verify(gid, device, primitive.PublicKey{}, at),
	} {
		is(t, name, err, mmrerr.JoinNotAllowed)
	}
}

func TestPools(t *testing.T) {
	seed := primitive.NewSecret()
	a, err := pseudonym.UserPseudonym(seed, "a.example", 7)
	if err != nil || a.Kind() != pseudonym.User || a.Host() != "a.example" {
		t.Errorf("%v", err)
	}
	b, _ := pseudonym.UserPseudonym(seed, "a.example", 8)
	c, _ := pseudonym.UserPseudonym(primitive.NewSecret(), "a.example", 7)
	if a == b || a == c {
		t.Error("pseudonyms repeat")
	}
	if id, err := pseudonym.UserPseudonym(seed, "localhost", 7); err == nil || id != (pseudonym.ID{}) {
		t.Error("pseudonym at localhost")
	}
}

func FuzzJoinLinkMalleability(f *testing.F) {
	l := testJoinLink(f)
	f.Add(l.URI())
	l.WrapperKey = primitive.NewSecret()
	f.Add(l.URI())
	f.Fuzz(func(t *testing.T, s string) {
		l, err := pseudonym.ParseJoinLink(s)
		if err != nil {
			if l != nil {
				t.Error("result with an error")
			}
			return
		}
		if l.URI() != s {
			t.Errorf("%q re-encodes to %q", s, l.URI())
		}
	})
}

func FuzzJoinLinkBytesMalleability(f *testing.F) {
	l := testJoinLink(f)
	b, _ := l.AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := pseudonym.ParseJoinLinkBytes(b)
		if err != nil {
			if l != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := l.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}

func FuzzSiblingProofMalleability(f *testing.F) {
	b, _ := (&pseudonym.SiblingProof{Leaf: 3, NotAfter: 9, Signature: make([]byte, 64)}).AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := pseudonym.ParseSiblingProof(b)
		if err != nil {
			if p != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := p.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}
