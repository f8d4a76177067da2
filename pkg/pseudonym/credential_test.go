package pseudonym_test

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func TestReveal(t *testing.T) {
	a, b := newProvider(t, "a.example"), newProvider(t, "b.example")
	roots := pseudonym.Roots{"a.example": a.pool(t), "b.example": b.pool(t)}
	for _, alg := range []primitive.Algorithm{primitive.Ed25519, primitive.ECDSAP256} {
		alice := a.client(t, "alice", "alice-phone", alg)
		tbs := newTBS(t, "a.example")
		linkKey := primitive.NewSecret()
		cred, err := pseudonym.NewCredential(tbs, linkKey, alice.real)
		if err != nil {
			t.Fatal(err)
		}
		real, err := cred.Reveal(linkKey, roots, now)
		if err != nil {
			t.Fatal(err)
		}
		if real.User != alice.user || real.Client != alice.device || real.Key != alice.key.Public() {
			t.Errorf("%v: revealed %v", alg, real)
		}

		// Every way in which a leaf ends as unverified.
		moved := cred
		moved.TBS = newTBS(t, "a.example")
		flip := func(i int) pseudonym.Credential {
			c := cred
			c.Ciphertext = bytes.Clone(c.Ciphertext)
			c.Ciphertext[(i+len(c.Ciphertext))%len(c.Ciphertext)] ^= 1
			return c
		}
		short := cred
		short.Ciphertext = cred.Ciphertext[:len(cred.Ciphertext)-1]
		foreign := newTBS(t, "b.example")
		foreignCred, _ := pseudonym.NewCredential(foreign, linkKey, alice.real)
		mixed := tbs
		mixed.User = foreign.User
		mixedCred, _ := pseudonym.NewCredential(mixed, linkKey, alice.real)
		stolen, _ := pseudonym.NewCredential(tbs, linkKey, pseudonym.RealIdentity{Chain: alice.real.Chain, Key: newKey(t, alg)})
		impostor := newProvider(t, "a.example").client(t, "alice", "alice-phone", alg)
		forged, _ := pseudonym.NewCredential(tbs, linkKey, impostor.real)
		cut, _ := pseudonym.NewCredential(tbs, linkKey, pseudonym.RealIdentity{Chain: alice.real.Chain[:1], Key: alice.key})
		for name, f := range map[string]func() (pseudonym.Real, error){
			"other link key":   func() (pseudonym.Real, error) { return cred.Reveal(primitive.NewSecret(), roots, now) },
			"no link key":      func() (pseudonym.Real, error) { return cred.Reveal(primitive.Secret{}, roots, now) },
			"moved ciphertext": func() (pseudonym.Real, error) { return moved.Reveal(linkKey, roots, now) },
			"commitment":       func() (pseudonym.Real, error) { return flip(0).Reveal(linkKey, roots, now) },
			"nonce":            func() (pseudonym.Real, error) { return flip(32).Reveal(linkKey, roots, now) },
			"tag":              func() (pseudonym.Real, error) { return flip(-1).Reveal(linkKey, roots, now) },
			"length":           func() (pseudonym.Real, error) { return short.Reveal(linkKey, roots, now) },
			"no ciphertext":    func() (pseudonym.Real, error) { return pseudonym.Credential{TBS: tbs}.Reveal(linkKey, roots, now) },
			"expired":          func() (pseudonym.Real, error) { return cred.Reveal(linkKey, roots, now.Add(2*year)) },
			"not yet valid":    func() (pseudonym.Real, error) { return cred.Reveal(linkKey, roots, now.Add(-2*time.Hour)) },
			"no roots":         func() (pseudonym.Real, error) { return cred.Reveal(linkKey, nil, now) },
			"roots of another": func() (pseudonym.Real, error) {
				return cred.Reveal(linkKey, pseudonym.Roots{"a.example": b.pool(t)}, now)
			},
			"pseudonym of another": func() (pseudonym.Real, error) { return foreignCred.Reveal(linkKey, roots, now) },
			"pseudonyms of two":    func() (pseudonym.Real, error) { return mixedCred.Reveal(linkKey, roots, now) },
			"stolen certificate":   func() (pseudonym.Real, error) { return stolen.Reveal(linkKey, roots, now) },
			"impostor's CA":        func() (pseudonym.Real, error) { return forged.Reveal(linkKey, roots, now) },
			"missing intermediate": func() (pseudonym.Real, error) { return cut.Reveal(linkKey, roots, now) },
		} {
			real, err := f()
			is(t, name, err, pseudonym.ErrUnverified)
			if real != (pseudonym.Real{}) {
				t.Errorf("%s: result with an error", name)
			}
			if strings.Contains(err.Error(), "alice") || strings.Contains(err.Error(), "example") {
				t.Errorf("%s: error names somebody: %v", name, err)
			}
		}
	}
}

// TestCommitment checks that nobody can make one ciphertext open under two link
// keys, which AES-GCM alone would allow: the commitment binds the key.
func TestCommitment(t *testing.T) {
	p := newProvider(t, "a.example")
	alice := p.client(t, "alice", "phone", primitive.Ed25519)
	tbs, k1, k2 := newTBS(t, "a.example"), primitive.NewSecret(), primitive.NewSecret()
	c, _ := pseudonym.NewCredential(tbs, k1, alice.real)
	forged := c
	forged.Ciphertext = bytes.Clone(c.Ciphertext)
	copy(forged.Ciphertext, primitive.DeriveSecret(k2, "mmr link commit", tbs.Bytes()).Bytes())
	for _, k := range []primitive.Secret{k1, k2} {
		_, err := forged.Open(k)
		is(t, "swapped commitment", err, pseudonym.ErrUnverified)
	}
}

func TestLinkContents(t *testing.T) {
	tbs, k := newTBS(t, "a.example"), primitive.NewSecret()
	sig := codec.AppendVector(nil, make([]byte, 64))
	x509Type := binary.BigEndian.AppendUint16(nil, pseudonym.CredentialX509)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cert := codec.AppendVector(nil, "certificate")
	for name, tbe := range map[string][]byte{
		"empty":              {},
		"basic credential":   join(sig, []byte{0, 1}, codec.AppendVector(nil, "mimi://a.example/d/alice")),
		"no certificate":     join(sig, x509Type, []byte{0}),
		"three certificates": join(sig, x509Type, codec.AppendVector(nil, join(cert, cert, cert))),
		"trailing byte":      join(sig, x509Type, codec.AppendVector(nil, cert), []byte{0}),
	} {
		ct, err := pseudonym.SealLinkAt(tbs, k, primitive.NewNonce(), tbe)
		if err != nil {
			t.Fatal(err)
		}
		l, err := pseudonym.Credential{TBS: tbs, Ciphertext: ct}.Open(k)
		is(t, name, err, pseudonym.ErrUnverified)
		if l.Chain != nil || l.Signature != nil {
			t.Errorf("%s: result with an error", name)
		}
	}
	for n, want := range map[int]int{0: 1084, 1022: 1084, 1023: 2108, 2046: 2108, 2047: 4156, 4094: 4156} {
		ct, err := pseudonym.SealLinkAt(tbs, k, primitive.NewNonce(), make([]byte, n))
		if err != nil || len(ct) != want {
			t.Errorf("TBE of %d bytes: link of %d, %v", n, len(ct), err)
		}
	}
	if ct, err := pseudonym.SealLinkAt(tbs, k, primitive.NewNonce(), make([]byte, 4095)); err == nil || ct != nil {
		t.Error("TBE of 4095 bytes fits")
	}
	for name, c := range map[string]struct {
		tbs  pseudonym.TBS
		real pseudonym.RealIdentity
	}{
		"no chain":         {tbs, pseudonym.RealIdentity{Key: newKey(t, primitive.Ed25519)}},
		"long chain":       {tbs, pseudonym.RealIdentity{Chain: make([][]byte, 3), Key: newKey(t, primitive.Ed25519)}},
		"swapped kinds":    {pseudonym.TBS{Client: tbs.User, User: tbs.Client}, pseudonym.RealIdentity{Chain: make([][]byte, 1), Key: newKey(t, primitive.Ed25519)}},
		"large credential": {tbs, pseudonym.RealIdentity{Chain: [][]byte{make([]byte, 5000)}, Key: newKey(t, primitive.Ed25519)}},
	} {
		if cred, err := pseudonym.NewCredential(c.tbs, k, c.real); err == nil || cred.Ciphertext != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCredentialEncoding(t *testing.T) {
	p := newProvider(t, "a.example")
	tbs := newTBS(t, "a.example")
	cred, _ := pseudonym.NewCredential(tbs, primitive.NewSecret(), p.client(t, "alice", "phone", primitive.Ed25519).real)
	b, err := cred.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []uint16{pseudonym.CredentialPseudonymous, pseudonym.CredentialBasic} {
		got, err := pseudonym.ParseCredential(typ, b)
		if err != nil || got.Hash() != cred.Hash() || !bytes.Equal(got.Ciphertext, cred.Ciphertext) {
			t.Errorf("type %#x: %v", typ, err)
		}
	}
	swapped := cred
	swapped.Client, swapped.User = cred.User, cred.Client
	swappedBytes, _ := swapped.AppendBinary(nil)
	real := codec.AppendVector(nil, "mimi://a.example/d/alice-phone")
	real = codec.AppendVector(real, "mimi://a.example/u/alice")
	real = codec.AppendVector(real, tbs.Key)
	real = codec.AppendVector(real, cred.Ciphertext)
	for name, c := range map[string]struct {
		typ  uint16
		b    []byte
		want mmrerr.Code
	}{
		"x509":             {pseudonym.CredentialX509, b, mmrerr.CredentialType},
		"type 0":           {0, b, mmrerr.CredentialType},
		"foreign identity": {pseudonym.CredentialBasic, []byte("alice@a.example"), mmrerr.CredentialType},
		"empty":            {pseudonym.CredentialPseudonymous, nil, mmrerr.CredentialType},
		"cut":              {pseudonym.CredentialPseudonymous, b[:len(b)-1], mmrerr.CredentialType},
		"trailing byte":    {pseudonym.CredentialPseudonymous, append(bytes.Clone(b), 0), mmrerr.CredentialType},
		"swapped kinds":    {pseudonym.CredentialPseudonymous, swappedBytes, mmrerr.PseudonymShape},
		"real handles":     {pseudonym.CredentialPseudonymous, real, mmrerr.PseudonymShape},
	} {
		got, err := pseudonym.ParseCredential(c.typ, c.b)
		is(t, name, err, c.want)
		if got.Key != nil || got.Ciphertext != nil || got.Client != (pseudonym.ID{}) || got.User != (pseudonym.ID{}) {
			t.Errorf("%s: result with an error", name)
		}
	}
}

// TestCredentialCheck walks in order: of two faults the first
// one of the list is reported.
func TestCredentialCheck(t *testing.T) {
	kem, _ := primitive.GenerateKEMKey(primitive.X25519)
	delivery := func(domain string) []byte {
		d, err := seal.NewDelivery(kem.Public(), domain, 1, seal.QueueConfig{}, kem.Public())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := d.AppendBinary(nil)
		return b
	}
	tbs := newTBS(t, "a.example")
	good := pseudonym.Credential{TBS: tbs, Ciphertext: make([]byte, 1084)}
	if d, err := good.Check(tbs.Key, delivery("a.example")); err != nil || d.ProviderDomain != "a.example" {
		t.Errorf("good leaf: %v", err)
	}
	otherHost, badLength := good, good
	otherHost.User = newID(t, "b.example", pseudonym.User)
	badLength.Ciphertext = make([]byte, 1085)
	for name, c := range map[string]struct {
		cred     pseudonym.Credential
		key      []byte
		delivery []byte
		want     mmrerr.Code
	}{
		"key":            {badLength, tbs.Key[1:], nil, mmrerr.KeyMismatch},
		"no queue":       {badLength, tbs.Key, nil, mmrerr.QueueMissing},
		"bad queue":      {badLength, tbs.Key, []byte{}, mmrerr.QueueMissing},
		"queue's domain": {badLength, tbs.Key, delivery("b.example"), mmrerr.QueueDomain},
		"user's domain":  {otherHost, tbs.Key, delivery("a.example"), mmrerr.QueueDomain},
		"length":         {badLength, tbs.Key, delivery("a.example"), mmrerr.LinkCiphertextLength},
	} {
		d, err := c.cred.Check(c.key, c.delivery)
		is(t, name, err, c.want)
		if d.ProviderDomain != "" {
			t.Errorf("%s: result with an error", name)
		}
	}
}

func TestConflicts(t *testing.T) {
	a, b, c, d := newID(t, "a.example", 'u'), newID(t, "a.example", 'u'), newID(t, "a.example", 'u'), newID(t, "a.example", 'u')
	alice, bob := handle(t, "a.example", 'u', "alice"), handle(t, "a.example", 'u', "bob")
	eq := func(x, y []pseudonym.ID) bool {
		return cmp.Equal(x, y, cmp.Comparer(func(i, j pseudonym.ID) bool { return i == j }))
	}
	for name, tc := range map[string]struct {
		leaves        []pseudonym.Resolved
		split, shared []pseudonym.ID
	}{
		"empty":                  {},
		"two devices, two users": {[]pseudonym.Resolved{{a, alice}, {a, alice}, {b, bob}}, nil, nil},
		"unverified leaves":      {[]pseudonym.Resolved{{a, alice}, {a, pseudonym.Handle{}}, {b, pseudonym.Handle{}}}, nil, nil},
		"one pseudonym, two":     {[]pseudonym.Resolved{{a, alice}, {a, bob}}, []pseudonym.ID{a}, nil},
		"two pseudonyms, one":    {[]pseudonym.Resolved{{b, alice}, {a, alice}, {c, bob}}, nil, []pseudonym.ID{b, a}},
		"both":                   {[]pseudonym.Resolved{{a, alice}, {b, alice}, {c, alice}, {c, bob}, {d, bob}}, []pseudonym.ID{c}, []pseudonym.ID{a, b}},
	} {
		split, shared := pseudonym.Conflicts(tc.leaves)
		if !eq(split, tc.split) || !eq(shared, tc.shared) {
			t.Errorf("%s: split %v, shared %v", name, split, shared)
		}
	}
}

func FuzzCredentialMalleability(f *testing.F) {
	b, _ := pseudonym.Credential{TBS: newTBS(f, "a.example"), Ciphertext: make([]byte, 1084)}.AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := pseudonym.ParseCredential(pseudonym.CredentialPseudonymous, b)
		if err != nil {
			if c.Key != nil || c.Ciphertext != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := c.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}

func FuzzCertificatesMalleability(f *testing.F) {
	f.Add(pseudonym.AppendCertificates(nil, [][]byte{[]byte("a"), make([]byte, 300)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		chain := pseudonym.ReadCertificates(r)
		if r.Done() == nil && !bytes.Equal(pseudonym.AppendCertificates(nil, chain), b) {
			t.Errorf("%x re-encodes to %x", b, pseudonym.AppendCertificates(nil, chain))
		}
	})
}

// FuzzChain feeds the certificate checks: parsing names must not trust the DER.
func FuzzChain(f *testing.F) {
	p := newProvider(f, "a.example")
	c := p.client(f, "alice", "phone", primitive.Ed25519)
	pool := p.pool(f)
	f.Add(c.real.Chain[0], c.real.Chain[1])
	f.Fuzz(func(t *testing.T, leaf, intermediate []byte) {
		real, err := pseudonym.VerifyChain([][]byte{leaf, intermediate}, "a.example", pseudonym.Roots{"a.example": pool}, now)
		if err != nil {
			if real != (pseudonym.Real{}) {
				t.Error("result with an error")
			}
			return
		}
		if cert, err := x509.ParseCertificate(leaf); err != nil || len(cert.URIs) != 2 || real.User != c.user {
			t.Errorf("accepted a chain the CA did not make")
		}
	})
}
