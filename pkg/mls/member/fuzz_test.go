package member_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// FuzzMemberState: accepted means written again as the same bytes, refused means
// no result.
func FuzzMemberState(f *testing.F) {
	for _, name := range goldenStates {
		public, private := golden(f, name)
		f.Add(public, private)
	}
	f.Fuzz(func(t *testing.T, public, private []byte) {
		g, err := load(public, private)
		if err != nil {
			if g != nil {
				t.Fatal("a group beside an error")
			}
			return
		}
		public2, private2 := mlstest.State(t, g)
		if !bytes.Equal(public, public2) || !bytes.Equal(private, private2) {
			t.Fatal("state re-encodes differently")
		}
	})
}

// insiders is a group of three in which the first one is lawless, for fuzzing:
// states are immutable, so that every run starts from the same one.
func insiders(f *testing.F) (*mlstest.World, *mlstest.Lawless) {
	w := mlstest.NewWorld(f, 1, 3)
	w.Propose(w.Clients[1], mls.RemoveProposal(w.Clients[0].Group.OwnLeaf()), member.SendOptions{})
	w.NoReload = true
	return w, w.Clients[0].Lawless()
}

// feed gives a message to the hub and two members and requires that they agree,
// except for what only secrets can tell.
func feed(t *testing.T, w *mlstest.World, msg []byte) {
	_, _, hub := w.Hub.Process(msg, time.Time{}) // as members do, who do not check lifetimes
	for _, c := range w.Clients[1:] {
		before := c.Group
		next, event, err := before.Process(msg)
		if err != nil && (next != nil || event != nil) {
			t.Fatal("results beside an error")
		}
		var a, b *mls.Refusal
		switch {
		case err == nil && hub == nil, hub != nil && privateOnly(msg):
		case err == nil:
			t.Fatalf("a member accepted what the hub refused: %v", hub)
		case !errors.As(err, &a):
			t.Fatalf("%v is no refusal", err)
		case hub == nil && !secretRule(a.Rule):
			t.Fatalf("the hub accepted what a member refused: %v", err)
		case errors.As(hub, &b) && a.Rule != b.Rule && !secretRule(a.Rule):
			t.Fatalf("a member says %v, the hub %v", a.Rule, b.Rule)
		}
	}
}

// privateOnly reports whether only members can read the message.
func privateOnly(msg []byte) bool {
	m, err := wire.ParseMessage(msg, nil)
	return err == nil && m.Private != nil
}

// secretRule reports whether only members can check the rule.
func secretRule(r mls.Rule) bool {
	switch r {
	case wire.RuleMembershipTag, wire.RuleConfirmationTag, wire.RulePathSecret, wire.RulePSKUnknown, wire.RuleExternalInit:
		return true
	}
	return false
}

// FuzzInsider: arbitrary bodies, validly signed, tagged and encrypted.
func FuzzInsider(f *testing.F) {
	w, l := insiders(f)
	for _, p := range []*wire.Proposal{
		mls.RemoveProposal(1), mls.AddProposal(w.NewClient().KeyPackage()),
		mls.ExtensionsProposal([]mls.Extension{{Type: 1, Data: []byte("x")}}),
	} {
		f.Add(byte(0), p.Raw())
		f.Add(byte(1), p.Raw())
		f.Add(byte(4), (&wire.Commit{Proposals: []wire.ProposalOrRef{mlstest.ByValue(p)}}).AppendTo(nil))
	}
	honest, err := wire.ParseMessage(l.Commit(mlstest.Forgery{}), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byte(4), honest.Public.Content.Commit.AppendTo(nil))
	f.Add(byte(5), honest.Public.Content.Commit.AppendTo(nil))
	f.Add(byte(2), []byte("application data"))
	f.Add(byte(3), []byte{4, 'd', 'a', 't', 'a', 0, 0, 0})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		w.T = t
		l := *l
		o := mlstest.Forgery{Private: kind&1 == 1}
		switch kind % 6 {
		case 0, 1:
			p, err := wire.ParseProposal(body, wire.Unlimited())
			if err != nil {
				return
			}
			feed(t, w, l.Propose(p, o))
		case 2:
			feed(t, w, l.Say(body, o))
		case 3:
			o.Plaintext = func([]byte) []byte { return body }
			feed(t, w, l.Say(nil, o))
		default:
			c, err := wire.ParseCommit(body, wire.Unlimited())
			if err != nil {
				return
			}
			o.Content = func(f *wire.FramedContent) { f.Commit = c }
			feed(t, w, l.Commit(o))
		}
	})
}

// FuzzHubAgrees: commits with a list and one change somewhere, into members and
// the hub.
func FuzzHubAgrees(f *testing.F) {
	w, l := insiders(f)
	add := mlstest.ByValue(mls.AddProposal(w.NewClient().KeyPackage()))
	parts := []wire.ProposalOrRef{
		add,
		mlstest.ByValue(mls.RemoveProposal(0)), mlstest.ByValue(mls.RemoveProposal(1)), mlstest.ByValue(mls.RemoveProposal(2)),
		mlstest.ByValue(mls.RemoveProposal(3)), mlstest.ByValue(mls.ExtensionsProposal(nil)),
		mlstest.ByRef(w.Hub.Proposals()[0]),
	}
	for i := range byte(8) {
		f.Add([]byte{i % 7}, i, uint16(0), byte(0))
		f.Add([]byte{i % 7, (i + 1) % 7}, i, uint16(40*uint16(i)), byte(1))
	}
	f.Fuzz(func(t *testing.T, list []byte, hook byte, at uint16, bit byte) {
		w.T = t
		l := *l
		var o mlstest.Forgery
		for _, i := range list[:min(len(list), 8)] {
			o.List = append(o.List, parts[int(i)%len(parts)])
		}
		change := func(b []byte) []byte {
			if bit == 0 || len(b) == 0 {
				return b
			}
			b = bytes.Clone(b)
			b[int(at)%len(b)] ^= bit
			return b
		}
		switch hook % 8 {
		case 0:
			o.NoPath = true
		case 1:
			o.Leaf = func(n *wire.LeafNode) { n.ParentHash = change(n.ParentHash) }
		case 2:
			o.Leaf = func(n *wire.LeafNode) { n.EncryptionKey = change(n.EncryptionKey) }
		case 3:
			o.Path = func(p *wire.UpdatePath) {
				if len(p.Nodes) > 0 {
					p.Nodes[int(at)%len(p.Nodes)].EncryptionKey = change(p.Nodes[0].EncryptionKey)
				}
			}
		case 4:
			o.Path = func(p *wire.UpdatePath) { p.Nodes = p.Nodes[:int(at)%(len(p.Nodes)+1)] }
		case 5:
			o.Signature = change
		case 6:
			o.SealedLeaf = func(n *wire.LeafNode) *wire.LeafNode {
				if c, err := wire.ParseLeafNode(change(n.Raw()), wire.Unlimited()); err == nil {
					return c
				}
				return n
			}
		case 7:
			o.Keys = func(p [][]byte) {
				if len(p) > 0 {
					p[int(at)%len(p)] = change(p[0])
				}
			}
		}
		feed(t, w, l.Commit(o))
	})
}

// FuzzExternalJoin: arbitrary GroupInfos and trees.
func FuzzExternalJoin(f *testing.F) {
	w := mlstest.NewWorld(f, 1, 2)
	info, _ := w.Hub.GroupInfo()
	f.Add(info, w.Hub.TreeBytes())
	inside, err := w.Clients[0].Group.GroupInfo(member.GroupInfoOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(inside, []byte(nil))
	id := w.NewClient().ID
	f.Fuzz(func(t *testing.T, info, tree []byte) {
		g, s, err := member.JoinExternal(id, info, member.ExternalOptions{Options: w.Options, Tree: tree})
		if err != nil && (g != nil || s != nil) {
			t.Fatal("results beside an error")
		}
	})
}
