// Package keys makes, loads and rotates the keys of a deployment. Everything
// lies in one directory of files that only the daemon's user can read:
//
//	operator.crt, operator.key   root of the operator; the key is needed by keygen only
//	tls.crt, tls.key             listeners and calls to peers, DNS name = domain
//	identity.crt, identity.key   x509 identity: signs key configurations, receipts, franks
//	identity-p256.crt, .key      hub: the same for rooms whose suite signs with P-256
//	clients.crt, clients.key     relay: CA of the users' credentials
//	gateway/NNN.pem              HPKE keys for requests, 7 days each (SPEC.md R-61)
//	queue/NNN.pem                relay: HPKE keys for sealed queue ids, 90 days each
//	token/EPOCH.pem              relay: token issuer keys, one per week (SPEC.md R-82)
//	token/log                    relay: all of them there ever were
//	secret.pem                   hub: key of rooms at rest; relay: key of R-53's delays
//	public/                      what to hand to others
//
// HPKE and token keys follow each other with overlap: Rotate makes successors
// and destroys what has ended, and a running daemon reads the directory again.
package keys

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// Role is what a key directory is for.
type Role string

// The two roles; the text is the prefix of the gateway's audience.
const (
	Hub      Role = "hub"
	Provider Role = "provider"
)

// ErrExpired reports that a kind of key has no valid key.
var ErrExpired = errors.New("keys: no valid key")

// Set is the loaded keys of one deployment. It is safe for concurrent use.
type Set struct {
	dir    string
	role   Role
	domain string

	identity     *primitive.SigningKey
	identityCert [][]byte
	p256         *primitive.SigningKey // nil if the directory has none
	p256Cert     [][]byte
	clients      *authority
	ca           *pseudonym.CA
	secret       primitive.Secret

	mu      sync.RWMutex // guards all below
	gateway []*hpkeKey
	queue   []*hpkeKey
	tokens  []*tokenKey
	log     []token.LogEntry // of all token keys
}

// Load reads a key directory made by Generate.
func Load(dir string, role Role, domain string) (*Set, error) {
	s := &Set{dir: dir, role: role, domain: domain}
	var err error
	if s.identity, s.identityCert, err = readIdentity(dir, "identity", domain); err != nil {
		return nil, err
	}
	if role == Hub {
		// Directories of before have none, and serve no such rooms.
		s.p256, s.p256Cert, err = readIdentity(dir, identityP256, domain)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if s.secret, err = readSecret(filepath.Join(dir, "secret.pem")); err != nil {
		return nil, err
	}
	if role == Provider {
		if s.clients, err = loadAuthority(filepath.Join(dir, "clients")); err != nil {
			return nil, err
		}
		caKey, err := primitive.SigningKeyOf(s.clients.key)
		if err != nil {
			return nil, err
		}
		if s.ca, err = pseudonym.NewCA(domain, s.clients.cert.Raw, caKey); err != nil {
			return nil, err
		}
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

const identityP256 = "identity-p256"

// readIdentity reads an identity and its chain.
func readIdentity(dir, name, domain string) (*primitive.SigningKey, [][]byte, error) {
	certs, err := readCertificates(filepath.Join(dir, name+".crt"))
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(certs[0].DNSNames, domain) {
		return nil, nil, fmt.Errorf("keys: %s.crt is for another domain", name)
	}
	var chain [][]byte
	for _, c := range certs {
		chain = append(chain, c.Raw)
	}
	key, err := readKey(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, nil, err
	}
	k, err := primitive.SigningKeyOf(key)
	return k, chain, err
}

func readSecret(path string) (primitive.Secret, error) {
	blocks, err := readPEM(path, pemSecret)
	if err != nil {
		return primitive.Secret{}, err
	}
	return primitive.ParseSecret(blocks[0])
}

// Reload reads the keys that rotate again. On error the loaded ones stay.
func (s *Set) Reload() error {
	gateway, err := gatewayKeys.load(s.dir)
	if err != nil {
		return err
	}
	var queue []*hpkeKey
	var tokens []*tokenKey
	var log []token.LogEntry
	if s.role == Provider {
		if queue, err = queueKeys.load(s.dir); err != nil {
			return err
		}
		if tokens, err = loadTokenKeys(s.dir); err != nil {
			return err
		}
		if log, err = loadTokenLog(s.dir); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gateway, s.queue, s.tokens, s.log = gateway, queue, tokens, log
	return nil
}

// Rotate makes successors of keys that near their end, destroys those past it,
// and reloads. It is idempotent; a daemon that owns its key directory calls it
// hourly.
func (s *Set) Rotate(now time.Time) error {
	if _, err := gatewayKeys.rotate(s.dir, gatewayKeys.audienceFor(s.role, s.domain), s.identity, now); err != nil {
		return err
	}
	if s.role == Provider {
		if _, err := queueKeys.rotate(s.dir, queueKeys.audienceFor(s.role, s.domain), s.identity, now); err != nil {
			return err
		}
		if err := rotateTokenKeys(s.dir, now); err != nil {
			return err
		}
	}
	return s.Reload()
}

// Valid reports whether every kind of key has a valid one.
func (s *Set) Valid(now time.Time) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	kinds := [][]*hpkeKey{s.gateway}
	if s.role == Provider {
		kinds = append(kinds, s.queue)
		if !slices.ContainsFunc(s.tokens, func(t *tokenKey) bool { return t.current(now) }) {
			return ErrExpired
		}
	}
	for _, ks := range kinds {
		if !slices.ContainsFunc(ks, func(k *hpkeKey) bool { return k.config.ValidAt(now) }) {
			return ErrExpired
		}
	}
	return nil
}

// Identity signs as the deployment's x509 identity.
func (s *Set) Identity() *primitive.SigningKey { return s.identity }

// IdentityCertificates returns the identity's chain, DER, leaf first.
func (s *Set) IdentityCertificates() [][]byte { return s.identityCert }

// IdentityFor returns the identity that signs with an algorithm and its chain,
// as external_senders[0] of rooms with such a suite (SPEC.md §3); ok is false if
// the deployment has none.
func (s *Set) IdentityFor(alg primitive.Algorithm) (key *primitive.SigningKey, chain [][]byte, ok bool) {
	switch {
	case alg == s.identity.Public().Algorithm():
		return s.identity, s.identityCert, true
	case s.p256 != nil && alg == s.p256.Public().Algorithm():
		return s.p256, s.p256Cert, true
	}
	return nil, nil, false
}

// StoreKey is the hub's key of rooms at rest that have none of their own (SPEC.md R-101).
func (s *Set) StoreKey() primitive.Secret { return s.secret }

// DelayKey is the relay's key for the delays of SPEC.md R-53.
func (s *Set) DelayKey() []byte { return s.secret.Bytes() }

// GatewayKey returns the private key of an id that may still be used at now.
func (s *Set) GatewayKey(id uint8, now time.Time) (seal.GatewayKey, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := find(s.gateway, id, now)
	if k == nil {
		return seal.GatewayKey{}, false
	}
	return seal.GatewayKey{ID: id, Key: k.private}, true
}

// QueueKey returns the private key that opens addresses sealed to an id.
func (s *Set) QueueKey(id uint8, now time.Time) (*primitive.KEMPrivateKey, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := find(s.queue, id, now)
	if k == nil {
		return nil, false
	}
	return k.private, true
}

func find(ks []*hpkeKey, id uint8, now time.Time) *hpkeKey {
	for _, k := range ks {
		if k.config.ID == id && k.usable(now) {
			return k
		}
	}
	return nil
}

// Published returns what the deployment publishes, without accepted token keys.
func (s *Set) Published(now time.Time) (*typesv1.PublishedKeys, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := &typesv1.PublishedKeys{Certificates: s.identityCert}
	if len(s.p256Cert) > 0 {
		p.ExternalSenders = append(p.ExternalSenders, s.p256Cert[0])
	}
	for _, k := range s.gateway {
		if k.config.ValidAt(now) {
			p.GatewayKeys = append(p.GatewayKeys, &typesv1.SignedKeyConfig{Config: k.published, Signature: k.signature})
		}
	}
	for _, k := range s.queue {
		if k.config.ValidAt(now) {
			p.QueueKeys = append(p.QueueKeys, &typesv1.SignedKeyConfig{Config: k.published, Signature: k.signature})
		}
	}
	for _, t := range s.tokens {
		if t.published(now) {
			p.TokenKeys = append(p.TokenKeys, &typesv1.TokenKey{Epoch: t.epoch, Spki: t.spki})
		}
	}
	p.TokenKeyLog = s.tokenLog()
	if len(p.GatewayKeys) == 0 {
		return nil, ErrExpired
	}
	return p, nil
}

// ClientCAs is the pool that verifies account sessions: the provider's CA.
func (s *Set) ClientCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.clients.cert)
	return pool
}
