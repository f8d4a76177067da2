package client

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Identity says how sure it is who a member is.
type Identity string

// The degrees, SPEC.md R-4. A provider that is also the CA can forge a
// credential: only a safety code compared by people excludes that.
const (
	// Unverified: no link key, or a credential that does not lead to the CA of its
	// provider, or two people under one pseudonym.
	Unverified Identity = "unverified"
	// Verified: the provider's CA vouches for the identifier.
	Verified Identity = "verified"
	// Confirmed: verified, with a device key whose safety code was confirmed.
	Confirmed Identity = "confirmed"
	// Changed: verified, but with another device key than those that were
	// confirmed: a new device, or somebody else.
	Changed Identity = "changed"
)

// peerState is what is known about the device keys of a user.
type peerState struct {
	Keys      map[string]int64 // seen in a verified credential: hash of the key, Unix seconds of the first time
	Confirmed map[string]bool  `json:",omitempty"`
}

// keyID is the hash by which a device key is known.
func keyID(device pseudonym.Handle, key primitive.PublicKey) string {
	h := primitive.Hash([]byte("mmr device key"), codec.AppendVector(codec.AppendVector(nil, device.String()), key.Bytes()))
	return b64(h[:])
}

// met notes the device keys of verified members.
func (c *Client) met(reals []pseudonym.Real, b batch) error {
	now := time.Now().Unix()
	for _, real := range reals {
		user, id := real.User.String(), keyID(real.Client, real.Key)
		p := c.peers[user]
		if p == nil {
			p = &peerState{Keys: make(map[string]int64)}
			c.peers[user] = p
		}
		if _, ok := p.Keys[id]; ok {
			continue
		}
		p.Keys[id] = now
		if err := b.put(recPeer+user, p); err != nil {
			return err
		}
	}
	return nil
}

// identity judges a verified member.
func (c *Client) identity(real pseudonym.Real) Identity {
	p := c.peers[real.User.String()]
	switch {
	case p == nil || len(p.Confirmed) == 0:
		return Verified
	case p.Confirmed[keyID(real.Client, real.Key)]:
		return Confirmed
	}
	return Changed
}

// safetyIterations makes it costly to look for keys whose code is close to
// another's.
const safetyIterations = 5200

// SafetyCode returns 60 digits that two users see alike if neither's provider
// shows the other a false key: to be compared in person or on the phone. It
// covers the keys of all devices of both that this client has seen in rooms.
func (c *Client) SafetyCode(user string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, ok := c.peers[c.self.String()]
	if !ok {
		own = &peerState{Keys: map[string]int64{c.ownKeyID(): 0}}
	}
	peer := c.peers[user]
	if peer == nil || user == c.self.String() {
		return "", fmt.Errorf("client: %w: no room shows a device of this user yet", ErrNoConnection)
	}
	halves := []string{safetyDigits(c.self.String(), own), safetyDigits(user, peer)}
	slices.Sort(halves)
	return strings.Join(halves, " "), nil
}

func (c *Client) ownKeyID() string {
	device, err := pseudonym.NewHandle(c.account.Domain, pseudonym.Client, c.account.Device)
	if err != nil {
		return ""
	}
	return keyID(device, c.real.Key.Public())
}

// safetyDigits are 30 digits of one user's keys.
func safetyDigits(user string, p *peerState) string {
	in := codec.AppendVector(nil, user)
	for _, k := range slices.Sorted(maps.Keys(p.Keys)) {
		in = codec.AppendVector(in, k)
	}
	h := sha512.Sum512(append([]byte("mmr safety code"), in...))
	for range safetyIterations {
		h = sha512.Sum512(append(h[:], in...))
	}
	var groups []string
	for i := range 6 {
		n := binary.BigEndian.Uint64(h[8*i:])
		groups = append(groups, fmt.Sprintf("%05d", n%100_000))
	}
	return strings.Join(groups, " ")
}

// errUnknownUser reports a user whose keys were never seen.
var errUnknownUser = errors.New("client: no room shows a device of this user yet")

// Confirm records that the safety code of a user was compared and is right: the
// device keys seen so far are confirmed, others will show as changed.
func (c *Client) Confirm(_ context.Context, user string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[user]
	if p == nil {
		return errUnknownUser
	}
	p.Confirmed = make(map[string]bool)
	for k := range p.Keys {
		p.Confirmed[k] = true
	}
	b := make(batch)
	if err := b.put(recPeer+user, p); err != nil {
		return err
	}
	return c.store.Write(b)
}

// Unconfirm takes Confirm back.
func (c *Client) Unconfirm(_ context.Context, user string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[user]
	if p == nil {
		return errUnknownUser
	}
	p.Confirmed = nil
	b := make(batch)
	if err := b.put(recPeer+user, p); err != nil {
		return err
	}
	return c.store.Write(b)
}
