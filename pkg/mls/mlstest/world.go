package mlstest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

// Now is the time at which worlds live; key packages are valid then.
var Now = time.Unix(1_700_000_000, 0)

// Lifetime is that of every key package of a world.
var Lifetime = mls.Lifetime{NotBefore: 1_699_920_000, NotAfter: 1_699_920_000 + 2_592_000}

// World is a group of clients and a server that follows it, all in one process.
// Every step of every client is checked to leave the old state as it was, goes
// through a store and load, and retires the old state.
type World struct {
	T       testing.TB
	Suite   mls.CipherSuite
	Options member.Options
	Server  *mls.PublicGroup
	Clients []*Client // in the group, in no particular order

	// NoReload keeps states in memory, for benchmarks.
	NoReload bool
	// Sent, if set, sees every handshake that is delivered.
	Sent func(msg []byte)

	serial int
}

// Client is a member of a World, or was one, or will be.
type Client struct {
	W     *World
	Name  string
	ID    *member.Identity
	Group *member.Group

	signers []mls.Signer
	kps     []*member.KeyPackage
}

// NewWorld founds a group and adds members until there are n.
func NewWorld(tb testing.TB, s mls.CipherSuite, n int) *World {
	tb.Helper()
	w := &World{T: tb, Suite: s}
	w.Options.Rules = mls.OpenRules{}
	w.Found()
	var adds []*Client
	for range n - 1 {
		adds = append(adds, w.NewClient())
	}
	if len(adds) > 0 {
		w.Commit(w.Clients[0], member.CommitOptions{}, adds...)
	}
	return w
}

// Found makes a new group with one new member.
func (w *World) Found(es ...mls.Extension) *Client {
	w.T.Helper()
	c := w.NewClient()
	g, err := member.Create(c.ID, member.RandomGroupID(), member.CreateOptions{Options: w.Options, Lifetime: Lifetime, Extensions: es})
	if err != nil {
		w.T.Fatalf("creating: %v", err)
	}
	c.Group = w.reload(c, g)
	info, err := c.Group.GroupInfo(member.GroupInfoOptions{})
	if err != nil {
		w.T.Fatalf("group info: %v", err)
	}
	if w.Server, err = mls.NewPublicGroup(info, nil, &w.Options.Options); err != nil {
		w.T.Fatalf("server: %v", err)
	}
	w.Clients = []*Client{c}
	return c
}

// NewClient returns a client that is in no group.
func (w *World) NewClient() *Client {
	w.T.Helper()
	w.serial++
	c := &Client{W: w, Name: fmt.Sprintf("client-%d", w.serial)}
	c.ID = &member.Identity{
		Suite:        w.Suite,
		Credential:   mls.BasicCredential([]byte(c.Name)),
		Signer:       c.NewSigner(),
		Capabilities: member.DefaultCapabilities(w.Suite),
	}
	return c
}

// NewSigner returns a fresh signer that the client's states can be loaded with.
func (c *Client) NewSigner() mls.Signer {
	c.W.T.Helper()
	s, err := member.GenerateSigner(c.W.Suite)
	if err != nil {
		c.W.T.Fatal(err)
	}
	c.signers = append(c.signers, s)
	return s
}

// KeyPackage publishes a new key package of the client.
func (c *Client) KeyPackage() *mls.KeyPackage {
	c.W.T.Helper()
	k, err := member.NewKeyPackage(c.ID, member.KeyPackageOptions{Lifetime: Lifetime})
	if err != nil {
		c.W.T.Fatal(err)
	}
	b, err := k.AppendBinary(nil)
	if err != nil {
		c.W.T.Fatal(err)
	}
	if k, err = member.ParseKeyPackage(b, c.ID.Signer); err != nil {
		c.W.T.Fatal(err)
	}
	c.kps = append(c.kps, k)
	return k.Public()
}

// Find is the client's lookup for member.Join.
func (c *Client) Find(ref []byte) *member.KeyPackage {
	for _, k := range c.kps {
		if bytes.Equal(k.Ref(), ref) {
			return k
		}
	}
	return nil
}

// State returns both parts of a Group's saved state.
func State(tb testing.TB, g *member.Group) (public, private []byte) {
	tb.Helper()
	public, err := g.AppendPublic(nil)
	if err != nil {
		tb.Fatalf("saving: %v", err)
	}
	if private, err = g.AppendPrivate(nil); err != nil {
		tb.Fatalf("saving: %v", err)
	}
	return public, private
}

// Load reads a saved state of the client.
func (c *Client) Load(public, private []byte) (*member.Group, error) {
	return member.ParseGroup(public, private, member.Signers(c.signers...), &c.W.Options)
}

func (w *World) reload(c *Client, g *member.Group) *member.Group {
	w.T.Helper()
	if w.NoReload {
		return g
	}
	public, private := State(w.T, g)
	loaded, err := c.Load(public, private)
	if err != nil {
		w.T.Fatalf("%s: loading: %v", c.Name, err)
	}
	public2, private2 := State(w.T, loaded)
	if !bytes.Equal(public, public2) || !bytes.Equal(private, private2) {
		w.T.Fatalf("%s: state changed by a store and load", c.Name)
	}
	return loaded
}

// Step does one step of a client: f must leave the old state alone; the next
// one is stored, loaded and adopted, and the old one retired. An error changes
// nothing and is returned.
func (c *Client) Step(f func(g *member.Group) (*member.Group, error)) error {
	c.W.T.Helper()
	var public, private []byte
	if !c.W.NoReload {
		public, private = State(c.W.T, c.Group)
	}
	next, err := f(c.Group)
	if !c.W.NoReload {
		public2, private2 := State(c.W.T, c.Group)
		if !bytes.Equal(public, public2) || !bytes.Equal(private, private2) {
			c.W.T.Fatalf("%s: a step changed the old state (err %v)", c.Name, err)
		}
	}
	if err != nil {
		if next != nil {
			c.W.T.Fatalf("%s: a step returned a state and an error", c.Name)
		}
		return err
	}
	old := c.Group
	old.Retire(next) // First, so that wiping too much shows.
	c.Group = c.W.reload(c, next)
	return nil
}

// Process lets the client process a message.
func (c *Client) Process(msg []byte) (event *mls.Event, err error) {
	c.W.T.Helper()
	err = c.Step(func(g *member.Group) (next *member.Group, err error) {
		next, event, err = g.Process(msg)
		return next, err
	})
	return event, err
}

// Stage lets the client stage a commit.
func (c *Client) Stage(o member.CommitOptions) (staged *member.Staged, err error) {
	c.W.T.Helper()
	err = c.Step(func(g *member.Group) (next *member.Group, err error) {
		next, staged, err = g.Stage(o)
		return next, err
	})
	if err == nil {
		staged, _ = c.Group.Pending()
	}
	return staged, err
}

// Confirm lets the client confirm its staged commit.
func (c *Client) Confirm() (event *mls.Event, err error) {
	c.W.T.Helper()
	err = c.Step(func(g *member.Group) (next *member.Group, err error) {
		next, event, err = g.Confirm()
		return next, err
	})
	return event, err
}

// Send encrypts application data.
func (c *Client) Send(data []byte, o member.SendOptions) (msg []byte, err error) {
	c.W.T.Helper()
	err = c.Step(func(g *member.Group) (next *member.Group, err error) {
		next, msg, err = g.Send(data, o)
		return next, err
	})
	return msg, err
}

// Propose makes a proposal and delivers it to everybody.
func (w *World) Propose(c *Client, p *mls.ProposalBody, o member.SendOptions) {
	w.T.Helper()
	w.propose(c, o, func(g *member.Group) (*member.Group, []byte, error) { return g.Propose(p, o) })
}

// ProposeUpdate makes an Update and delivers it to everybody.
func (w *World) ProposeUpdate(c *Client, leaf *member.LeafOptions, o member.SendOptions) {
	w.T.Helper()
	w.propose(c, o, func(g *member.Group) (*member.Group, []byte, error) { return g.ProposeUpdate(leaf, o) })
}

func (w *World) propose(c *Client, o member.SendOptions, f func(g *member.Group) (*member.Group, []byte, error)) {
	w.T.Helper()
	var msg []byte
	err := c.Step(func(g *member.Group) (next *member.Group, err error) {
		next, msg, err = f(g)
		return next, err
	})
	if err != nil {
		w.T.Fatalf("%s: proposing: %v", c.Name, err)
	}
	w.deliver(c, msg, !o.Private)
}

// deliver gives a message to the server, unless it is private, and to all but one
// client. Clients that it removes leave the world.
func (w *World) deliver(from *Client, msg []byte, public bool) {
	w.T.Helper()
	if w.Sent != nil {
		w.Sent(msg)
	}
	if public {
		next, _, err := w.Server.Process(msg, Now)
		if err != nil {
			w.T.Fatalf("server: %v", err)
		}
		w.Server = next
	}
	var left []*Client
	for _, c := range w.Clients {
		if c != from {
			if _, err := c.Process(msg); err != nil {
				w.T.Fatalf("%s processes a message of %s: %v", c.Name, from.Name, err)
			}
		}
		if c.Group.Status() == member.Active {
			left = append(left, c)
		}
	}
	w.Clients = left
}

// Commit lets a client commit what o says and add clients, delivers the commit
// and the Welcome, and checks that all agree.
func (w *World) Commit(c *Client, o member.CommitOptions, adds ...*Client) *mls.Event {
	w.T.Helper()
	for _, a := range adds {
		o.ByValue = append(o.ByValue, mls.AddProposal(a.KeyPackage()))
	}
	o.Now = Now
	staged, err := c.Stage(o)
	if err != nil {
		w.T.Fatalf("%s: staging: %v", c.Name, err)
	}
	commit, welcome := staged.Commit(), staged.Welcome()
	export, err := staged.Export("exporter", nil, 32)
	if err != nil {
		w.T.Fatal(err)
	}
	info, err := staged.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
	if err != nil {
		w.T.Fatal(err)
	}
	event, err := c.Confirm()
	if err != nil {
		w.T.Fatalf("%s: confirming: %v", c.Name, err)
	}
	if got, err := c.Group.Export("exporter", nil, 32); err != nil || !bytes.Equal(got, export) {
		w.T.Fatalf("%s: staged exporter differs, err %v", c.Name, err)
	}
	if o.Private {
		// A server cannot follow private handshakes: it starts again.
		w.deliver(c, commit, false)
		if w.Server, err = mls.NewPublicGroup(info, c.Group.Public().TreeBytes(), &w.Options.Options); err != nil {
			w.T.Fatalf("server: %v", err)
		}
	} else {
		w.deliver(c, commit, true)
	}
	if w.Server, err = w.Server.WithGroupInfo(info); err != nil {
		w.T.Fatalf("server: %s's group info: %v", c.Name, err)
	}
	w.Join(welcome, o.Welcome.WithoutTree, adds...)
	w.Check()
	return event
}

// Join lets clients join by a Welcome.
func (w *World) Join(welcome []byte, separateTree bool, adds ...*Client) {
	w.T.Helper()
	for _, a := range adds {
		o := member.JoinOptions{Options: w.Options}
		if separateTree {
			o.Tree = w.Server.TreeBytes()
		}
		g, info, err := member.Join(welcome, a.Find, o)
		if err != nil {
			w.T.Fatalf("%s: joining: %v", a.Name, err)
		}
		info.KeyPackage.Wipe()
		a.Group = w.reload(a, g)
		w.Clients = append(w.Clients, a)
	}
}

// JoinExternal lets a client join, or join again if it is a member, by an
// external commit with the GroupInfo that the server holds.
func (w *World) JoinExternal(c *Client, o member.ExternalOptions) *mls.Event {
	w.T.Helper()
	info, ok := w.Server.GroupInfo()
	if !ok {
		w.T.Fatal("server has no GroupInfo")
	}
	o.Options, o.Tree = w.Options, w.Server.TreeBytes()
	g, _, err := member.JoinExternal(c.ID, info, o)
	if err != nil {
		w.T.Fatalf("%s: external join: %v", c.Name, err)
	}
	if o.Resync != nil {
		for i, old := range w.Clients {
			if old == c {
				w.Clients = append(w.Clients[:i:i], w.Clients[i+1:]...)
				break
			}
		}
	}
	c.Group = w.reload(c, g)
	staged, _ := c.Group.Pending()
	commit := staged.Commit()
	next, err := staged.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
	if err != nil {
		w.T.Fatal(err)
	}
	event, err := c.Confirm()
	if err != nil {
		w.T.Fatalf("%s: confirming: %v", c.Name, err)
	}
	w.deliver(c, commit, true)
	w.Clients = append(w.Clients, c)
	if w.Server, err = w.Server.WithGroupInfo(next); err != nil {
		w.T.Fatalf("server: %s's group info: %v", c.Name, err)
	}
	w.Check()
	return event
}

// Say lets a client send data and everybody else read it.
func (w *World) Say(c *Client, o member.SendOptions) {
	w.T.Helper()
	data := binary.BigEndian.AppendUint64([]byte(c.Name), c.Group.Counter())
	msg, err := c.Send(data, o)
	if err != nil {
		w.T.Fatalf("%s: sending: %v", c.Name, err)
	}
	for _, other := range w.Clients {
		if other == c {
			continue
		}
		event, err := other.Process(msg)
		if err != nil {
			w.T.Fatalf("%s reads %s: %v", other.Name, c.Name, err)
		}
		if !bytes.Equal(event.Data, data) || !bytes.Equal(event.AAD, o.AAD) || event.Sender.Index != uint32(c.Group.OwnLeaf()) {
			w.T.Fatalf("%s reads something else than %s sent", other.Name, c.Name)
		}
	}
}

// Check compares all clients with each other and with the server.
func (w *World) Check() {
	w.T.Helper()
	var export []byte
	for i, c := range w.Clients {
		pub := c.Group.Public()
		if !bytes.Equal(pub.Context().Raw(), w.Server.Context().Raw()) || !bytes.Equal(pub.ConfirmationTag(), w.Server.ConfirmationTag()) {
			w.T.Fatalf("%s and the server disagree", c.Name)
		}
		if !bytes.Equal(pub.TreeBytes(), w.Server.TreeBytes()) || !bytes.Equal(pub.InterimTranscriptHash(), w.Server.InterimTranscriptHash()) {
			w.T.Fatalf("%s and the server have other trees or transcripts", c.Name)
		}
		got, err := c.Group.Export("exporter", []byte("context"), 32)
		if err != nil {
			w.T.Fatal(err)
		}
		if i == 0 {
			export = got
		} else if !bytes.Equal(got, export) {
			w.T.Fatalf("%s and %s disagree", c.Name, w.Clients[0].Name)
		}
		if leaf := pub.Leaf(c.Group.OwnLeaf()); leaf == nil || !bytes.Equal(leaf.Credential.Body, c.ID.Credential.Body) {
			w.T.Fatalf("%s: own leaf is another's", c.Name)
		}
	}
	if n := w.Server.Len(); n != len(w.Clients) {
		w.T.Fatalf("the tree has %d members, the world %d", n, len(w.Clients))
	}
}

// Refused requires that every client refuses a message for a rule, and the server
// too unless only secrets can tell, and that nobody's state changed.
func (w *World) Refused(msg []byte, rule mls.Rule, serverToo bool) {
	w.T.Helper()
	for _, c := range w.Clients {
		_, err := c.Process(msg)
		CheckRule(w.T, c.Name, err, rule)
	}
	if !serverToo {
		return
	}
	before, err := w.Server.AppendBinary(nil)
	if err != nil {
		w.T.Fatal(err)
	}
	next, event, err := w.Server.Process(msg, Now)
	CheckRule(w.T, "server", err, rule)
	if next != nil || event != nil {
		w.T.Error("server: results beside an error")
	}
	if after, err := w.Server.AppendBinary(nil); err != nil || !bytes.Equal(before, after) {
		w.T.Errorf("server: a refused message changed the state, err %v", err)
	}
}

// CheckRule requires that err is a refusal for a rule.
func CheckRule(tb testing.TB, who string, err error, rule mls.Rule) {
	tb.Helper()
	var refusal *mls.Refusal
	switch {
	case err == nil:
		tb.Errorf("%s accepted what rule %q forbids", who, rule)
	case !errors.As(err, &refusal):
		tb.Errorf("%s: %v is no refusal, want rule %q", who, err, rule)
	case refusal.Rule != rule:
		tb.Errorf("%s: refused by rule %q, want %q", who, refusal.Rule, rule)
	}
}
