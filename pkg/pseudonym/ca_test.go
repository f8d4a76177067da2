package pseudonym_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// TestLinkSizesAreUniform issues credentials with the shortest and the longest
// names and both key types, with and without intermediate, at short and long
// domains: all links of a provider have one size (SPEC.md R-6).
func TestLinkSizesAreUniform(t *testing.T) {
	long := strings.Repeat("abcdefgh.", 27) + "example" // 250 bytes
	for _, domain := range []string{"a.b", "provider.example", long} {
		for _, caAlg := range []primitive.Algorithm{primitive.Ed25519, primitive.ECDSAP256} {
			p := &provider{domain: domain, rootKey: newKey(t, caAlg), intermediateK: newKey(t, caAlg)}
			p.root, _ = pseudonym.NewRoot(domain, p.rootKey, now.Add(-year), 10*year)
			p.intermediate, _ = pseudonym.NewIntermediate(domain, p.root, p.rootKey, p.intermediateK, now.Add(-year), 5*year)
			for kind, make := range map[string]func() (*pseudonym.CA, error){
				"root":         func() (*pseudonym.CA, error) { return pseudonym.NewCA(domain, p.root, p.rootKey) },
				"intermediate": func() (*pseudonym.CA, error) { return pseudonym.NewCA(domain, p.intermediate, p.intermediateK) },
			} {
				var err error
				if p.ca, err = make(); err != nil {
					t.Fatal(err)
				}
				sizes := map[int]bool{}
				for _, name := range []string{"a", "alice", strings.Repeat("x", 64)} {
					for _, alg := range []primitive.Algorithm{primitive.Ed25519, primitive.ECDSAP256} {
						c := p.client(t, name, name, alg)
						k := primitive.NewSecret()
						cred, err := pseudonym.NewCredential(newTBS(t, domain), k, c.real)
						if err != nil {
							t.Fatal(err)
						}
						sizes[len(cred.Ciphertext)] = true
						if real, err := cred.Reveal(k, pseudonym.Roots{domain: p.pool(t)}, now); err != nil || real.User != c.user {
							t.Errorf("%s CA, %d-byte domain: %v", kind, len(domain), err)
						}
					}
				}
				if len(sizes) != 1 || !sizes[p.ca.LinkSize()+60] {
					t.Errorf("%s CA with %v, %d-byte domain: links of %v bytes, class %d", kind, caAlg, len(domain), sizes, p.ca.LinkSize())
				}
			}
		}
	}
}

func TestCARefusals(t *testing.T) {
	p := newProvider(t, "a.example")
	key := newKey(t, primitive.Ed25519)
	csr, _ := pseudonym.NewCSR(key)
	user, device := handle(t, "a.example", 'u', "alice"), handle(t, "a.example", 'd', "phone")
	bad := append([]byte(nil), csr...)
	bad[len(bad)-1] ^= 1
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	csr384, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	for name, c := range map[string]struct {
		csr          []byte
		user, device pseudonym.Handle
	}{
		"no request":       {nil, user, device},
		"signature":        {bad, user, device},
		"P-384":            {csr384, user, device},
		"swapped kinds":    {csr, device, user},
		"foreign user":     {csr, handle(t, "b.example", 'u', "alice"), device},
		"foreign client":   {csr, user, handle(t, "b.example", 'd', "phone")},
		"zero handles":     {csr, pseudonym.Handle{}, pseudonym.Handle{}},
		"trailing garbage": {append(append([]byte(nil), csr...), 0), user, device},
	} {
		chain, err := p.ca.IssueClient(c.csr, c.user, c.device, now, year)
		is(t, name, err, mmrerr.Malformed)
		if chain != nil {
			t.Errorf("%s: result with an error", name)
		}
	}
	if _, err := pseudonym.NewCA("a.example", p.root, p.intermediateK); err == nil {
		t.Error("CA with another's key")
	}
	chain, _ := p.ca.IssueClient(csr, user, device, now, year)
	if _, err := pseudonym.NewCA("a.example", chain[0], key); err == nil {
		t.Error("client certificate as CA")
	}
	for _, domain := range []string{"", "localhost", "A.example"} {
		if _, err := pseudonym.NewRoot(domain, key, now, year); err == nil {
			t.Errorf("root for %q", domain)
		}
		if _, err := pseudonym.NewIntermediate(domain, p.root, p.rootKey, key, now, year); err == nil {
			t.Errorf("intermediate for %q", domain)
		}
		if _, err := pseudonym.NewCA(domain, p.root, p.rootKey); err == nil {
			t.Errorf("CA for %q", domain)
		}
		if _, err := p.ca.IssueService(key.Public(), domain, now, year); err == nil {
			t.Errorf("service identity for %q", domain)
		}
	}
	// Certificates never outlive the CA.
	long, err := p.ca.IssueClient(csr, user, device, now, 100*year)
	if err != nil {
		t.Fatal(err)
	}
	roots := pseudonym.Roots{"a.example": p.pool(t)}
	if _, err := pseudonym.VerifyChain(long, "a.example", roots, now.Add(3*year)); err != nil {
		t.Error(err)
	}
	_, err = pseudonym.VerifyChain(long, "a.example", roots, now.Add(6*year))
	is(t, "after the CA's end", err, pseudonym.ErrUnverified)
}

func TestServiceIdentity(t *testing.T) {
	p := newProvider(t, "h.example")
	hub := newKey(t, primitive.ECDSAP256)
	chain, err := p.ca.IssueService(hub.Public(), "h.example", now, year)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := pseudonym.VerifyService(chain, "h.example", p.pool(t), now); err != nil || key != hub.Public() {
		t.Errorf("%v", err)
	}
	client := p.client(t, "alice", "phone", primitive.Ed25519)
	for name, f := range map[string]func() (primitive.PublicKey, error){
		"domain": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService(chain, "g.example", p.pool(t), now)
		},
		"subdomain": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService(chain, "x.h.example", p.pool(t), now)
		},
		"roots": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService(chain, "h.example", newProvider(t, "h.example").pool(t), now)
		},
		"no roots": func() (primitive.PublicKey, error) { return pseudonym.VerifyService(chain, "h.example", nil, now) },
		"expired": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService(chain, "h.example", p.pool(t), now.Add(2*year))
		},
		"client": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService(client.real.Chain, "h.example", p.pool(t), now)
		},
		"no chain": func() (primitive.PublicKey, error) { return pseudonym.VerifyService(nil, "h.example", p.pool(t), now) },
		"CA itself": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService([][]byte{p.intermediate}, "h.example", p.pool(t), now)
		},
		"not a chain": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService([][]byte{{1}}, "h.example", p.pool(t), now)
		},
		"three parts": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService(append(chain, p.root), "h.example", p.pool(t), now)
		},
		"intermediate": func() (primitive.PublicKey, error) {
			return pseudonym.VerifyService(chain[:1], "h.example", p.pool(t), now)
		},
	} {
		key, err := f()
		is(t, name, err, pseudonym.ErrUnverified)
		if key != (primitive.PublicKey{}) {
			t.Errorf("%s: result with an error", name)
		}
	}
	_, err = pseudonym.VerifyChain(chain, "h.example", pseudonym.Roots{"h.example": p.pool(t)}, now)
	is(t, "service as client", err, pseudonym.ErrUnverified)
}

// TestCertificateNames lets a CA of the domain sign certificates that the
// profile does not know: exactly one user's and one client's URI count.
func TestCertificateNames(t *testing.T) {
	p := newProvider(t, "a.example")
	root, _ := x509.ParseCertificate(p.root)
	roots := pseudonym.Roots{"a.example": p.pool(t)}
	uri := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	user, device := uri("mimi://a.example/u/alice"), uri("mimi://a.example/d/phone")
	key := newKey(t, primitive.Ed25519)
	issue := func(change func(c *x509.Certificate)) [][]byte {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{user, device},
		}
		change(tmpl)
		var pub any = key.Std().Public()
		if tmpl.PublicKey != nil {
			pub = tmpl.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, root, pub, p.rootKey.Std())
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{der}
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for _, change := range []func(c *x509.Certificate){
		func(*x509.Certificate) {},
		func(c *x509.Certificate) { c.URIs = []*url.URL{device, user} },
	} {
		if real, err := pseudonym.VerifyChain(issue(change), "a.example", roots, now); err != nil || real.User.Local() != "alice" || real.Client.Local() != "phone" {
			t.Errorf("good certificate: %v", err)
		}
	}
	for name, change := range map[string]func(c *x509.Certificate){
		"no names":       func(c *x509.Certificate) { c.URIs = nil },
		"user only":      func(c *x509.Certificate) { c.URIs = []*url.URL{user} },
		"two users":      func(c *x509.Certificate) { c.URIs = []*url.URL{user, uri("mimi://a.example/u/bob")} },
		"two clients":    func(c *x509.Certificate) { c.URIs = []*url.URL{device, device} },
		"three names":    func(c *x509.Certificate) { c.URIs = append(c.URIs, user) },
		"DNS name":       func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} },
		"mail address":   func(c *x509.Certificate) { c.EmailAddresses = []string{"alice@a.example"} },
		"IP address":     func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} },
		"foreign domain": func(c *x509.Certificate) { c.URIs[0] = uri("mimi://b.example/u/alice") },
		"foreign client": func(c *x509.Certificate) { c.URIs[1] = uri("mimi://b.example/d/phone") },
		"pseudonym":      func(c *x509.Certificate) { c.URIs[0] = uri("mimi://a.example/u/11111111-2222-4333-8444-555555555555") },
		"escaped":        func(c *x509.Certificate) { c.URIs[0] = uri("mimi://a.example/u/al%69ce") },
		"web address":    func(c *x509.Certificate) { c.URIs[0] = uri("https://a.example/u/alice") },
		"CA":             func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"key usage":      func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment },
		"P-384 key":      func(c *x509.Certificate) { c.PublicKey = p384.Public() },
		"empty fragment": func(c *x509.Certificate) {
			c.URIs = nil
			c.ExtraExtensions = []pkix.Extension{san("mimi://a.example/u/alice#", "mimi://a.example/d/phone")}
		},
		"critical, unknown": func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 25, 1}, Critical: true}} },
	} {
		real, err := pseudonym.VerifyChain(issue(change), "a.example", roots, now)
		is(t, name, err, pseudonym.ErrUnverified)
		if real != (pseudonym.Real{}) {
			t.Errorf("%s: result with an error", name)
		}
	}
}

// san makes a subjectAltName extension of short URIs.
func san(uris ...string) pkix.Extension {
	var names []byte
	for _, u := range uris {
		names = append(names, 0x86, byte(len(u)))
		names = append(names, u...)
	}
	return pkix.Extension{Id: []int{2, 5, 29, 17}, Value: append([]byte{0x30, byte(len(names))}, names...)}
}
