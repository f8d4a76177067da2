package client

import (
	"time"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// resolved is what is known of one leaf of a room (SPEC.md R-4).
type resolved struct {
	cred     pseudonym.Credential
	real     pseudonym.Real
	verified bool
	shared   bool // another pseudonym of the room is the same real user
}

// resolve opens the credentials of all leaves with the link keys held, and makes
// the checks that concern all of them.
func (c *Client) resolve(r *room) map[uint32]*resolved {
	out := make(map[uint32]*resolved)
	var list []pseudonym.Resolved
	for i, l := range r.g.Public().Members() {
		cred, err := credentialOf(l)
		if err != nil {
			continue
		}
		m := &resolved{cred: cred}
		m.real, m.verified = c.reveal(r, uint32(i), cred)
		out[uint32(i)] = m
		list = append(list, pseudonym.Resolved{User: cred.User, Real: m.real.User})
	}
	split, shared := pseudonym.Conflicts(list)
	for _, m := range out {
		for _, id := range split {
			m.verified = m.verified && m.cred.User != id
		}
		for _, id := range shared {
			m.shared = m.shared || m.cred.User == id
		}
	}
	return out
}

// reveal opens a leaf's credential with the link key we hold (SPEC.md R-4).
func (c *Client) reveal(r *room, index uint32, cred pseudonym.Credential) (pseudonym.Real, bool) {
	raw, now := r.st.LinkKeys[index], time.Now()
	if s, ok := r.revealed[index]; ok && s.hash == cred.Hash() && string(s.key) == string(raw) && now.Before(s.until) {
		return s.real, s.ok
	}
	key, err := primitive.ParseSecret(raw)
	if err != nil {
		return pseudonym.Real{}, false
	}
	real, err := cred.Reveal(key, c.trust.Providers, now)
	if r.revealed == nil {
		r.revealed = make(map[uint32]revealed)
	}
	r.revealed[index] = revealed{hash: cred.Hash(), key: raw, real: real, ok: err == nil, until: now.Add(revealFor)}
	return real, err == nil
}

// revealed is what opening a credential gave: it costs two signatures, and is
// asked for with every message.
type revealed struct {
	hash  [32]byte
	key   []byte
	real  pseudonym.Real
	ok    bool
	until time.Time
}

// revealFor is how long a certificate is not looked at again.
const revealFor = time.Hour

// names are the users of a room's leaves, the pseudonym where unverified.
func (r *room) names(c *Client) map[uint32]string {
	out := make(map[uint32]string)
	for i, m := range c.resolve(r) {
		out[i] = m.cred.User.String()
		if m.verified {
			out[i] = m.real.User.String()
		}
	}
	return out
}
