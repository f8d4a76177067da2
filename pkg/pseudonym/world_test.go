package pseudonym_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

// provider is a provider domain with its CA.
type provider struct {
	domain        string
	root          []byte
	rootKey       *primitive.SigningKey
	ca            *pseudonym.CA
	intermediate  []byte
	intermediateK *primitive.SigningKey
}

func newKey(tb testing.TB, alg primitive.Algorithm) *primitive.SigningKey {
	tb.Helper()
	k, err := primitive.GenerateSigningKey(alg)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func newProvider(tb testing.TB, domain string) *provider {
	tb.Helper()
	p := &provider{domain: domain, rootKey: newKey(tb, primitive.Ed25519), intermediateK: newKey(tb, primitive.Ed25519)}
	var err error
	if p.root, err = pseudonym.NewRoot(domain, p.rootKey, now.Add(-year), 10*year); err != nil {
		tb.Fatal(err)
	}
	if p.intermediate, err = pseudonym.NewIntermediate(domain, p.root, p.rootKey, p.intermediateK, now.Add(-year), 5*year); err != nil {
		tb.Fatal(err)
	}
	if p.ca, err = pseudonym.NewCA(domain, p.intermediate, p.intermediateK); err != nil {
		tb.Fatal(err)
	}
	return p
}

func (p *provider) pool(tb testing.TB) *x509.CertPool {
	tb.Helper()
	c, err := x509.ParseCertificate(p.root)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return pool
}

func handle(tb testing.TB, domain string, kind pseudonym.Kind, local string) pseudonym.Handle {
	tb.Helper()
	h, err := pseudonym.NewHandle(domain, kind, local)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// client is a client with a real credential.
type client struct {
	user, device pseudonym.Handle
	key          *primitive.SigningKey
	real         pseudonym.RealIdentity
}

func (p *provider) client(tb testing.TB, user, device string, alg primitive.Algorithm) *client {
	tb.Helper()
	c := &client{user: handle(tb, p.domain, pseudonym.User, user), device: handle(tb, p.domain, pseudonym.Client, device), key: newKey(tb, alg)}
	csr, err := pseudonym.NewCSR(c.key)
	if err != nil {
		tb.Fatal(err)
	}
	chain, err := p.ca.IssueClient(csr, c.user, c.device, now, year)
	if err != nil {
		tb.Fatal(err)
	}
	c.real = pseudonym.RealIdentity{Chain: chain, Key: c.key}
	return c
}

func newID(tb testing.TB, host string, kind pseudonym.Kind) pseudonym.ID {
	tb.Helper()
	id, err := pseudonym.NewID(host, kind)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func newTBS(tb testing.TB, host string) pseudonym.TBS {
	tb.Helper()
	return pseudonym.TBS{
		Client: newID(tb, host, pseudonym.Client), User: newID(tb, host, pseudonym.User), Key: newKey(tb, primitive.Ed25519).Public().Bytes(),
	}
}

func is(t *testing.T, name string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
}
