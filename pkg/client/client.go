// Package client is the SDK of mmrelay: what a person's device needs to talk in
// minimal metadata rooms (SPEC.md), without any server learning who talks to
// whom.
//
//	c, err := client.Register(ctx, store, client.Account{…}, trust)
//	…
//	go c.Listen(ctx, func(e client.Event) error { fmt.Println(e); return nil })
//	err = c.Connect(ctx, "mimi://b.example/u/bob", "hub.example")
//	room, err := c.CreateRoom(ctx, "hub.example")
//	err = c.Add(ctx, room, "mimi://b.example/u/bob")
//	err = c.Send(ctx, room, []byte("hello"))
//
// # State
//
// Everything lies in a Store and is written before it is sent, and before a
// mailbox entry is acknowledged: a process that is killed at any point loses
// nothing and repeats nothing. One process at a time may use a store.
//
// # Connections, rooms, links
//
// Two users who want to add each other to rooms first connect: Connect sends a
// sealed request, Requests and Accept answer it. A connection gives each side a
// pool of the other's KeyPackages. Add takes one for each new member. Whoever
// holds a link made by CreateLink can Join.
//
// # What it does not hide
//
// A client's own relay sees its address and when it sends and receives; see
// docs/threat-model.md for the whole list.
package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	grpcbackoff "google.golang.org/grpc/backoff"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/token"
)

var grpcBackoff = grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: .2, MaxDelay: 10 * time.Second}

// Suite is the MLS cipher suite of the rooms this client creates.
const Suite = mls.CipherSuite(1)

var (
	// ErrExists reports a store that holds an account already.
	ErrExists = errors.New("client: the store holds an account already")
	// ErrNoAccount reports a store without an account.
	ErrNoAccount = errors.New("client: the store holds no account")
	// ErrNoRoom reports a room that this client is not in.
	ErrNoRoom = errors.New("client: not in this room")
	// ErrNoConnection reports a user this client is not connected with.
	ErrNoConnection = errors.New("client: not connected with this user")
	// ErrMember reports a user who is in the room already.
	ErrMember = errors.New("client: in this room already")
	// ErrRemoved reports a room this client was removed from.
	ErrRemoved = errors.New("client: removed from this room")
	// ErrForked reports a room whose hub showed this client another history than
	// it showed before (SPEC.md R-106): nothing is sent any more.
	ErrForked = errors.New("client: the hub forked this room")
	// ErrLocked reports a room whose key at the hub a member has replaced by one
	// that nobody else can compute (SPEC.md R-142): make a new room.
	ErrLocked = errors.New("client: a member has locked this room; make a new one")
	// ErrStuck reports a room with a commit that this client could not process; it
	// tries to come back by itself (SPEC.md R-140).
	ErrStuck = errors.New("client: this room has a commit that cannot be processed; trying to join it again")
	// ErrSuspect reports a room in which hub and a member broke the rules: nothing
	// is sent until the user decides, see Continue (SPEC.md R-118).
	ErrSuspect = errors.New("client: the hub let a member break the rules of this room")
	// ErrUnverified reports that somebody is not who they should be.
	ErrUnverified = errors.New("client: identity could not be verified")
)

// Account says who to register as, and where.
type Account struct {
	// User and Device are the local parts of mimi://{domain}/u/{user} and
	// mimi://{domain}/d/{device}.
	User, Device string
	// Domain is the provider's domain, Relay the host:port of its relay.
	Domain, Relay string
	// PartnerDomain and Partner are a partner relay, through which the own
	// provider is reached without an account (SPEC.md R-68). Empty: directly.
	PartnerDomain, Partner string
	// Code is the provider's registration code, if it asks for one.
	Code string
}

// Client is one device of one user. Its methods are safe for concurrent use;
// steps that change state run one after another.
type Client struct {
	t     *transport
	opts  options
	trust *Trust
	store *failStop
	real  pseudonym.RealIdentity
	self  pseudonym.Handle // user

	mu       sync.Mutex // guards all below, and the order of steps
	account  accountState
	mailbox  mailboxState
	conns    map[string]*connectionState
	packages map[string]*packageState
	connKeys map[string]*connKeyState
	rooms    map[string]*room
	peers    map[string]*peerState
	tell     map[uint64]*deviceMessage
	want     map[string]*wantedRoom
	due      schedule
	held     map[uint64]*heldEnvelope
	inbox    map[uint64]*Event
	wake     chan struct{} // signals new inbox entries

	tidyAfter    time.Time // see tidy
	devicesAfter time.Time // see upkeep
	overflown    uint64    // the mailbox's count of refused envelopes, as last seen

	tokenMu  sync.Mutex // guards tokens, issuer and compared
	tokens   map[string][][]byte
	issuer   []token.LogEntry // the own issuer's list of keys, as last seen
	compared token.KeyID      // the issuer's key that the partner relay has too

	readyMu sync.Mutex // held while the account is being completed
}

// Register creates an account at a provider, a mailbox, and connection
// packages, and keeps everything in store. Its keys are stored before they are
// certified: after a crash or a lost answer, Register with the same names
// completes what was begun, and what else is missing is made when it is needed.
func Register(ctx context.Context, store Store, a Account, trust *Trust, opts ...Option) (*Client, error) {
	m, err := store.Load()
	if err != nil {
		return nil, err
	}
	st, err := begin(m, store, a)
	if err != nil {
		return nil, err
	}
	if err := register(ctx, &st, a.Code, trust, newOptions(opts)); err != nil {
		return nil, err
	}
	b := make(batch)
	if err := b.put(recAccount, st); err != nil {
		return nil, err
	}
	if err := store.Write(b); err != nil {
		return nil, err
	}
	c, err := Open(store, trust, opts...)
	if err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// begin returns the account to be certified, from the store if one was begun
// there, and stores it.
func begin(m map[string][]byte, store Store, a Account) (accountState, error) {
	var st accountState
	if _, ok := m[recAccount]; ok {
		if err := load(m, recAccount, &st); err != nil {
			return st, err
		}
		if len(st.Credential) > 0 {
			return st, ErrExists
		}
	}
	if st.User != a.User || st.Device != a.Device || st.Domain != a.Domain {
		st = accountState{User: a.User, Device: a.Device, Domain: a.Domain, SlotID: random(16)}
		if err := st.makeKeys(); err != nil {
			return st, err
		}
	}
	st.Version, st.Relay, st.Partner, st.PartnerDomain = stateVersion, a.Relay, a.Partner, a.PartnerDomain
	b := make(batch)
	if err := b.put(recAccount, st); err != nil {
		return st, err
	}
	return st, store.Write(b)
}

// makeKeys makes the keys of an account and the requests to certify them.
func (st *accountState) makeKeys() error {
	credential, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		return err
	}
	_, session, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	sessionKey, err := primitive.SigningKeyOf(session)
	if err != nil {
		return err
	}
	if st.CredentialCSR, err = pseudonym.NewCSR(credential); err != nil {
		return err
	}
	if st.SessionCSR, err = pseudonym.NewCSR(sessionKey); err != nil {
		return err
	}
	if st.CredentialKey, err = x509.MarshalPKCS8PrivateKey(credential.Std()); err != nil {
		return err
	}
	st.SessionKey, err = x509.MarshalPKCS8PrivateKey(session)
	return err
}

// register gets the keys certified. The provider knows a repeat by the requests.
func register(ctx context.Context, st *accountState, code string, trust *Trust, o options) error {
	conn, err := dial(st.Relay, st.Domain, trust, nil, o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing depends on it
	res, err := retry(ctx, o.retryFor, func() (*relayv1.RegisterResponse, error) {
		return relayv1.NewAccountServiceClient(conn).Register(ctx, &relayv1.RegisterRequest{
			User: st.User, Client: st.Device, CredentialCsr: st.CredentialCSR, SessionCsr: st.SessionCSR, RegistrationCode: code,
		})
	})
	if err != nil {
		return fmt.Errorf("registering: %w", err)
	}
	if len(res.GetCredential()) == 0 || len(res.GetSession()) == 0 {
		return errors.New("registering: the provider issued no certificate")
	}
	st.Credential, st.Session, st.CredentialCSR, st.SessionCSR = res.GetCredential(), res.GetSession(), nil, nil
	return nil
}

// Open opens a client whose state is in store.
func Open(store Store, trust *Trust, opts ...Option) (*Client, error) {
	m, err := store.Load()
	if err != nil {
		return nil, err
	}
	if _, ok := m[recAccount]; !ok {
		return nil, ErrNoAccount
	}
	c := &Client{
		opts: newOptions(opts), trust: trust, store: &failStop{Store: store}, wake: make(chan struct{}, 1),
		conns: make(map[string]*connectionState), packages: make(map[string]*packageState), connKeys: make(map[string]*connKeyState),
		rooms: make(map[string]*room), peers: make(map[string]*peerState), tell: make(map[uint64]*deviceMessage), want: make(map[string]*wantedRoom), due: make(schedule), held: make(map[uint64]*heldEnvelope), inbox: make(map[uint64]*Event), tokens: make(map[string][][]byte),
	}
	if err := c.load(m); err != nil {
		return nil, err
	}
	return c, c.connect()
}

func (c *Client) load(m map[string][]byte) error {
	if err := load(m, recAccount, &c.account); err != nil {
		return err
	}
	if len(c.account.Credential) == 0 {
		return ErrNoAccount // begun and not certified
	}
	if c.account.Version != stateVersion {
		return fmt.Errorf("client: the state was written by another version (%d, this is %d)", c.account.Version, stateVersion)
	}
	if _, ok := m[recMailbox]; ok {
		if err := load(m, recMailbox, &c.mailbox); err != nil {
			return err
		}
	}
	if _, ok := m[recIssuer]; ok {
		if err := load(m, recIssuer, &c.issuer); err != nil {
			return err
		}
	}
	if _, ok := m[recSchedule]; ok {
		if err := load(m, recSchedule, &c.due); err != nil {
			return err
		}
	}
	var err error
	if c.self, err = pseudonym.NewHandle(c.account.Domain, pseudonym.User, c.account.User); err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(c.account.CredentialKey)
	if err != nil {
		return err
	}
	signer, err := primitive.SigningKeyOf(key)
	if err != nil {
		return err
	}
	c.real = pseudonym.RealIdentity{Chain: c.account.Credential, Key: signer}
	return errors.Join(
		each(m, recConn, func(k string, v *connectionState) { c.conns[k] = v }),
		each(m, recPackage, func(k string, v *packageState) { c.packages[k] = v }),
		each(m, recConnKey, func(k string, v *connKeyState) { c.connKeys[k] = v }),
		each(m, recPeer, func(k string, v *peerState) { c.peers[k] = v }),
		each(m, recTell, func(k string, v *deviceMessage) { c.tell[parseNumber(k)] = v }),
		each(m, recWant, func(k string, v *wantedRoom) { c.want[k] = v }),
		each(m, recTokens, func(k string, v *[][]byte) { c.tokens[k] = *v }),
		each(m, recInbox, func(k string, v *Event) { c.inbox[parseNumber(k)] = v }),
		each(m, recHeld, func(k string, v *heldEnvelope) { c.held[parseNumber(k)] = v }),
		c.loadRooms(m),
	)
}

// connect prepares the connections; they are made when first used.
func (c *Client) connect() error {
	key, err := x509.ParsePKCS8PrivateKey(c.account.SessionKey)
	if err != nil {
		return err
	}
	t := &transport{trust: c.trust, opts: c.opts, domain: c.account.Domain, partnerDomain: c.account.PartnerDomain, keys: make(map[service]serviceKeys)}
	if t.session, err = dial(c.account.Relay, c.account.Domain, c.trust, &tls.Certificate{Certificate: c.account.Session, PrivateKey: key}, c.opts); err != nil {
		return err
	}
	if t.anon, err = dial(c.account.Relay, c.account.Domain, c.trust, nil, c.opts); err != nil {
		return err
	}
	if c.account.Partner != "" {
		if t.partner, err = dial(c.account.Partner, c.account.PartnerDomain, c.trust, nil, c.opts); err != nil {
			return err
		}
	}
	c.t = t
	return nil
}

// ready makes the mailbox and publishes connection packages, unless that was
// done before.
func (c *Client) ready(ctx context.Context) error {
	c.readyMu.Lock()
	defer c.readyMu.Unlock()
	c.mu.Lock()
	mailbox, published := len(c.account.QueueID) > 0, c.account.Published
	c.mu.Unlock()
	if !mailbox {
		if err := c.createMailbox(ctx); err != nil {
			return fmt.Errorf("creating the mailbox: %w", err)
		}
	}
	if !published {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := c.publishPackages(ctx); err != nil {
			return fmt.Errorf("publishing connection packages: %w", err)
		}
	}
	return nil
}

// Close closes connections and store. It waits for a step under way.
func (c *Client) Close() error {
	c.t.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokenMu.Lock()
	defer c.tokenMu.Unlock()
	return c.store.Close()
}

// User returns the user's identifier, mimi://{domain}/u/{user}.
func (c *Client) User() string { return c.self.String() }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
