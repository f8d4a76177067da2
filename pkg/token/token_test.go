package token_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// hexBytes is a byte string that JSON files hold in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

type rfc9578 struct {
	Cases []struct{ SK, SPKI, Challenge, Nonce, Blind, Salt, Request, Response, Token hexBytes }
}

func loadVectors(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile("testdata/vectors/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatal(err)
	}
}

func issuerKey(tb testing.TB, pemBytes []byte) *token.IssuerKey {
	tb.Helper()
	block, rest := pem.Decode(pemBytes)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		tb.Fatal("no PEM")
	}
	key, err := token.ParseIssuerKey(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

var (
	week = token.EpochOf(now)
	now  = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

	// Key generation is slow: all tests share two.
	testKeys = sync.OnceValue(func() [2]*token.IssuerKey {
		a, err1 := token.GenerateIssuerKey()
		b, err2 := token.GenerateIssuerKey()
		if err := errors.Join(err1, err2); err != nil {
			panic(err)
		}
		return [2]*token.IssuerKey{a, b}
	})
)

// TestRFC9578Vectors reproduces every byte of the vectors, the blinded message
// included: the randomness it reads is salt and blind.
func TestRFC9578Vectors(t *testing.T) {
	var v rfc9578
	loadVectors(t, "rfc9578.json", &v)
	if len(v.Cases) != 5 {
		t.Fatalf("%d cases", len(v.Cases))
	}
	for i, c := range v.Cases {
		key := issuerKey(t, c.SK)
		if !bytes.Equal(key.Public().SPKI(), c.SPKI) {
			t.Errorf("case %d: SPKI %x", i, key.Public().SPKI())
		}
		pub, err := token.ParsePublicKey(c.SPKI)
		if err != nil {
			t.Fatal(err)
		}
		if pub.ID() != sha256.Sum256(c.SPKI) {
			t.Errorf("case %d: key id", i)
		}
		random := io.MultiReader(bytes.NewReader(c.Salt), bytes.NewReader(c.Blind))
		q, err := token.NewRequestFrom(random, pub, sha256.Sum256(c.Challenge), [32]byte(c.Nonce))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := q.AppendBinary(nil); !bytes.Equal(got, c.Request) || len(got) != token.RequestSize {
			t.Errorf("case %d: request %x", i, got)
		}
		issuer := token.NewIssuer(map[token.Epoch]*token.IssuerKey{week: key})
		sigs, err := issuer.Issue(now, pub.ID().Truncated(), [][]byte{q.Blinded()})
		if err != nil || len(sigs) != 1 || !bytes.Equal(sigs[0], c.Response) {
			t.Errorf("case %d: response %x, %v", i, sigs, err)
		}
		tok, err := q.Finalize(c.Response)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := tok.AppendBinary(nil); !bytes.Equal(got, c.Token) || len(got) != token.Size {
			t.Errorf("case %d: token %x", i, got)
		}
		parsed, err := token.Parse(c.Token)
		if err != nil || parsed != tok || !pub.VerifyToken(parsed) {
			t.Errorf("case %d: token does not verify, %v", i, err)
		}
	}
}

// TestRFC9577Vectors checks challenge digests and authenticator inputs of the
// vectors without redemption context, which the profile never has.
func TestRFC9577Vectors(t *testing.T) {
	var v struct {
		Cases []struct {
			Issuer  hexBytes `json:"issuer_name"`
			Context hexBytes `json:"redemption_context"`
			Origin  hexBytes `json:"origin_info"`
			KeyID   hexBytes `json:"token_key_id"`
			Input   hexBytes `json:"token_authenticator_input"`
			Nonce   hexBytes
		}
	}
	loadVectors(t, "rfc9577.json", &v)
	checked := 0
	for _, c := range v.Cases {
		if len(c.Context) != 0 {
			continue
		}
		digest, err := token.Challenge{Issuer: string(c.Issuer), Audience: string(c.Origin)}.Digest()
		if err != nil {
			t.Fatal(err)
		}
		tok := token.Token{Nonce: [32]byte(c.Nonce), ChallengeDigest: digest, KeyID: token.KeyID(c.KeyID)}
		if !bytes.Equal(tok.Input(), c.Input) {
			t.Errorf("input %x, want %x", tok.Input(), c.Input)
		}
		checked++
	}
	if checked != 2 {
		t.Errorf("%d cases", checked)
	}
}

// issue runs the whole protocol.
func issue(tb testing.TB, issuer *token.Issuer, key *token.PublicKey, c token.Challenge, at time.Time) []byte {
	tb.Helper()
	q, err := token.NewRequest(key, c)
	if err != nil {
		tb.Fatal(err)
	}
	sigs, err := issuer.Issue(at, key.ID().Truncated(), [][]byte{q.Blinded()})
	if err != nil {
		tb.Fatal(err)
	}
	tok, err := q.Finalize(sigs[0])
	if err != nil {
		tb.Fatal(err)
	}
	b, _ := tok.AppendBinary(nil)
	return b
}

func TestRedemption(t *testing.T) {
	keys := testKeys()
	issuer := token.NewIssuer(map[token.Epoch]*token.IssuerKey{week: keys[0], week - 1: keys[1]})
	trusted := []token.TrustedKey{
		{Issuer: "p.example", Epoch: week, Key: keys[0].Public()},
		{Issuer: "p.example", Epoch: week - 1, Key: keys[1].Public()},
	}
	hub, err := token.NewVerifier("hub:h.example", trusted)
	if err != nil {
		t.Fatal(err)
	}
	c := token.Challenge{Issuer: "p.example", Audience: "hub:h.example"}
	tok := issue(t, issuer, keys[0].Public(), c, now)
	r, err := hub.Verify(tok, now)
	if err != nil || r.Issuer != "p.example" || r.Epoch != week {
		t.Fatalf("%v, %v", r, err)
	}
	if again, err := hub.Verify(tok, now.Add(time.Hour)); err != nil || again != r {
		t.Errorf("verifying twice: %v, %v", again, err)
	}
	other := issue(t, issuer, keys[0].Public(), c, now)
	if r2, err := hub.Verify(other, now); err != nil || r2.SpentKey == r.SpentKey {
		t.Errorf("second token: %v", err)
	}
	previous := issue(t, issuer, keys[1].Public(), c, now)
	if r, err := hub.Verify(previous, now); err != nil || r.Epoch != week-1 {
		t.Errorf("token of the previous epoch: %v", err)
	}
	if got := hub.Accepted(now); len(got) != 2 {
		t.Errorf("%d keys accepted", len(got))
	}

	elsewhere, _ := token.NewVerifier("hub:g.example", trusted)
	stranger, _ := token.NewVerifier("hub:h.example", trusted[1:])
	renamed, _ := token.NewVerifier("hub:h.example", []token.TrustedKey{{Issuer: "q.example", Epoch: week, Key: keys[0].Public()}})
	flip := func(i int) []byte {
		b := bytes.Clone(tok)
		b[i] ^= 1
		return b
	}
	for name, f := range map[string]func() (token.Redemption, error){
		"other audience":    func() (token.Redemption, error) { return elsewhere.Verify(tok, now) },
		"untrusted key":     func() (token.Redemption, error) { return stranger.Verify(tok, now) },
		"other issuer name": func() (token.Redemption, error) { return renamed.Verify(tok, now) },
		"two epochs later":  func() (token.Redemption, error) { return hub.Verify(tok, week.Expires()) },
		"before its epoch":  func() (token.Redemption, error) { return hub.Verify(tok, week.Start().Add(-time.Second)) },
		"type":              func() (token.Redemption, error) { return hub.Verify(flip(1), now) },
		"nonce":             func() (token.Redemption, error) { return hub.Verify(flip(2), now) },
		"challenge":         func() (token.Redemption, error) { return hub.Verify(flip(40), now) },
		"key id":            func() (token.Redemption, error) { return hub.Verify(flip(70), now) },
		"signature":         func() (token.Redemption, error) { return hub.Verify(flip(353), now) },
		"short":             func() (token.Redemption, error) { return hub.Verify(tok[:353], now) },
		"long":              func() (token.Redemption, error) { return hub.Verify(append(bytes.Clone(tok), 0), now) },
		"empty":             func() (token.Redemption, error) { return hub.Verify(nil, now) },
		"zero signature": func() (token.Redemption, error) {
			return hub.Verify(append(bytes.Clone(tok[:98]), make([]byte, 256)...), now)
		},
		"signature of other": func() (token.Redemption, error) { return hub.Verify(append(bytes.Clone(tok[:98]), other[98:]...), now) },
	} {
		if r, err := f(); !errors.Is(err, mmrerr.TokenInvalid) || r != (token.Redemption{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := hub.Verify(tok, week.Expires().Add(-time.Second)); err != nil {
		t.Errorf("at the end of the next epoch: %v", err)
	}
	for name, keys := range map[string][]token.TrustedKey{
		"two issuers": {trusted[0], {Issuer: "q.example", Epoch: week, Key: keys[0].Public()}},
		"two epochs":  {trusted[0], {Issuer: "p.example", Epoch: week + 1, Key: keys[0].Public()}},
		"no issuer":   {{Epoch: week, Key: keys[0].Public()}},
		"no key":      {{Issuer: "p.example", Epoch: week}},
	} {
		if v, err := token.NewVerifier("hub:h.example", keys); !errors.Is(err, token.ErrMalformed) || v != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIssuerRefusals(t *testing.T) {
	keys := testKeys()
	issuer := token.NewIssuer(map[token.Epoch]*token.IssuerKey{week: keys[0], week + 1: keys[1], week - 2: keys[1]})
	if p := issuer.Published(now); len(p) != 1 || p[0].Epoch != week || p[0].Key.ID() != keys[0].Public().ID() {
		t.Errorf("published %d keys", len(p))
	}
	truncated := keys[0].Public().ID().Truncated()
	q, err := token.NewRequest(keys[0].Public(), token.Challenge{Issuer: "p.example", Audience: "hub:h.example"})
	if err != nil {
		t.Fatal(err)
	}
	if q.KeyID() != keys[0].Public().ID() {
		t.Error("key id")
	}
	if sigs, err := issuer.Issue(now, truncated+1, [][]byte{q.Blinded()}); !errors.Is(err, token.ErrUnknownKey) || sigs != nil {
		t.Errorf("unknown key: %v", err)
	}
	if sigs, err := issuer.Issue(week.Expires(), truncated, [][]byte{q.Blinded()}); !errors.Is(err, token.ErrUnknownKey) || sigs != nil {
		t.Errorf("expired key: %v", err)
	}
	for name, bad := range map[string][]byte{"short": make([]byte, 255), "long": make([]byte, 257), "no number below the modulus": bytes.Repeat([]byte{0xff}, 256)} {
		if sigs, err := issuer.Issue(now, truncated, [][]byte{q.Blinded(), bad}); !errors.Is(err, token.ErrMalformed) || sigs != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	sigs, err := issuer.Issue(now, truncated, [][]byte{q.Blinded()})
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(sigs[0])
	bad[200] ^= 1
	for name, s := range map[string][]byte{"altered": bad, "short": sigs[0][1:], "empty": nil} {
		if tok, err := q.Finalize(s); !errors.Is(err, token.ErrSignature) || tok != (token.Token{}) {
			t.Errorf("%s signature: %v", name, err)
		}
	}
	if _, err := q.Finalize(sigs[0]); err != nil {
		t.Errorf("good signature after bad ones: %v", err)
	}
	for name, c := range map[string]token.Challenge{
		"no issuer": {Audience: "a"}, "long issuer": {Issuer: strings.Repeat("a", 1<<16)}, "long audience": {Issuer: "a", Audience: strings.Repeat("a", 1<<16)},
	} {
		if q, err := token.NewRequest(keys[0].Public(), c); !errors.Is(err, token.ErrMalformed) || q != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConsistent(t *testing.T) {
	keys := testKeys()
	a := token.PublishedKey{Epoch: week, Key: keys[0].Public()}
	b := token.PublishedKey{Epoch: week - 1, Key: keys[1].Public()}
	swapped := token.PublishedKey{Epoch: week, Key: keys[1].Public()}
	ids := []token.KeyID{a.Key.ID(), b.Key.ID()}
	if err := token.Consistent(a, []token.PublishedKey{a, b}, ids); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another key published":     token.Consistent(a, []token.PublishedKey{swapped, b}, ids),
		"two keys for one epoch":    token.Consistent(a, []token.PublishedKey{a, swapped}, ids),
		"not published":             token.Consistent(a, []token.PublishedKey{b}, ids),
		"not accepted":              token.Consistent(a, []token.PublishedKey{a, b}, ids[1:]),
		"nothing published":         token.Consistent(a, nil, ids),
		"redeemer accepts no token": token.Consistent(a, []token.PublishedKey{a}, nil),
	} {
		if !errors.Is(err, token.ErrInconsistent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEpochs(t *testing.T) {
	for _, c := range []struct {
		t    time.Time
		want token.Epoch
	}{
		{time.Unix(-1, 0), 0},
		{time.Unix(0, 0), 0},
		{time.Date(1970, 1, 5, 0, 0, 0, 0, time.UTC), 0},
		{time.Date(1970, 1, 11, 23, 59, 59, 0, time.UTC), 0},
		{time.Date(1970, 1, 12, 0, 0, 0, 0, time.UTC), 1},
		{time.Date(2026, 3, 1, 23, 59, 59, 0, time.UTC), 2929}, // a Sunday
		{time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), 2930},
	} {
		if got := token.EpochOf(c.t); got != c.want {
			t.Errorf("EpochOf(%v) = %d, want %d", c.t, got, c.want)
		}
	}
	if s := week.Start(); s.Weekday() != time.Monday || token.EpochOf(s) != week || token.EpochOf(s.Add(-1)) != week-1 {
		t.Errorf("epoch starts %v", s)
	}
	if !week.Expires().Equal(week.Start().AddDate(0, 0, 14)) {
		t.Errorf("expires %v", week.Expires())
	}
	for e, want := range map[token.Epoch]bool{week + 1: false, week: true, week - 1: true, week - 2: false} {
		if e.ValidAt(now) != want {
			t.Errorf("epoch %d valid: %v", int64(e-week), !want)
		}
	}
	if token.Epoch(1<<64 - 1).Start().Before(now) {
		t.Error("overflow")
	}
}

func TestKeys(t *testing.T) {
	key := testKeys()[0]
	der, err := key.PKCS8()
	if err != nil {
		t.Fatal(err)
	}
	again, err := token.ParseIssuerKey(der)
	if err != nil || again.Public().ID() != key.Public().ID() {
		t.Errorf("round trip: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, key); got != "[redacted]" {
			t.Errorf("%s prints %q", verb, got)
		}
		if got := fmt.Sprintf(verb, struct{ k token.IssuerKey }{*key}); len(got) > 4000 {
			t.Errorf("%s prints the key", verb)
		}
	}
	large, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	largeDER, _ := x509.MarshalPKCS8PrivateKey(large)
	spki := key.Public().SPKI()
	plain, _ := x509.MarshalPKIXPublicKey(&large.PublicKey)
	longForm := append([]byte{0x30, 0x83, 0x00}, spki[2:]...) // non-minimal length
	for name, b := range map[string][]byte{
		"empty": nil, "rsaEncryption, 3072 bits": plain, "trailing byte": append(bytes.Clone(spki), 0), "cut": spki[:len(spki)-1],
		"long length": longForm, "exponent 65539": append(bytes.Clone(spki[:len(spki)-1]), 3),
		"even modulus": bytes.Replace(spki, spki[len(spki)-6:], append([]byte{spki[len(spki)-6] &^ 1}, spki[len(spki)-5:]...), 1),
	} {
		if k, err := token.ParsePublicKey(b); !errors.Is(err, token.ErrMalformed) || k != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "3072 bits": largeDER, "cut": der[:len(der)-1]} {
		if k, err := token.ParseIssuerKey(b); !errors.Is(err, token.ErrMalformed) || k != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnlinkable checks what the issuer sees: for any token there is a blind
// that explains any blinded message, so it learns nothing from the numbers. The
// test shows the visible part: two requests for one nonce and challenge share
// nothing.
func TestUnlinkable(t *testing.T) {
	key := testKeys()[0].Public()
	var nonce [32]byte
	a, err1 := token.NewRequestFrom(rand.Reader, key, [32]byte{}, nonce)
	b, err2 := token.NewRequestFrom(rand.Reader, key, [32]byte{}, nonce)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Blinded(), b.Blinded()) {
		t.Error("blinding is deterministic")
	}
}

func FuzzTokenMalleability(f *testing.F) {
	var v rfc9578
	loadVectors(f, "rfc9578.json", &v)
	for _, c := range v.Cases {
		f.Add([]byte(c.Token))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := token.Parse(b)
		if err != nil {
			if !cmp.Equal(tok, token.Token{}) {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := tok.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}

func FuzzPublicKeyMalleability(f *testing.F) {
	var v rfc9578
	loadVectors(f, "rfc9578.json", &v)
	for _, c := range v.Cases {
		f.Add([]byte(c.SPKI))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := token.ParsePublicKey(b)
		if err != nil {
			if key != nil {
				t.Error("result with an error")
			}
			return
		}
		if !bytes.Equal(key.SPKI(), b) {
			t.Errorf("%x re-encodes to %x", b, key.SPKI())
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	keys := testKeys()
	issuer := token.NewIssuer(map[token.Epoch]*token.IssuerKey{week: keys[0]})
	v, err := token.NewVerifier("hub:h.example", []token.TrustedKey{{Issuer: "p.example", Epoch: week, Key: keys[0].Public()}})
	if err != nil {
		b.Fatal(err)
	}
	tok := issue(b, issuer, keys[0].Public(), token.Challenge{Issuer: "p.example", Audience: "hub:h.example"}, now)
	for b.Loop() {
		if _, err := v.Verify(tok, now); err != nil {
			b.Fatal(err)
		}
	}
}
