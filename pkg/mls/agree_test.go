package mls_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// jury is a group whose server and members all see the same messages. Fuzz workers
// make one each; nothing in it changes.
type jury struct {
	*mlstest.World
	insider, stranger *mlstest.Lawless
	packages          []*mls.KeyPackage
	joiner            *mlstest.Client
}

func newJury(tb testing.TB) *jury {
	tb.Helper()
	w := &mlstest.World{T: tb, Suite: 1, NoReload: true}
	w.Options.Rules = mls.OpenRules{}
	w.Options.Limits.CustomProposals = []mls.ProposalType{customProposal}
	w.Found()
	w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient(), w.NewClient(), w.NewClient(), w.NewClient())
	w.Commit(w.Clients[3], member.CommitOptions{})
	w.Propose(w.Clients[1], mls.RemoveProposal(w.Clients[4].Group.OwnLeaf()), member.SendOptions{})
	w.ProposeUpdate(w.Clients[3], nil, member.SendOptions{})
	j := &jury{World: w, insider: w.Clients[0].Lawless(), joiner: w.NewClient()}
	j.stranger = j.joiner.Stranger()
	for range 2 {
		j.packages = append(j.packages, w.NewClient().KeyPackage())
	}
	j.packages = append(j.packages, w.Clients[2].KeyPackage())
	return j
}

// agree gives a message to the server and to two members. All accept, or all
// refuse; only what takes a secret may divide them, with the server accepting.
func (j *jury) agree(t *testing.T, msg []byte) (server, members bool) {
	t.Helper()
	members = true
	next, _, serverErr := j.Server.Process(msg, time.Time{})
	if (serverErr == nil) != (next != nil) {
		t.Fatal("the server's error and result disagree")
	}
	for _, c := range j.Clients[1:3] {
		got, _, err := c.Group.Process(msg)
		if (err == nil) != (got != nil) {
			t.Fatal("a member's error and result disagree")
		}
		var serverSays, says *mls.Refusal
		switch {
		case err != nil && !errors.As(err, &says):
			t.Fatalf("a member's error is no refusal: %v", err)
		case serverErr != nil && !errors.As(serverErr, &serverSays):
			t.Fatalf("the server's error is no refusal: %v", serverErr)
		case err == nil && serverErr != nil:
			t.Fatalf("a member accepts what the server refuses: %v", serverErr)
		case err != nil && serverErr == nil && says.Rule.Step() != mls.StepSecret:
			t.Fatalf("the server accepts what a member refuses: %v", err)
		case err == nil && got.Status() == member.Active && !bytes.Equal(got.Public().Context().Raw(), next.Context().Raw()):
			t.Fatal("server and member are in different states")
		}
		members = members && err == nil
	}
	return serverErr == nil, members
}

// forgery makes a commit, with one thing wrong or nothing, from fuzz input.
func (j *jury) forgery(in []byte) []byte {
	next := func(n int) int {
		if len(in) == 0 {
			return 0
		}
		v := int(in[0])
		in = in[1:]
		return v % n
	}
	l := *j.insider
	if next(4) == 3 {
		l = *j.stranger
	}
	var o mlstest.Forgery
	if l.Stranger {
		init, secret := l.ExternalInit()
		o.Init = func(suite.Secret) suite.Secret { return secret }
		o.List = append(o.List, mlstest.ByValue(init))
	}
	for range next(4) {
		switch p := next(9); p {
		case 0, 1, 2:
			o.List = append(o.List, mlstest.ByValue(mls.AddProposal(j.packages[p])))
		case 3:
			o.List = append(o.List, mlstest.ByValue(mls.RemoveProposal(mls.LeafIndex(next(10)))))
		case 4:
			o.List = append(o.List, mlstest.ByValue(mls.ExtensionsProposal([]mls.Extension{{Type: mls.ExtensionType(next(7)), Data: []byte{0, 0, 0}}})))
		case 5, 6:
			o.List = append(o.List, mlstest.ByRef(j.Server.Proposals()[p-5]))
		case 7:
			o.List = append(o.List, mlstest.ByValue(mls.CustomProposal(customProposal, nil)))
		case 8:
			o.List = append(o.List, mlstest.ByValue(mls.ReInitProposal(mls.ReInit{Version: mls.MLS10, Suite: 1})))
		}
	}
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[next(len(b))] ^= 1 << next(8)
		}
		return b
	}
	switch next(18) {
	case 1:
		o.NoPath = true
	case 2:
		o.Leaf = func(n *wire.LeafNode) { n.Source = wire.LeafNodeSource(1 + next(3)) }
	case 3:
		o.Leaf = func(n *wire.LeafNode) { n.ParentHash = flip(n.ParentHash) }
	case 4:
		o.Leaf = func(n *wire.LeafNode) { n.EncryptionKey = flip(n.EncryptionKey) }
	case 5:
		o.Leaf = func(n *wire.LeafNode) { n.Capabilities = wire.Capabilities{} }
	case 6:
		o.Leaf = func(n *wire.LeafNode) { n.Extensions = []mls.Extension{{Type: mls.ExtensionType(next(8))}} }
	case 7:
		o.Keys = func(keys [][]byte) {
			if len(keys) > 0 {
				keys[next(len(keys))] = flip(keys[next(len(keys))])
			}
		}
	case 8:
		o.Path = func(p *wire.UpdatePath) {
			if len(p.Nodes) > 0 {
				p.Nodes = slices.Delete(slices.Clone(p.Nodes), 0, 1)
			}
		}
	case 9:
		o.Path = func(p *wire.UpdatePath) {
			if len(p.Nodes) > 0 && len(p.Nodes[0].Secrets) > 0 {
				s := &p.Nodes[0].Secrets[0]
				s.Ciphertext = flip(s.Ciphertext)
			}
		}
	case 10:
		o.Content = func(c *wire.FramedContent) { c.Epoch += uint64(next(3)) - 1 }
	case 11:
		o.Content = func(c *wire.FramedContent) { c.GroupID = flip(c.GroupID) }
	case 12:
		o.Content = func(c *wire.FramedContent) {
			c.Sender = wire.Sender{Type: wire.SenderType(1 + next(4)), Index: uint32(next(9))}
		}
	case 13:
		o.Signature = flip
	case 14:
		o.Tag = flip
	case 15:
		o.Membership = flip
	case 16:
		o.SealedLeaf = func(n *wire.LeafNode) *wire.LeafNode {
			n.Signature = flip(n.Signature)
			return n.Seal()
		}
	case 17:
		return flip(l.Commit(o))
	}
	return l.Commit(o)
}

// TestHubAgrees runs the fuzz target's cases in order and makes sure that there
// are some of every outcome.
func TestHubAgrees(t *testing.T) {
	j := newJury(t)
	outcomes := map[[2]bool]int{}
	for m := range 18 {
		for _, in := range [][]byte{
			{0, 0, byte(m), 3, 5, 7},
			{0, 1, 0, byte(m), 1},
			{0, 2, 5, 6, byte(m), 1, 0},
			{3, 0, byte(m), 1, 2},
			{0, 1, 3, 2, byte(m)},
			{0, 2, 3, 0, 1, byte(m)},
			{0, 1, 4, 5, byte(m)},
			{0, 1, 7, byte(m)},
			{0, 1, 8, byte(m)},
		} {
			server, members := j.agree(t, j.forgery(in))
			outcomes[[2]bool{server, members}]++
		}
	}
	// Accepted by all, refused by all, and by those alone who know secrets.
	for _, o := range [][2]bool{{true, true}, {false, false}, {true, false}} {
		if outcomes[o] < 5 {
			t.Errorf("outcome %v only %d times: %v", o, outcomes[o], outcomes)
		}
	}
}

// FuzzHubAgrees: random commits with one mutation.
func FuzzHubAgrees(f *testing.F) {
	for m := range 18 {
		f.Add([]byte{0, 1, 0, byte(m), 3, 5, 7})
		f.Add([]byte{0, 2, 5, 6, byte(m), 1, 0})
		f.Add([]byte{3, 0, byte(m), 1, 2})
		f.Add([]byte{0, 2, 3, 2, 1, byte(m)})
	}
	j := newJury(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		j.T = t
		j.agree(t, j.forgery(in))
	})
}

// FuzzInsider: arbitrary bodies, validly signed, tagged and encrypted. The
// first byte selects what the rest is.
func FuzzInsider(f *testing.F) {
	j := newJury(f)
	f.Add(append([]byte{0}, mls.RemoveProposal(2).Raw()...))
	f.Add(append([]byte{0}, mls.AddProposal(j.packages[0]).Raw()...))
	f.Add(append([]byte{1}, 0, 0))
	f.Add(append([]byte{1}, (&wire.Commit{Proposals: values(mls.AddProposal(j.packages[0]))}).AppendTo(nil)...))
	f.Add([]byte("\x02\x04data\x00"))
	f.Add([]byte{3, 0, 3, 0, 0, 0, 1, 0})
	f.Add([]byte{4, 0, 0, 0, 0})
	l := j.Options.Limits.WithDefaults()
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		j.T = t
		kind, body := in[0]%5, in[1:]
		in0 := *j.insider
		switch kind {
		case 0:
			if p, err := wire.ParseProposal(body, l); err == nil {
				j.agree(t, in0.Propose(p, mlstest.Forgery{}))
			}
		case 1:
			if c, err := wire.ParseCommit(body, l); err == nil {
				j.agree(t, in0.Send(func(fc *wire.FramedContent) { fc.ContentType, fc.Commit = mls.ContentCommit, c }, mlstest.Forgery{}))
			}
		default:
			// A plaintext that only its receivers can read; contents that do
			// not parse are theirs alone to refuse.
			msg := in0.Send(func(fc *wire.FramedContent) {
				switch fc.ContentType = mls.ContentType(kind - 1); fc.ContentType {
				case mls.ContentProposal:
					fc.Proposal = mls.RemoveProposal(2)
				case mls.ContentCommit:
					fc.Commit = &wire.Commit{}
				}
			}, mlstest.Forgery{Private: true, Plaintext: func([]byte) []byte { return body }})
			for _, c := range j.Clients[1:3] {
				if next, _, err := c.Group.Process(msg); (err == nil) != (next != nil) {
					t.Fatal("error and result disagree")
				}
			}
		}
	})
}

// FuzzExternalJoin: GroupInfos of all sorts, as they come and signed by an
// insider, for a client that joins by external commit.
func FuzzExternalJoin(f *testing.F) {
	j := newJury(f)
	info, err := j.Clients[0].Group.GroupInfo(member.GroupInfoOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(info)
	f.Add(info[:len(info)/2])
	l := j.Options.Limits.WithDefaults()
	join := func(t *testing.T, info []byte) {
		t.Helper()
		g, staged, err := member.JoinExternal(j.joiner.ID, info, member.ExternalOptions{Options: j.Options})
		if (err == nil) != (g != nil) || (err == nil) != (staged != nil) {
			t.Fatal("error and result disagree")
		}
		if err != nil {
			return
		}
		if _, err := wire.ParseMessage(staged.Commit(), l); err != nil {
			t.Fatalf("the commit does not parse: %v", err)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		join(t, in)
		m, err := wire.ParseMessage(in, l)
		if err != nil || m.GroupInfo == nil {
			return
		}
		g := &wire.GroupInfo{
			Context: m.GroupInfo.Context, Extensions: m.GroupInfo.Extensions,
			ConfirmationTag: m.GroupInfo.ConfirmationTag, Signer: j.insider.Own,
		}
		if g.Signature, err = mls.SignWithLabel(j.insider.Signer, "GroupInfoTBS", g.TBS()); err != nil {
			t.Fatal(err)
		}
		join(t, g.Seal().Message())
	})
}
