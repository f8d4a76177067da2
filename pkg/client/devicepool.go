package client

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// poolWindow is how many pseudonyms beyond the known ones a device looks for,
// when others have filled sets meanwhile (SPEC.md R-42).
const poolWindow = 64

// poolCall sends a request signed by the pool's upload key.
func (s *connectionState) pool() (id [32]byte, upload *primitive.SigningKey, err error) {
	key, err := secretOf(s.UploadKey)
	if err != nil {
		return id, nil, err
	}
	if upload, err = primitive.ParseSigningKey(primitive.Ed25519, key); err != nil {
		return id, nil, err
	}
	token, err := secretOf(s.OwnToken)
	return pseudonym.PoolID(token), upload, err
}

// tendPool brings a pool up to date: this device has a slot in it, its packages
// are in all unused sets, there are enough sets, and a last-resort set that was
// used is replaced (SPEC.md ). mu is held.
func (c *Client) tendPool(ctx context.Context, s *connectionState) error {
	id, upload, err := s.pool()
	if err != nil {
		return err
	}
	to := providerOf(c.account.Domain)
	if slots := c.slotsOf(s); !maps.EqualFunc(slots, s.Slots, bytes.Equal) {
		if err := c.setSlots(ctx, s, slots); err != nil {
			return err
		}
	}
	var list relayv1.PoolListResponse
	if err := c.do(ctx, call{to: to, method: seal.MethodPoolList, kind: seal.AuthPool, signer: upload, body: &relayv1.PoolListRequest{PoolId: id[:]}}, &list); err != nil {
		return err
	}
	missing, fresh, lastResort, err := c.poolNeeds(s, &list)
	if err != nil || len(missing)+fresh+lastResort == 0 {
		return err
	}
	return c.uploadSets(ctx, s, missing, fresh, lastResort, make(batch))
}

// setSlots says which devices a pool's sets must have a package of.
func (c *Client) setSlots(ctx context.Context, s *connectionState, slots map[string][]byte) error {
	id, upload, err := s.pool()
	if err != nil {
		return err
	}
	req := &relayv1.PoolSlotsRequest{PoolId: id[:]}
	for _, device := range slices.Sorted(maps.Keys(slots)) {
		req.Slots = append(req.Slots, slots[device])
	}
	err = c.do(ctx, call{to: providerOf(c.account.Domain), method: seal.MethodPoolSlots, kind: seal.AuthPool, signer: upload, body: req}, &relayv1.PoolSlotsResponse{})
	if err != nil {
		return err
	}
	s.Slots = slots
	b := make(batch)
	if err := b.put(recConn+s.Peer, s); err != nil {
		return err
	}
	if err := c.tellDevices(&deviceMessage{Connections: []*connectionState{s}}, b); err != nil {
		return err
	}
	return c.store.Write(b)
}

// poolGap is a set of another device without a package of this one.
type poolGap struct {
	user       pseudonym.ID
	lastResort bool
}

// poolNeeds says what a pool lacks, by the provider's list of it.
func (c *Client) poolNeeds(s *connectionState, list *relayv1.PoolListResponse) (missing []poolGap, fresh, lastResort int, err error) {
	seed, err := secretOf(s.PoolSeed)
	if err != nil {
		return nil, 0, 0, err
	}
	index := make(map[string]uint64)
	for j := range s.PoolNext + poolWindow {
		user, err := pseudonym.UserPseudonym(seed, c.account.Domain, j)
		if err != nil {
			return nil, 0, 0, err
		}
		index[user.String()] = j
	}
	unused, spare := 0, 0
	for _, e := range list.GetSets() {
		j, ours := index[e.GetUserPseudonym()]
		if !ours {
			continue // of no pseudonym of this pool: nobody can be welcomed by it
		}
		s.PoolNext = max(s.PoolNext, j+1)
		switch {
		case e.GetLastResort() && e.GetUsed() == 0:
			spare++
		case !e.GetLastResort() && e.GetUsed() == 0:
			unused++
		default:
			continue
		}
		if !slices.ContainsFunc(e.GetFilled(), func(x []byte) bool { return string(x) == string(c.account.SlotID) }) {
			user, err := pseudonym.ParseID(e.GetUserPseudonym())
			if err != nil {
				return nil, 0, 0, err
			}
			missing = append(missing, poolGap{user, e.GetLastResort()})
		}
	}
	if unused <= c.opts.poolSets/2 {
		fresh = c.opts.poolSets - unused
	}
	return missing, fresh, max(lastResortSets-spare, 0), nil
}

// uploadSets makes packages of this device and uploads them. Their private halves
// are written before: a package that somebody can use can be opened.
func (c *Client) uploadSets(ctx context.Context, s *connectionState, missing []poolGap, fresh, lastResort int, b batch) error {
	id, upload, err := s.pool()
	if err != nil {
		return err
	}
	seed, err := secretOf(s.PoolSeed)
	if err != nil {
		return err
	}
	for i := range fresh + lastResort {
		user, err := pseudonym.UserPseudonym(seed, c.account.Domain, s.PoolNext)
		if err != nil {
			return err
		}
		s.PoolNext++
		missing = append(missing, poolGap{user, i >= fresh})
	}
	req := &relayv1.PoolUploadRequest{PoolId: id[:]}
	for _, gap := range missing {
		set, err := c.makeSet(ctx, s, gap.user, gap.lastResort, b)
		if err != nil {
			return err
		}
		req.Sets = append(req.Sets, set)
	}
	if err := b.put(recConn+s.Peer, s); err != nil {
		return err
	}
	if err := c.store.Write(b); err != nil {
		return err
	}
	return c.do(ctx, call{
		to: providerOf(c.account.Domain), method: seal.MethodPoolUpload, token: true, kind: seal.AuthPool, signer: upload, body: req,
	}, &relayv1.PoolUploadResponse{})
}

// dropStale forgets packages that nobody can use any more.
func (c *Client) dropStale(b batch) {
	now := uint64(time.Now().Unix())
	for ref, p := range c.packages {
		if p.NotAfter < now {
			delete(c.packages, ref)
			b.del(recPackage + ref)
		}
	}
	for hash, k := range c.connKeys {
		if k.NotAfter+uint64(packageValidity/time.Second) < now { // requests may wait in the provider's box
			delete(c.connKeys, hash)
			b.del(recConnKey + hash)
		}
	}
}
