package keys_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

const year = 365 * 24 * time.Hour

// end returns when a certificate of a deployment ends.
func end(t *testing.T, dir string, role keys.Role, name string) time.Time {
	t.Helper()
	es, err := load(t, dir, role).Expiries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if e.Name == name {
			return e.NotAfter
		}
	}
	t.Fatalf("no certificate %s among %v", name, es)
	return time.Time{}
}

func load(t *testing.T, dir string, role keys.Role) *keys.Set {
	t.Helper()
	s, err := keys.Load(dir, role, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tlsCertificate(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// TestRenew: a deployment whose certificates end is certified again, by a root that
// is kept elsewhere, with the identity that its rooms have.
func TestRenew(t *testing.T) {
	now := time.Now()
	for _, role := range []keys.Role{keys.Hub, keys.Provider} {
		t.Run(string(role), func(t *testing.T) {
			dir, offline := t.TempDir(), t.TempDir()
			if err := keys.Generate(dir, role, "hub.example", []string{"127.0.0.1", "a.hub.example"}, now.Add(-2*year)); err != nil {
				t.Fatal(err)
			}
			for _, f := range []string{"operator.key", "operator.crt"} {
				if err := os.Rename(filepath.Join(dir, f), filepath.Join(offline, f)); err != nil {
					t.Fatal(err)
				}
			}
			if at := end(t, dir, role, "tls"); at.After(now) {
				t.Fatalf("the listeners' certificate lasts until %v", at)
			}
			before := load(t, dir, role)
			if err := keys.Renew(dir, dir, role, "hub.example", nil, now); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("without the root: %v", err)
			}
			if err := keys.Renew(dir, offline, role, "b.example", nil, now); err == nil {
				t.Error("another domain was certified")
			}
			if err := keys.Renew(dir, offline, role, "hub.example", []string{"b.hub.example"}, now); err != nil {
				t.Fatal(err)
			}
			if at := end(t, dir, role, "tls"); at.Before(now.Add(year)) {
				t.Errorf("the listeners' certificate lasts until %v", at)
			}
			if at := end(t, dir, role, "identity"); at.Before(now.Add(7*year)) || at.After(now.Add(8*year+time.Hour)) {
				t.Errorf("the identity lasts until %v, the root for eight years", at)
			}
			after := load(t, dir, role)
			algs := []primitive.Algorithm{primitive.Ed25519}
			if role == keys.Hub {
				algs = append(algs, primitive.ECDSAP256)
			}
			roots, err := keys.Pool(filepath.Join(offline, "operator.crt"))
			if err != nil {
				t.Fatal(err)
			}
			for _, alg := range algs {
				was, _, _ := before.IdentityFor(alg)
				is, chain, ok := after.IdentityFor(alg)
				if !ok || string(was.Public().Bytes()) != string(is.Public().Bytes()) {
					t.Errorf("algorithm %v: another identity", alg)
				}
				if _, err := pseudonym.VerifyService(chain, "hub.example", roots, now.Add(7*year)); err != nil {
					t.Error(err)
				}
			}
			pair := tlsCertificate(t, dir)
			for _, host := range []string{"hub.example", "127.0.0.1", "a.hub.example", "b.hub.example"} {
				if err := pair.VerifyHostname(host); err != nil {
					t.Error(err)
				}
			}
			if _, err := pair.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now.Add(year)}); err != nil {
				t.Error(err)
			}
			if err := keys.Renew(dir, offline, role, "hub.example", nil, now.Add(9*year)); !errors.Is(err, keys.ErrExpired) {
				t.Errorf("with a root that has expired: %v", err)
			}
		})
	}
}
