// Package redeem spends tokens for a service: it keeps the keys of the issuers
// the service trusts, verifies tokens with package token, and records each as
// spent, durably and before the request is processed (SPEC.md R-84). The spent
// set is shared by all replicas through the store.
package redeem

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"time"

	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// Peers is where the keys of other issuers come from (package peer).
type Peers interface {
	// Issuers returns the domains of the providers whose tokens are accepted.
	Issuers() []string
	// TokenKeys returns the keys an issuer publishes now.
	TokenKeys(ctx context.Context, domain string) ([]*typesv1.TokenKey, error)
}

// Config describes a redeemer.
type Config struct {
	// Spent holds the spent set.
	Spent kv.Store
	// Peers are the foreign issuers.
	Peers Peers
	// OwnDomain and Own are the service's own issuer, if it is a provider.
	OwnDomain string
	Own       func(now time.Time) []*typesv1.TokenKey
}

const (
	refreshEvery = 5 * time.Minute  // keys are fetched again after this
	retryEvery   = 10 * time.Second // at the earliest after a fetch that found something missing
	fetchTimeout = 3 * time.Second
	sameRequest  = 10 * time.Minute // SPEC.md R-66: how long a repeated request may repeat its token
)

// Redeemer spends tokens. It is safe for concurrent use.
type Redeemer struct {
	cfg Config

	mu        sync.Mutex // guards all below
	keys      map[string]issuerKeys
	fetching  map[string]chan struct{}   // by issuer; closed when its fetch has ended
	verifiers map[string]*token.Verifier // by audience; rebuilt when keys change
	version   int                        // of keys
}

type issuerKeys struct {
	keys    []token.TrustedKey
	fetched time.Time
	tried   time.Time
}

// New returns a redeemer. Keys are fetched when they are first needed.
func New(cfg Config) *Redeemer {
	return &Redeemer{cfg: cfg, keys: make(map[string]issuerKeys), fetching: make(map[string]chan struct{}), verifiers: make(map[string]*token.Verifier)}
}

// Redeem verifies a token for an audience and spends it. requestID, which may
// be nil, lets the same request present the same token again for ten minutes
// (SPEC.md R-66). It returns the issuer's domain. Errors: mmr/token-invalid,
// mmr/token-spent, mmr/unavailable if the spent set is out of reach.
func (r *Redeemer) Redeem(ctx context.Context, audience string, tok, requestID []byte) (issuer string, err error) {
	now := time.Now()
	red, err := r.verify(ctx, audience, tok, now)
	if err != nil {
		return "", err
	}
	claim := binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))
	claim = append(claim, requestID...)
	key := kv.Key{Group: "t" + string(red.SpentKey[:1]), Name: string(red.SpentKey[:])}
	first, earlier, err := kv.Once(ctx, r.cfg.Spent, key, claim, time.Until(red.Epoch.Expires())+time.Hour)
	if err != nil {
		return "", mmrerr.Unavailable // fail closed: an unrecorded token could be spent again
	}
	if first || repeats(earlier, requestID, now) {
		return red.Issuer, nil
	}
	return "", mmrerr.TokenSpent
}

// repeats reports whether an earlier claim is the same request's, and recent.
func repeats(earlier, requestID []byte, now time.Time) bool {
	if len(earlier) < 8 || len(requestID) == 0 || !bytes.Equal(earlier[8:], requestID) {
		return false
	}
	at := time.Unix(int64(binary.BigEndian.Uint64(earlier)), 0)
	return now.Sub(at) <= sameRequest
}

// verify checks a token, with freshly fetched keys if the known ones do not fit.
func (r *Redeemer) verify(ctx context.Context, audience string, tok []byte, now time.Time) (token.Redemption, error) {
	r.refresh(ctx, refreshEvery)
	v, err := r.verifier(audience, now)
	if err != nil {
		return token.Redemption{}, err
	}
	red, err := v.Verify(tok, now)
	if err == nil {
		return red, nil
	}
	t, perr := token.Parse(tok)
	if perr != nil || r.knows(t.KeyID, now) {
		return token.Redemption{}, err
	}
	r.refresh(ctx, retryEvery)
	if v, err = r.verifier(audience, now); err != nil {
		return token.Redemption{}, err
	}
	return v.Verify(tok, now)
}

func (r *Redeemer) knows(id token.KeyID, now time.Time) bool {
	keys, _ := r.trusted(now)
	for _, k := range keys {
		if k.Key.ID() == id {
			return true
		}
	}
	return false
}

// refresh fetches the keys of issuers whose copy is older than maxAge, each
// issuer at most once in retryEvery. A fetch under way is waited for: the first
// requests after a start come together, and all need its result.
func (r *Redeemer) refresh(ctx context.Context, maxAge time.Duration) {
	now := time.Now()
	var wg sync.WaitGroup
	for _, domain := range r.cfg.Peers.Issuers() {
		if domain == r.cfg.OwnDomain {
			continue
		}
		if done, mine := r.claimFetch(domain, maxAge, now); mine {
			wg.Go(func() {
				defer r.fetched(domain, done)
				r.fetch(ctx, domain, now)
			})
		} else if done != nil {
			wg.Go(func() {
				select {
				case <-done:
				case <-ctx.Done():
				}
			})
		}
	}
	wg.Wait()
}

// claimFetch reports whether the caller is to fetch an issuer's keys; if
// somebody else does already, done tells when that has ended.
func (r *Redeemer) claimFetch(domain string, maxAge time.Duration, now time.Time) (done chan struct{}, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keys[domain]
	if now.Sub(k.fetched) < maxAge {
		return nil, false
	}
	if done = r.fetching[domain]; done != nil {
		return done, false
	}
	if now.Sub(k.tried) < min(retryEvery, maxAge) {
		return nil, false
	}
	k.tried = now
	r.keys[domain] = k
	done = make(chan struct{})
	r.fetching[domain] = done
	return done, true
}

func (r *Redeemer) fetched(domain string, done chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fetching, domain)
	close(done)
}

func (r *Redeemer) fetch(ctx context.Context, domain string, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	published, err := r.cfg.Peers.TokenKeys(ctx, domain)
	if err != nil {
		return // the earlier copy stays; the next need tries again
	}
	keys := trustedKeys(domain, published)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[domain] = issuerKeys{keys: keys, fetched: now, tried: now}
	r.version++
	clear(r.verifiers)
}

func trustedKeys(domain string, published []*typesv1.TokenKey) []token.TrustedKey {
	var keys []token.TrustedKey
	for _, p := range published {
		if k, err := token.ParsePublicKey(p.GetSpki()); err == nil {
			keys = append(keys, token.TrustedKey{Issuer: domain, Epoch: token.Epoch(p.GetEpoch()), Key: k})
		}
	}
	return keys
}

// trusted returns all keys, and the version of the foreign ones.
func (r *Redeemer) trusted(now time.Time) ([]token.TrustedKey, int) {
	var all []token.TrustedKey
	if r.cfg.Own != nil {
		all = trustedKeys(r.cfg.OwnDomain, r.cfg.Own(now))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keys {
		all = append(all, k.keys...)
	}
	return all, r.version
}

func (r *Redeemer) verifier(audience string, now time.Time) (*token.Verifier, error) {
	if r.cfg.Own == nil { // own keys rotate without a fetch, so they are not cached
		r.mu.Lock()
		v := r.verifiers[audience]
		r.mu.Unlock()
		if v != nil {
			return v, nil
		}
	}
	keys, version := r.trusted(now)
	v, err := token.NewVerifier(audience, keys)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if version == r.version { // not if keys came meanwhile
		r.verifiers[audience] = v
	}
	return v, nil
}

// AcceptedKeyIDs returns the token_key_ids that are accepted now, for
// publication (SPEC.md R-83).
func (r *Redeemer) AcceptedKeyIDs(ctx context.Context) [][]byte {
	r.refresh(ctx, refreshEvery)
	now := time.Now()
	keys, _ := r.trusted(now)
	v, err := token.NewVerifier("", keys)
	if err != nil {
		return nil
	}
	var ids [][]byte
	for _, id := range v.Accepted(now) {
		ids = append(ids, id[:])
	}
	return ids
}
