package seal_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

var now = time.Date(2026, 3, 1, 12, 0, 17, 0, time.UTC)

func testRequest() *seal.Request {
	return &seal.Request{
		Audience: seal.HubAudience("h.example"), Method: seal.MethodUpdate, Timestamp: seal.Timestamp(now), RequestID: [16]byte{1},
		GroupID: bytes.Repeat([]byte{0xc0}, 32), Token: bytes.Repeat([]byte{2}, 354), EARKey: primitive.NewSecret(), Body: []byte("body"),
		Auth: seal.RequestAuth{Kind: seal.AuthLeaf, LeafIndex: 4, Signature: make([]byte, 64)},
	}
}

func TestRequestRoundTrip(t *testing.T) {
	full := testRequest()
	bare := &seal.Request{
		Audience: seal.ProviderAudience("p.example"), Method: seal.MethodFetchKeyPackages, GroupID: []byte{}, Token: []byte{}, Body: []byte{},
		Auth: seal.RequestAuth{Kind: seal.AuthNone, Signature: []byte{}},
	}
	for _, q := range []*seal.Request{full, bare} {
		b, err := q.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := seal.ParseRequest(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(q, got); diff != "" {
			t.Error(diff)
		}
		b[0] = 2
		if got, err := seal.ParseRequest(b); !errors.Is(err, mmrerr.Malformed) || got != nil {
			t.Errorf("version 2: %v", err)
		}
	}
	for name, change := range map[string]func(q *seal.Request){
		"fine clock":           func(q *seal.Request) { q.Timestamp++ },
		"kind 0":               func(q *seal.Request) { q.Auth.Kind = 0 },
		"kind 6":               func(q *seal.Request) { q.Auth.Kind = 6 },
		"unsigned with index":  func(q *seal.Request) { q.Auth = seal.RequestAuth{Kind: seal.AuthNone, LeafIndex: 1} },
		"unsigned, signature":  func(q *seal.Request) { q.Auth = seal.RequestAuth{Kind: seal.AuthNone, Signature: []byte{1}} },
		"new leaf with index":  func(q *seal.Request) { q.Auth.Kind = seal.AuthNewLeaf },
		"pool with leaf index": func(q *seal.Request) { q.Auth.Kind = seal.AuthPool },
		"long token":           func(q *seal.Request) { q.Token = make([]byte, 1025) },
		"long group id":        func(q *seal.Request) { q.GroupID = make([]byte, 256) },
		"long method":          func(q *seal.Request) { q.Method = string(make([]byte, 65)) },
		"long audience":        func(q *seal.Request) { q.Audience = string(make([]byte, 513)) },
		"long signature":       func(q *seal.Request) { q.Auth.Signature = make([]byte, 1025) },
	} {
		q := testRequest()
		change(q)
		if b, err := q.AppendBinary(nil); !errors.Is(err, mmrerr.Malformed) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestSignature(t *testing.T) {
	for _, alg := range []primitive.Algorithm{primitive.Ed25519, primitive.ECDSAP256} {
		key, _ := primitive.GenerateSigningKey(alg)
		q := testRequest()
		if err := q.Sign(seal.AuthLeaf, 4, key); err != nil {
			t.Fatal(err)
		}
		b, _ := q.AppendBinary(nil)
		for name, change := range map[string]func(q *seal.Request){
			"": func(*seal.Request) {},
			// The EAR key proves itself; see MmrRequestTBS.
			"EAR key (unsigned)": func(q *seal.Request) { q.EARKey = primitive.NewSecret() },
			"audience":           func(q *seal.Request) { q.Audience = seal.HubAudience("g.example") },
			"method":             func(q *seal.Request) { q.Method = seal.MethodSubmit },
			"timestamp":          func(q *seal.Request) { q.Timestamp += 30 },
			"request id":         func(q *seal.Request) { q.RequestID[15]++ },
			"group":              func(q *seal.Request) { q.GroupID[0]++ },
			"token":              func(q *seal.Request) { q.Token[0]++ },
			"body":               func(q *seal.Request) { q.Body[0]++ },
			"leaf index":         func(q *seal.Request) { q.Auth.LeafIndex++ },
			"signature":          func(q *seal.Request) { q.Auth.Signature = q.Auth.Signature[1:] },
			"kind none":          func(q *seal.Request) { q.Auth.Kind = seal.AuthNone },
		} {
			q, err := seal.ParseRequest(bytes.Clone(b))
			if err != nil {
				t.Fatal(err)
			}
			change(q)
			err = q.Verify(key.Public())
			if name == "" || name == "EAR key (unsigned)" {
				if err != nil {
					t.Errorf("%v %s: %v", alg, name, err)
				}
			} else if !errors.Is(err, primitive.ErrVerify) {
				t.Errorf("%v, other %s: %v", alg, name, err)
			}
		}
	}
}

func TestTimestamps(t *testing.T) {
	if got := seal.Timestamp(now); got%30 != 0 || uint64(now.Unix())-got != 17 {
		t.Errorf("timestamp %d of %d", got, now.Unix())
	}
	if seal.Timestamp(time.Unix(-5, 0)) != 0 {
		t.Error("before 1970")
	}
	s := uint64(now.Unix())
	for ts, want := range map[uint64]bool{s: true, s - 120: true, s + 120: true, s - 121: false, s + 121: false, 0: false, 1<<64 - 1: false} {
		if got := seal.Fresh(ts, now); got != want {
			t.Errorf("Fresh(%d) = %v", int64(ts-s), got)
		}
	}
}

func TestResponses(t *testing.T) {
	p := &seal.Response{Code: mmrerr.WrongEpoch, Detail: []byte{0, 7}, Body: []byte{}}
	b, _ := p.AppendBinary(nil)
	got, err := seal.ParseResponse(b)
	if err != nil || !cmp.Equal(got, p) {
		t.Errorf("%v, %v", got, err)
	}
	if err := got.Err(); !errors.Is(err, mmrerr.WrongEpoch) || !bytes.Equal(mmrerr.Detail(err), p.Detail) {
		t.Errorf("Err = %v", err)
	}
	if err := (&seal.Response{Body: []byte("x")}).Err(); err != nil {
		t.Errorf("Err of OK = %v", err)
	}
}

func TestEncapsulation(t *testing.T) {
	request, _ := testRequest().AppendBinary(nil)
	for _, k := range kems {
		key, other := kemKey(t, k), kemKey(t, k)
		cfg := seal.KeyConfig{Audience: seal.HubAudience("h.example"), ID: 9, Key: key.Public()}
		for _, n := range []int{len(request), 70_000} {
			pt := append(bytes.Clone(request), make([]byte, n-len(request))...)
			enc, opener, err := seal.Encapsulate(cfg, pt)
			if err != nil {
				t.Fatal(err)
			}
			e, err := seal.ParseEncapsulated(enc)
			if err != nil || e.KeyID() != 9 || e.KEM() != k {
				t.Fatalf("%v: %v", k, err)
			}
			want := primitive.Hash(enc[7 : 7+k.EncSize()])
			if got := e.ReplayKey(); !bytes.Equal(got[:], want[:16]) {
				t.Errorf("replay key %x", got)
			}
			got, to, err := e.Open(seal.GatewayKey{ID: 9, Key: key})
			if err != nil || !bytes.Equal(got, pt) {
				t.Fatalf("%v: %v", k, err)
			}
			for _, size := range []int{0, 400, 100_000} {
				answer, err := to.Seal(make([]byte, size))
				if err != nil || !primitive.IsBucket(len(answer)) {
					t.Fatalf("answer of %d bytes: %d, %v", size, len(answer), err)
				}
				if got, err := opener.Open(answer); err != nil || len(got) != size {
					t.Errorf("answer of %d bytes opens to %d, %v", size, len(got), err)
				}
				answer[len(answer)-1] ^= 1
				if got, err := opener.Open(answer); !errors.Is(err, primitive.ErrOpen) || got != nil {
					t.Errorf("altered answer: %v", err)
				}
				if got, err := opener.Open(answer[1:]); !errors.Is(err, mmrerr.PaddingBucket) || got != nil {
					t.Errorf("cut answer: %v", err)
				}
			}
			if b, err := to.Seal(make([]byte, 1<<20)); !errors.Is(err, mmrerr.TooLarge) || b != nil {
				t.Errorf("large answer: %v", err)
			}
			_, stranger, _ := seal.Encapsulate(cfg, pt)
			answer, _ := to.Seal(nil)
			if got, err := stranger.Open(answer); !errors.Is(err, primitive.ErrOpen) || got != nil {
				t.Errorf("answer to another request: %v", err)
			}
			for name, gk := range map[string]seal.GatewayKey{
				"id": {ID: 8, Key: key}, "key": {ID: 9, Key: other}, "KEM": {ID: 9, Key: kemKey(t, kems[0]+kems[1]-k)},
			} {
				if got, to, err := e.Open(gk); !errors.Is(err, primitive.ErrOpen) || got != nil || to != nil {
					t.Errorf("other %s: %v", name, err)
				}
			}
			// hdr is in the HPKE info: changing the key id breaks the seal.
			renamed := bytes.Clone(enc)
			renamed[0] = 8
			e, _ = seal.ParseEncapsulated(renamed)
			if _, _, err := e.Open(seal.GatewayKey{ID: 8, Key: key}); !errors.Is(err, primitive.ErrOpen) {
				t.Errorf("renamed key: %v", err)
			}
		}
		if b, o, err := seal.Encapsulate(cfg, make([]byte, 1<<20)); !errors.Is(err, mmrerr.TooLarge) || b != nil || o != nil {
			t.Errorf("large request: %v", err)
		}
	}
	good, _, _ := seal.Encapsulate(seal.KeyConfig{ID: 9, Key: kemKey(t, primitive.X25519).Public()}, request)
	mutate := func(i int, v byte) []byte {
		b := bytes.Clone(good)
		b[i] = v
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want mmrerr.Code
	}{
		"empty":         {nil, mmrerr.PaddingBucket},
		"no bucket":     {good[1:], mmrerr.PaddingBucket},
		"too large":     {make([]byte, 1<<20+1), mmrerr.TooLarge},
		"KEM":           {mutate(2, 0x10), mmrerr.Malformed},
		"KDF":           {mutate(4, 2), mmrerr.Malformed},
		"AEAD":          {mutate(6, 2), mmrerr.Malformed},
		"short X-Wing":  {append([]byte{9, 0x64, 0x7a, 0, 1, 0, 1}, make([]byte, 505)...), mmrerr.Malformed},
		"zeros, 512 B":  {make([]byte, 512), mmrerr.Malformed},
		"zeros, 1024 B": {make([]byte, 1024), mmrerr.Malformed},
	} {
		if e, err := seal.ParseEncapsulated(c.b); !errors.Is(err, c.want) || e.KeyID() != 0 || e.KEM() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyConfigs(t *testing.T) {
	hub, _ := primitive.GenerateSigningKey(primitive.Ed25519)
	s := uint64(now.Unix())
	week := seal.KeyConfig{Audience: "hub:h.example", ID: 1, Key: kemKey(t, primitive.X25519).Public(), NotBefore: s - 100, NotAfter: s + 7*86400}
	config, sig, err := week.Sign(hub)
	if err != nil {
		t.Fatal(err)
	}
	got, err := seal.VerifyKeyConfig(config, sig, hub.Public(), "hub:h.example", now)
	if err != nil || got != week {
		t.Errorf("%v", err)
	}
	other, _ := primitive.GenerateSigningKey(primitive.Ed25519)
	altered := bytes.Clone(config)
	altered[14]++ // the id
	for name, c := range map[string]struct {
		f    func() (seal.KeyConfig, error)
		want error
	}{
		"signer": {func() (seal.KeyConfig, error) {
			return seal.VerifyKeyConfig(config, sig, other.Public(), "hub:h.example", now)
		}, primitive.ErrVerify},
		"bytes": {func() (seal.KeyConfig, error) {
			return seal.VerifyKeyConfig(altered, sig, hub.Public(), "hub:h.example", now)
		}, primitive.ErrVerify},
		"audience": {func() (seal.KeyConfig, error) {
			return seal.VerifyKeyConfig(config, sig, hub.Public(), "provider:h.example", now)
		}, mmrerr.Audience},
		"late": {func() (seal.KeyConfig, error) {
			return seal.VerifyKeyConfig(config, sig, hub.Public(), "hub:h.example", now.Add(8*24*time.Hour))
		}, mmrerr.Stale},
		"early": {func() (seal.KeyConfig, error) {
			return seal.VerifyKeyConfig(config, sig, hub.Public(), "hub:h.example", now.Add(-time.Hour))
		}, mmrerr.Stale},
		"cut": {func() (seal.KeyConfig, error) {
			return seal.VerifyKeyConfig(config[1:], sig, hub.Public(), "hub:h.example", now)
		}, mmrerr.Malformed},
	} {
		if got, err := c.f(); !errors.Is(err, c.want) || got != (seal.KeyConfig{}) {
			t.Errorf("other %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(c *seal.KeyConfig){
		"audience": func(c *seal.KeyConfig) { c.Audience = "hub:h" },
		"key":      func(c *seal.KeyConfig) { c.Key = primitive.KEMPublicKey{} },
		"times":    func(c *seal.KeyConfig) { c.NotBefore = c.NotAfter + 1 },
	} {
		c := week
		change(&c)
		b, _ := c.AppendBinary(nil)
		if got, err := seal.ParseKeyConfig(b); !errors.Is(err, mmrerr.Malformed) || got != (seal.KeyConfig{}) {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	longer, strong, expired := week, week, week
	longer.ID, longer.NotAfter = 2, week.NotAfter+86400
	strong.ID, strong.Key = 3, kemKey(t, primitive.XWing).Public()
	expired.ID, expired.Key, expired.NotAfter = 4, strong.Key, s-1
	if best, ok := seal.BestKeyConfig([]seal.KeyConfig{week, longer, expired}, now); !ok || best.ID != 2 {
		t.Errorf("best is %d", best.ID)
	}
	for _, order := range [][]seal.KeyConfig{{week, longer, strong, expired}, {expired, strong, longer}} {
		if best, ok := seal.BestKeyConfig(order, now); !ok || best.ID != 3 {
			t.Errorf("best is %d", best.ID)
		}
	}
	if _, ok := seal.BestKeyConfig([]seal.KeyConfig{expired}, now); ok {
		t.Error("expired configuration chosen")
	}
}

func FuzzRequestMalleability(f *testing.F) {
	b, _ := testRequest().AppendBinary(nil)
	f.Add(b)
	q := &seal.Request{Audience: "provider:p.example", Method: "m", Auth: seal.RequestAuth{Kind: seal.AuthNone}}
	b, _ = q.AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := seal.ParseRequest(b)
		if err != nil {
			if q != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := q.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}

func FuzzResponseMalleability(f *testing.F) {
	b, _ := (&seal.Response{Code: mmrerr.Stale, Detail: make([]byte, 8), Body: []byte("x")}).AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := seal.ParseResponse(b)
		if err != nil {
			if p != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := p.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}

func FuzzKeyConfigMalleability(f *testing.F) {
	for _, k := range kems {
		b, _ := seal.KeyConfig{Audience: "hub:h.example", ID: 1, Key: kemKey(f, k).Public(), NotAfter: 5}.AppendBinary(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := seal.ParseKeyConfig(b)
		if err != nil {
			if c != (seal.KeyConfig{}) {
				t.Error("result with an error")
			}
			return
		}
		if again, err := c.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}

// FuzzEncapsulated looks for inputs that a gateway's parser accepts and that
// then do more than fail to open.
func FuzzEncapsulated(f *testing.F) {
	key := kemKey(f, primitive.X25519)
	enc, _, err := seal.Encapsulate(seal.KeyConfig{ID: 9, Key: key.Public()}, []byte("request"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc)
	f.Add(append([]byte{9, 0x64, 0x7a, 0, 1, 0, 1}, make([]byte, 2041)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := seal.ParseEncapsulated(b)
		if err != nil {
			return
		}
		pt, to, err := e.Open(seal.GatewayKey{ID: e.KeyID(), Key: key})
		if (err == nil) != (pt != nil) || err == nil && to == nil {
			t.Errorf("result %x with error %v", pt, err)
		}
	})
}
