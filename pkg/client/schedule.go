package client

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// The periodic work of a client. Each piece has a time of its own, drawn at
// random: what happens in two rooms at once links them (SPEC.md R-135).
//
//	seal/<room>   a path commit with fresh keys, address and credential
//	quiet/<room>  a catch-up in a room that was silent
//	oust/<room>   the removal of lost devices (§21, A9)
//	pool/<peer>   the pool of a connection
//	packages      connection packages
//	tokens        tokens ahead of need
//	renew         the client's certificates
type schedule map[string]int64 // Unix seconds

const (
	recSchedule = "schedule"
	recIssuer   = "issuer" // the own issuer's list of token keys
)

const (
	day         = 24 * time.Hour
	jobPackages = "packages"
	jobTokens   = "tokens"
	jobRenew    = "renew"
	jobPool     = "pool/"
	jobSeal     = "seal/"
	jobQuiet    = "quiet/"
	jobOust     = "oust/"
)

// between draws a time from now.
func between(least, most time.Duration) int64 {
	return time.Now().Add(least + randomDuration(most-least)).Unix()
}

// jobs lists what is to be done periodically now, with the times of what is new.
func (c *Client) jobs() []string {
	want := map[string]func() int64{
		jobPackages: func() int64 { return between(day, 10*day) },
		jobTokens:   func() int64 { return between(time.Hour, 12*time.Hour) },
		jobRenew:    c.renewAt,
	}
	for peer, conn := range c.conns {
		if len(conn.UploadKey) > 0 {
			want[jobPool+peer] = func() int64 {
				if _, ours := conn.Slots[c.account.Device]; conn.Complete && !ours {
					return time.Now().Unix() // another device's
				}
				return between(6*time.Hour, day)
			}
		}
	}
	for id, r := range c.rooms {
		if r.g.Status() == member.Active && !r.st.Removed && !r.st.Forked && !r.st.Locked {
			want[jobSeal+id] = func() int64 { return between(time.Hour, day) } // a new member's first one
			if len(c.ousted(r, c.account.Ousted)) > 0 {
				want[jobOust+id] = func() int64 { return between(0, 6*time.Hour) }
			}
			want[jobQuiet+id] = func() int64 { return between(day, 3*day) }
		}
	}
	var names []string
	for name, first := range want {
		if _, ok := c.due[name]; !ok {
			c.due[name] = first()
		}
		names = append(names, name)
	}
	for name := range c.due {
		if want[name] == nil {
			delete(c.due, name)
		}
	}
	return names
}

// work does at most one piece that is due. mu is held.
func (c *Client) work(ctx context.Context) error {
	now := time.Now().Unix()
	for _, name := range c.jobs() {
		if c.due[name] > now {
			continue
		}
		next, err := c.job(ctx, name)
		if err != nil {
			c.opts.log.Warn("periodic work did not work")
			next = between(time.Minute, time.Hour)
		}
		return errors.Join(c.reschedule(name, next), c.store.broken())
	}
	return nil
}

func (c *Client) reschedule(name string, at int64) error {
	c.due[name] = at
	b := make(batch)
	c.dropStale(b)
	if err := b.put(recSchedule, c.due); err != nil {
		return err
	}
	return c.store.Write(b)
}

// job does one piece and returns when it is due again.
func (c *Client) job(ctx context.Context, name string) (int64, error) {
	kind, rest, _ := strings.Cut(name, "/")
	switch kind + "/" {
	case jobPool:
		conn := c.conns[rest]
		if conn == nil {
			return 0, nil
		}
		return between(6*time.Hour, day), c.tendPool(ctx, conn)
	case jobSeal:
		r := c.rooms[rest]
		if r == nil || r.st.Suspect || r.st.Stuck != nil {
			return between(day, 2*day), nil
		}
		return c.sealAnew(ctx, r)
	case jobOust:
		r := c.rooms[rest]
		if r == nil || r.st.Suspect || r.st.Stuck != nil {
			return between(time.Hour, 6*time.Hour), nil
		}
		return between(time.Hour, 6*time.Hour), c.oust(ctx, r, c.account.Ousted...)
	case jobQuiet:
		r := c.rooms[rest]
		if r == nil || r.st.Suspect || r.st.Stuck != nil {
			return between(day, 3*day), nil
		}
		if last := time.Unix(r.st.Heard, 0); time.Since(last) < day {
			return last.Add(day + randomDuration(2*day)).Unix(), nil
		}
		return between(day, 3*day), c.catchUp(ctx, r)
	}
	switch name {
	case jobPackages:
		return between(day, 10*day), c.tendPackages(ctx)
	case jobTokens:
		return between(time.Hour, 12*time.Hour), c.prefetch(ctx)
	default:
		return c.renew(ctx)
	}
}

// sealAnew makes the path commit of SPEC.md R-51, with a new credential where its
// link key can come with it. Where that must wait for the link keys of others,
// the next one is soon: a certificate does not last for many rounds.
func (c *Client) sealAnew(ctx context.Context, r *room) (int64, error) {
	policy, err := r.policy()
	if err != nil {
		return 0, err
	}
	key := r.ownKey()
	if err := c.update(ctx, r, func() (*plan, error) { return &plan{rekey: true}, nil }); err != nil {
		return 0, err
	}
	user, err := r.user()
	if err != nil {
		return 0, err
	}
	if r.ownKey() == key && policy.KeyRule(policy.RoleOf(user)) != pseudonym.KeyForbidden {
		return between(day, 2*day), nil
	}
	return between(20*day, 30*day), nil
}

// Maintain does the periodic work that is due, and looks after pools, connection
// packages and tokens at once: for programs that run for a moment. Listen does
// it all by itself.
func (c *Client) Maintain(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	names := c.jobs()
	slices.Sort(names)
	for _, name := range names {
		if c.due[name] > time.Now().Unix() && !strings.HasPrefix(name, jobPool) && name != jobPackages && name != jobTokens {
			continue
		}
		next, err := c.job(ctx, name)
		if err != nil {
			errs = append(errs, err)
			next = between(time.Minute, time.Hour)
		}
		if err := c.reschedule(name, next); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// Hurry makes all periodic work due now, which links rooms with each other for
// those who watch: for tests, and for a device that is about to be thrown away.
func (c *Client) Hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range c.jobs() {
		c.due[name] = 0
	}
}

// tendPackages publishes connection packages anew when they are old or few, if
// this device is the one that publishes them.
func (c *Client) tendPackages(ctx context.Context) error {
	res, err := relayv1.NewAccountServiceClient(c.t.session).ListConnectionRequests(ctx, &relayv1.ListConnectionRequestsRequest{Max: 1})
	if err != nil {
		return err
	}
	oldest := time.Now().Add(packageValidity / 2).Unix()
	fresh := 0
	for _, k := range c.connKeys {
		if int64(k.NotAfter) > oldest {
			fresh++
		}
	}
	if res.GetPackagesLeft() > connectionPackages/2 && fresh > connectionPackages/2 {
		return nil
	}
	return c.publishPackages(ctx)
}

// prefetch fills up the tokens of services that were used before (SPEC.md R-86).
func (c *Client) prefetch(ctx context.Context) error {
	c.tokenMu.Lock()
	defer c.tokenMu.Unlock()
	for audience, have := range c.tokens {
		if len(have) > c.opts.tokens/2 {
			continue
		}
		return c.fetchTokens(ctx, audience) // one at a time
	}
	return nil
}

// renewAt is when two thirds of the certificates' life are over.
func (c *Client) renewAt() int64 {
	at := time.Now().Add(day)
	for i, chain := range [][][]byte{c.account.Credential, c.account.Session} {
		cert, err := x509.ParseCertificate(chain[0])
		if err != nil {
			continue
		}
		if t := cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 2 / 3); i == 0 || t.Before(at) {
			at = t
		}
	}
	return at.Unix()
}

// renew has the same keys certified again. Rooms get the new credential with
// their next path commits.
func (c *Client) renew(ctx context.Context) (int64, error) {
	credential, err := csrOf(c.account.CredentialKey)
	if err != nil {
		return 0, err
	}
	session, err := csrOf(c.account.SessionKey)
	if err != nil {
		return 0, err
	}
	res, err := relayv1.NewAccountServiceClient(c.t.session).Renew(ctx, &relayv1.RenewRequest{CredentialCsr: credential, SessionCsr: session})
	if err != nil {
		return 0, err
	}
	if len(res.GetCredential()) == 0 || len(res.GetSession()) == 0 {
		return 0, errors.New("client: the provider issued no certificate")
	}
	c.account.Credential, c.account.Session = res.GetCredential(), res.GetSession()
	c.real.Chain = c.account.Credential
	b := make(batch)
	if err := b.put(recAccount, c.account); err != nil {
		return 0, err
	}
	// The session's is used when the client is opened again. A provider that gives
	// out old ones is not asked all the time.
	return max(c.renewAt(), between(time.Hour, 12*time.Hour)), c.store.Write(b)
}

func csrOf(pkcs8 []byte) ([]byte, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, err
	}
	s, err := primitive.SigningKeyOf(key)
	if err != nil {
		return nil, err
	}
	return pseudonym.NewCSR(s)
}
