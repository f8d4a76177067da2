package pseudonym_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// connection is Alice asking Bob, who are at different providers.
type connection struct {
	roots      pseudonym.Roots
	alice, bob *client
	packageKey *primitive.KEMPrivateKey
	pkg        *pseudonym.ConnectionPackage
	respKey    *primitive.KEMPrivateKey
	request    pseudonym.ConnectionRequest
	gid        []byte
}

func newConnection(tb testing.TB, kem primitive.KEM) *connection {
	tb.Helper()
	a, b := newProvider(tb, "a.example"), newProvider(tb, "b.example")
	c := &connection{
		roots: pseudonym.Roots{"a.example": a.pool(tb), "b.example": b.pool(tb)},
		alice: a.client(tb, "alice", "alice-phone", primitive.Ed25519), bob: b.client(tb, "bob", "bob-phone", primitive.ECDSAP256),
		gid: bytes.Repeat([]byte{0xc0}, 32),
	}
	c.packageKey, _ = primitive.GenerateKEMKey(kem)
	c.respKey, _ = primitive.GenerateKEMKey(primitive.X25519)
	s := uint64(now.Unix())
	var err error
	if c.pkg, err = pseudonym.NewConnectionPackage(c.packageKey.Public(), s-60, s-60+30*86400, false, c.bob.real); err != nil {
		tb.Fatal(err)
	}
	c.request = pseudonym.ConnectionRequest{
		Chain: c.alice.real.Chain, RoomID: c.gid, ConnectionKey: primitive.NewSecret(), ResponseKey: c.respKey.Public(),
		Token: primitive.NewSecret(), KPProvider: "a.example", HubDomain: "h.example", LinkID: [16]byte{9}, LinkSeed: primitive.NewSecret(),
	}
	return c
}

func TestConnectionPackages(t *testing.T) {
	for _, kem := range []primitive.KEM{primitive.X25519, primitive.XWing} {
		c := newConnection(t, kem)
		b, _ := c.pkg.AppendBinary(nil)
		p, err := pseudonym.ParseConnectionPackage(b)
		if err != nil || p.Hash() != c.pkg.Hash() || p.Key != c.pkg.Key || p.LastResort {
			t.Fatalf("round trip: %v", err)
		}
		real, err := p.Verify(c.bob.user, c.roots, now)
		if err != nil || real.User != c.bob.user || real.Client != c.bob.device {
			t.Errorf("%v", err)
		}
		resort, key, signer := *p, *p, *p
		resort.LastResort = true
		other, _ := primitive.GenerateKEMKey(kem)
		key.Key = other.Public()
		signer.Chain = c.alice.real.Chain
		for name, f := range map[string]func() (pseudonym.Real, error){
			"user":        func() (pseudonym.Real, error) { return p.Verify(handle(t, "b.example", 'u', "bobby"), c.roots, now) },
			"client name": func() (pseudonym.Real, error) { return p.Verify(c.bob.device, c.roots, now) },
			"domain":      func() (pseudonym.Real, error) { return p.Verify(c.alice.user, c.roots, now) },
			"late":        func() (pseudonym.Real, error) { return p.Verify(c.bob.user, c.roots, now.Add(31*24*time.Hour)) },
			"early":       func() (pseudonym.Real, error) { return p.Verify(c.bob.user, c.roots, now.Add(-time.Hour)) },
			"last resort": func() (pseudonym.Real, error) { return resort.Verify(c.bob.user, c.roots, now) },
			"key":         func() (pseudonym.Real, error) { return key.Verify(c.bob.user, c.roots, now) },
			"certificate": func() (pseudonym.Real, error) { return signer.Verify(c.bob.user, c.roots, now) },
			"roots":       func() (pseudonym.Real, error) { return p.Verify(c.bob.user, nil, now) },
		} {
			real, err := f()
			is(t, "other "+name, err, pseudonym.ErrUnverified)
			if real != (pseudonym.Real{}) {
				t.Errorf("%s: result with an error", name)
			}
		}
	}
	c := newConnection(t, primitive.X25519)
	for name, f := range map[string]func() (*pseudonym.ConnectionPackage, error){
		"31 days": func() (*pseudonym.ConnectionPackage, error) {
			return pseudonym.NewConnectionPackage(c.packageKey.Public(), 0, 31*86400, false, c.bob.real)
		},
		"backwards": func() (*pseudonym.ConnectionPackage, error) {
			return pseudonym.NewConnectionPackage(c.packageKey.Public(), 1, 0, false, c.bob.real)
		},
		"no key": func() (*pseudonym.ConnectionPackage, error) {
			return pseudonym.NewConnectionPackage(primitive.KEMPublicKey{}, 0, 1, false, c.bob.real)
		},
		"no chain": func() (*pseudonym.ConnectionPackage, error) {
			return pseudonym.NewConnectionPackage(c.packageKey.Public(), 0, 1, false, pseudonym.RealIdentity{Key: c.bob.key})
		},
		"parsing zero": func() (*pseudonym.ConnectionPackage, error) {
			return pseudonym.ParseConnectionPackage(make([]byte, 100))
		},
	} {
		p, err := f()
		is(t, name, err, mmrerr.Malformed)
		if p != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestConnectionRequests(t *testing.T) {
	for _, kem := range []primitive.KEM{primitive.X25519, primitive.XWing} {
		c := newConnection(t, kem)
		h := c.pkg.Hash()
		signed, err := c.request.Sign(c.bob.user, h, c.alice.key)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := signed.Seal(c.pkg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pseudonym.OpenRequest(c.packageKey, h, sealed)
		if err != nil {
			t.Fatal(err)
		}
		b1, _ := signed.AppendBinary(nil)
		b2, _ := got.AppendBinary(nil)
		equal(t, "request", b2, b1)
		if real, err := got.Verify(c.bob.user, h, c.roots, now); err != nil || real.User != c.alice.user {
			t.Errorf("%v", err)
		}
		other, _ := primitive.GenerateKEMKey(kem)
		for name, f := range map[string]func() (*pseudonym.SignedRequest, error){
			"key": func() (*pseudonym.SignedRequest, error) { return pseudonym.OpenRequest(other, h, sealed) },
			"package": func() (*pseudonym.SignedRequest, error) {
				return pseudonym.OpenRequest(c.packageKey, [32]byte{}, sealed)
			},
		} {
			q, err := f()
			is(t, "other "+name, err, primitive.ErrOpen)
			if q != nil {
				t.Errorf("%s: result with an error", name)
			}
		}
		if q, err := pseudonym.OpenRequest(c.packageKey, h, sealed[:len(sealed)-1]); err == nil || q != nil {
			t.Error("cut request opens")
		}
		// Bob passes the request on to Carol, or changes it.
		carol := newProvider(t, "c.example").client(t, "carol", "phone", primitive.Ed25519)
		token, room, chain := *got, *got, *got
		token.Token = primitive.NewSecret()
		room.RoomID = bytes.Repeat([]byte{1}, 32)
		chain.Chain = c.bob.real.Chain
		for name, f := range map[string]func() (pseudonym.Real, error){
			"target":       func() (pseudonym.Real, error) { return got.Verify(carol.user, h, c.roots, now) },
			"package hash": func() (pseudonym.Real, error) { return got.Verify(c.bob.user, [32]byte{}, c.roots, now) },
			"token":        func() (pseudonym.Real, error) { return token.Verify(c.bob.user, h, c.roots, now) },
			"room":         func() (pseudonym.Real, error) { return room.Verify(c.bob.user, h, c.roots, now) },
			"certificate":  func() (pseudonym.Real, error) { return chain.Verify(c.bob.user, h, c.roots, now) },
			"roots":        func() (pseudonym.Real, error) { return got.Verify(c.bob.user, h, nil, now) },
			"time":         func() (pseudonym.Real, error) { return got.Verify(c.bob.user, h, c.roots, now.Add(2*year)) },
		} {
			real, err := f()
			is(t, "other "+name, err, pseudonym.ErrUnverified)
			if real != (pseudonym.Real{}) {
				t.Errorf("%s: result with an error", name)
			}
		}
		for name, change := range map[string]func(q *pseudonym.ConnectionRequest){
			"room":           func(q *pseudonym.ConnectionRequest) { q.RoomID = q.RoomID[1:] },
			"connection key": func(q *pseudonym.ConnectionRequest) { q.ConnectionKey = primitive.Secret{} },
			"response key": func(q *pseudonym.ConnectionRequest) {
				q.ResponseKey = other.Public()
				q.ResponseKey = primitive.KEMPublicKey{}
			},
			"token":    func(q *pseudonym.ConnectionRequest) { q.Token = primitive.Secret{} },
			"provider": func(q *pseudonym.ConnectionRequest) { q.KPProvider = "a" },
			"hub":      func(q *pseudonym.ConnectionRequest) { q.HubDomain = "" },
			"seed":     func(q *pseudonym.ConnectionRequest) { q.LinkSeed = primitive.Secret{} },
			"chain":    func(q *pseudonym.ConnectionRequest) { q.Chain = nil },
		} {
			q := c.request
			change(&q)
			s, err := q.Sign(c.bob.user, h, c.alice.key)
			is(t, "no "+name, err, mmrerr.Malformed)
			if s != nil {
				t.Errorf("%s: result with an error", name)
			}
		}
		large := c.request
		large.Chain = [][]byte{make([]byte, 4000)}
		s, _ := large.Sign(c.bob.user, h, c.alice.key)
		_, err = s.Seal(c.pkg)
		is(t, "large request", err, mmrerr.TooLarge)
	}
}

func TestConnectionResponses(t *testing.T) {
	c := newConnection(t, primitive.X25519)
	signed, _ := c.request.Sign(c.bob.user, c.pkg.Hash(), c.alice.key)
	requestHash, err := signed.Hash()
	if err != nil {
		t.Fatal(err)
	}
	leaf := newTBS(t, "b.example").Hash()
	answer := pseudonym.ConnectionResponse{ConnectionKey: primitive.NewSecret(), Token: primitive.NewSecret(), KPProvider: "b.example", Chain: c.bob.real.Chain}
	resp, err := answer.Sign(c.gid, requestHash, leaf, c.bob.key)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := resp.Seal(c.request.ResponseKey, c.gid, 4, leaf)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pseudonym.OpenResponse(c.respKey, c.gid, 4, leaf, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if !got.ConnectionKey.Equal(answer.ConnectionKey) || !got.Token.Equal(answer.Token) || got.KPProvider != "b.example" {
		t.Error("response differs")
	}
	if real, err := got.Verify(c.bob.user, c.gid, requestHash, leaf, c.roots, now); err != nil || real.User != c.bob.user {
		t.Errorf("%v", err)
	}
	for name, f := range map[string]func() (*pseudonym.SignedResponse, error){
		"key": func() (*pseudonym.SignedResponse, error) {
			return pseudonym.OpenResponse(c.packageKey, c.gid, 4, leaf, sealed)
		},
		"group": func() (*pseudonym.SignedResponse, error) {
			return pseudonym.OpenResponse(c.respKey, c.gid[1:], 4, leaf, sealed)
		},
		"epoch": func() (*pseudonym.SignedResponse, error) {
			return pseudonym.OpenResponse(c.respKey, c.gid, 5, leaf, sealed)
		},
		"leaf": func() (*pseudonym.SignedResponse, error) {
			return pseudonym.OpenResponse(c.respKey, c.gid, 4, [32]byte{}, sealed)
		},
	} {
		p, err := f()
		is(t, "other "+name, err, primitive.ErrOpen)
		if p != nil {
			t.Errorf("%s: result with an error", name)
		}
	}
	token, chain := *got, *got
	token.Token = primitive.NewSecret()
	chain.Chain = c.alice.real.Chain
	for name, f := range map[string]func() (pseudonym.Real, error){
		"user": func() (pseudonym.Real, error) {
			return got.Verify(c.alice.user, c.gid, requestHash, leaf, c.roots, now)
		},
		"group": func() (pseudonym.Real, error) {
			return got.Verify(c.bob.user, c.gid[1:], requestHash, leaf, c.roots, now)
		},
		"request": func() (pseudonym.Real, error) { return got.Verify(c.bob.user, c.gid, [32]byte{}, leaf, c.roots, now) },
		"leaf": func() (pseudonym.Real, error) {
			return got.Verify(c.bob.user, c.gid, requestHash, [32]byte{}, c.roots, now)
		},
		"token": func() (pseudonym.Real, error) {
			return token.Verify(c.bob.user, c.gid, requestHash, leaf, c.roots, now)
		},
		"certificate": func() (pseudonym.Real, error) {
			return chain.Verify(c.bob.user, c.gid, requestHash, leaf, c.roots, now)
		},
	} {
		real, err := f()
		is(t, "other "+name, err, pseudonym.ErrUnverified)
		if real != (pseudonym.Real{}) {
			t.Errorf("%s: result with an error", name)
		}
	}
	for name, change := range map[string]func(p *pseudonym.ConnectionResponse){
		"key":      func(p *pseudonym.ConnectionResponse) { p.ConnectionKey = primitive.Secret{} },
		"token":    func(p *pseudonym.ConnectionResponse) { p.Token = primitive.Secret{} },
		"provider": func(p *pseudonym.ConnectionResponse) { p.KPProvider = "B.example" },
		"chain":    func(p *pseudonym.ConnectionResponse) { p.Chain = nil },
	} {
		p := answer
		change(&p)
		s, err := p.Sign(c.gid, requestHash, leaf, c.bob.key)
		is(t, "no "+name, err, mmrerr.Malformed)
		if s != nil {
			t.Errorf("%s: result with an error", name)
		}
	}
}

func FuzzConnectionPackageMalleability(f *testing.F) {
	for _, kem := range []primitive.KEM{primitive.X25519, primitive.XWing} {
		b, _ := newConnection(f, kem).pkg.AppendBinary(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := pseudonym.ParseConnectionPackage(b)
		if err != nil {
			if p != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := p.AppendBinary(nil); !bytes.Equal(again, b) || p.Hash() != primitive.Hash(b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}

func FuzzSignedRequestMalleability(f *testing.F) {
	c := newConnection(f, primitive.X25519)
	s, _ := c.request.Sign(c.bob.user, c.pkg.Hash(), c.alice.key)
	b, _ := s.AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := pseudonym.ParseSignedRequest(b)
		if err != nil {
			if q != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := q.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}

func FuzzSignedResponseMalleability(f *testing.F) {
	c := newConnection(f, primitive.X25519)
	answer := pseudonym.ConnectionResponse{ConnectionKey: primitive.NewSecret(), Token: primitive.NewSecret(), KPProvider: "b.example", Chain: c.bob.real.Chain}
	s, _ := answer.Sign(c.gid, [32]byte{}, [32]byte{}, c.bob.key)
	b, _ := s.AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := pseudonym.ParseSignedResponse(b)
		if err != nil {
			if p != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := p.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}
