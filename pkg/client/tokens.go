package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// takeToken returns an unspent token for an audience, fetching a batch if there
// is none. It is removed from the state before it is used, so that it is never
// presented for two requests.
func (c *Client) takeToken(ctx context.Context, audience string) ([]byte, error) {
	c.tokenMu.Lock()
	defer c.tokenMu.Unlock()
	for range 2 {
		for len(c.tokens[audience]) > 0 {
			list := c.tokens[audience]
			t := list[len(list)-1]
			c.tokens[audience] = list[:len(list)-1]
			b := make(batch)
			if err := b.put(recTokens+audience, c.tokens[audience]); err != nil {
				return nil, err
			}
			if err := c.store.Write(b); err != nil {
				return nil, err
			}
			if epoch, tok := splitToken(t); epoch.ValidAt(time.Now()) {
				return tok, nil
			}
		}
		if err := c.fetchTokens(ctx, audience); err != nil {
			return nil, fmt.Errorf("fetching tokens: %w", err)
		}
	}
	return nil, errors.New("client: no valid token to be had")
}

// TokenStock is how many unspent tokens there are for a service.
type TokenStock struct {
	Audience string `json:"audience"`
	Count    int    `json:"count"`
}

// Tokens counts the unspent tokens, by audience.
func (c *Client) Tokens() []TokenStock {
	c.tokenMu.Lock()
	defer c.tokenMu.Unlock()
	var out []TokenStock
	for _, a := range slices.Sorted(maps.Keys(c.tokens)) {
		out = append(out, TokenStock{a, len(c.tokens[a])})
	}
	return out
}

// A stored token is its key's epoch in 8 bytes and the token.
func splitToken(b []byte) (token.Epoch, []byte) {
	var e uint64
	for _, x := range b[:8] {
		e = e<<8 | uint64(x)
	}
	return token.Epoch(e), b[8:]
}

func joinToken(e token.Epoch, t []byte) []byte {
	b := make([]byte, 8, 8+len(t))
	for i := range 8 {
		b[i] = byte(uint64(e) >> (56 - 8*i))
	}
	return append(b, t...)
}

// fetchTokens has a batch signed on the account session. Before that it makes
// sure that the issuer gives this account the key it gives everybody: the one
// it publishes and that redeemer and partner relay know (SPEC.md R-83). The issuer
// does not learn the audience.
func (c *Client) fetchTokens(ctx context.Context, audience string) error {
	key, err := c.issuerKey(ctx, audience)
	if err != nil {
		return err
	}
	reqs := make([]*token.Request, c.opts.tokens)
	blinded := make([][]byte, len(reqs))
	for i := range reqs {
		if reqs[i], err = token.NewRequest(key.Key, token.Challenge{Issuer: c.account.Domain, Audience: audience}); err != nil {
			return err
		}
		blinded[i] = reqs[i].Blinded()
	}
	res, err := retry(ctx, c.opts.retryFor, func() (*relayv1.IssueTokensResponse, error) {
		return relayv1.NewAccountServiceClient(c.t.session).IssueTokens(ctx, &relayv1.IssueTokensRequest{
			TruncatedTokenKeyId: uint32(key.Key.ID().Truncated()), Blinded: blinded,
		})
	})
	if err != nil {
		return err
	}
	if len(res.GetBlindSignatures()) != len(reqs) {
		return errors.New("client: the issuer signed another number of tokens")
	}
	for i, sig := range res.GetBlindSignatures() {
		t, err := reqs[i].Finalize(sig)
		if err != nil {
			return err
		}
		raw, err := t.AppendBinary(nil)
		if err != nil {
			return err
		}
		c.tokens[audience] = append(c.tokens[audience], joinToken(key.Epoch, raw))
	}
	b := make(batch)
	if err := b.put(recTokens+audience, c.tokens[audience]); err != nil {
		return err
	}
	return c.store.Write(b)
}

// issuerKey returns the own provider's current key, checked against what the
// redeemer accepts.
func (c *Client) issuerKey(ctx context.Context, audience string) (token.PublishedKey, error) {
	own, err := c.t.published(ctx, providerOf(c.account.Domain))
	if err != nil {
		return token.PublishedKey{}, err
	}
	published, err := tokenKeys(own.raw)
	if err != nil {
		return token.PublishedKey{}, err
	}
	now := token.EpochOf(time.Now())
	for _, k := range published {
		if k.Epoch != now {
			continue
		}
		accepted, err := c.acceptedKeys(ctx, audience)
		if err != nil {
			return token.PublishedKey{}, err
		}
		if err := token.Consistent(k, published, accepted); err != nil {
			c.forgetRedeemer(audience) // perhaps its list is older than the key
			return token.PublishedKey{}, err
		}
		if err := c.secondCopy(ctx, k); err != nil {
			return token.PublishedKey{}, err
		}
		return k, c.checkIssuer(own.raw, k) // last: it keeps the list
	}
	c.t.forget(providerOf(c.account.Domain))
	return token.PublishedKey{}, errors.New("client: the provider publishes no token key of this week")
}

// checkIssuer compares the issuer's list of keys with what this client has seen
// of it before, and keeps it (SPEC.md R-83). tokenMu is held.
func (c *Client) checkIssuer(p *typesv1.PublishedKeys, key token.PublishedKey) error {
	var log []token.LogEntry
	for _, e := range p.GetTokenKeyLog() {
		if len(e.GetTokenKeyId()) != token.KeyIDSize {
			return token.ErrInconsistent
		}
		log = append(log, token.LogEntry{Epoch: token.Epoch(e.GetEpoch()), ID: token.KeyID(e.GetTokenKeyId())})
	}
	if err := token.CheckLog(c.issuer, log, key); err != nil {
		return err
	}
	if len(log) == len(c.issuer) {
		return nil
	}
	c.issuer = log
	b := make(batch)
	if err := b.put(recIssuer, log); err != nil {
		return err
	}
	return c.store.Write(b)
}

// secondCopy compares the issuer's key with the copy that the partner relay serves
// to everybody: the own relay, from which all other copies come, is the issuer's,
// and the partner does not know who asks (SPEC.md R-83). Without a partner there is
// nobody to ask. A key is compared once. tokenMu is held.
func (c *Client) secondCopy(ctx context.Context, key token.PublishedKey) error {
	if c.t.partner == nil || c.compared == key.Key.ID() {
		return nil
	}
	res, err := retry(ctx, c.t.patience(ctx), func() (*relayv1.GetPublishedKeysResponse, error) {
		return relayv1.NewForwardServiceClient(c.t.partner).GetPublishedKeys(ctx, &relayv1.GetPublishedKeysRequest{
			TargetDomain: c.account.Domain, Role: relayv1.Role_ROLE_PROVIDER,
		})
	})
	if err != nil {
		return fmt.Errorf("asking the partner relay for the issuer's key: %w", err)
	}
	published, err := tokenKeys(res.GetKeys())
	if err != nil {
		return err
	}
	if err := token.Consistent(key, published, []token.KeyID{key.Key.ID()}); err != nil {
		return fmt.Errorf("the partner relay's copy: %w", err)
	}
	c.compared = key.Key.ID()
	return nil
}

// tokenKeys reads the issuer's keys from what it publishes.
func tokenKeys(p *typesv1.PublishedKeys) ([]token.PublishedKey, error) {
	var ks []token.PublishedKey
	for _, k := range p.GetTokenKeys() {
		pk, err := token.ParsePublicKey(k.GetSpki())
		if err != nil {
			return nil, err
		}
		ks = append(ks, token.PublishedKey{Epoch: token.Epoch(k.GetEpoch()), Key: pk})
	}
	return ks, nil
}

// redeemerOf returns the service that an audience names. A relay publishes with
// its provider's keys.
func (c *Client) redeemerOf(audience string) service {
	for _, s := range []service{hubOf(domainOf(audience)), providerOf(domainOf(audience))} {
		if s.audience() == audience || audience == seal.RelayAudience(s.domain) && s == providerOf(s.domain) {
			return s
		}
	}
	return service{}
}

func (c *Client) acceptedKeys(ctx context.Context, audience string) ([]token.KeyID, error) {
	k, err := c.t.published(ctx, c.redeemerOf(audience))
	if err != nil {
		return nil, err
	}
	var ids []token.KeyID
	for _, id := range k.raw.GetAcceptedTokenKeyIds() {
		if len(id) == token.KeyIDSize {
			ids = append(ids, token.KeyID(id))
		}
	}
	return ids, nil
}

func (c *Client) forgetRedeemer(audience string) { c.t.forget(c.redeemerOf(audience)) }
