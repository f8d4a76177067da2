package member_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// suites runs a test in all seven suites.
// suites runs a test for all suites; under the race detector for two, as what it
// looks for is the same in all. make test runs all seven without it.
func suites(t *testing.T, f func(t *testing.T, s mls.CipherSuite)) {
	last := mls.CipherSuite(7)
	if raceEnabled {
		last = 2
	}
	for s := mls.CipherSuite(1); s <= last; s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) { f(t, s) })
	}
}

func TestTwoMembers(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 2)
		w.Say(w.Clients[0], member.SendOptions{})
		w.Say(w.Clients[1], member.SendOptions{AAD: []byte("aad"), Padding: member.PadToBucket})
		w.Commit(w.Clients[1], member.CommitOptions{AAD: []byte("aad")})
		w.Commit(w.Clients[0], member.CommitOptions{Private: true, Padding: member.PadToBucket})
		w.Say(w.Clients[0], member.SendOptions{})
		w.ProposeUpdate(w.Clients[0], nil, member.SendOptions{AAD: []byte("x")})
		w.Commit(w.Clients[1], member.CommitOptions{})
		w.JoinExternal(w.NewClient(), member.ExternalOptions{AAD: []byte("aad")})
		w.Say(w.Clients[2], member.SendOptions{})
		w.Say(w.Clients[0], member.SendOptions{})
	})
}

// player makes random steps that are allowed.
type player struct {
	*mlstest.World
	intN func(n int) int
}

func (p *player) pick() *mlstest.Client { return p.Clients[p.intN(len(p.Clients))] }

// other returns a client that is not c, and nil if there is none.
func (p *player) other(c *mlstest.Client) *mlstest.Client {
	if len(p.Clients) < 2 {
		return nil
	}
	for {
		if d := p.pick(); d != c {
			return d
		}
	}
}

// proposed reports whether a client has proposed to remove a leaf already: the
// same message again would be refused.
func (p *player) proposed(c *mlstest.Client, leaf mls.LeafIndex) bool {
	return slices.ContainsFunc(c.Group.Public().Proposals(), func(q *mls.Proposal) bool {
		return q.Type == mls.ProposalRemove && q.Remove == leaf && q.Sender.Index == uint32(c.Group.OwnLeaf())
	})
}

func (p *player) step(most int) {
	c := p.pick()
	private := p.intN(4) == 0
	send := member.SendOptions{Private: private, AAD: []byte("proposal")}
	o := member.CommitOptions{Private: private, AAD: []byte("commit")}
	o.Welcome.WithoutTree = p.intN(2) == 0
	waiting := len(p.Server.Proposals()) > 0
	if private && (waiting || p.intN(2) == 0) {
		// Proposals that the server knows must be committed where it can see it.
		o.Private = false
	}
	switch n := p.intN(12); {
	case n < 3 && len(c.Group.Public().Proposals()) == 0:
		p.Say(c, member.SendOptions{Padding: member.PadToBucket})
	case n == 3 && len(p.Clients) < most:
		var adds []*mlstest.Client
		for range 1 + p.intN(min(3, most-len(p.Clients))) {
			adds = append(adds, p.NewClient())
		}
		o.NoPath = p.intN(2) == 0
		p.Commit(c, o, adds...)
	case n == 4 && len(p.Clients) > 2:
		o.ByValue = []*mls.ProposalBody{mls.RemoveProposal(p.other(c).Group.OwnLeaf())}
		p.Commit(c, o)
	case n == 5 && len(c.Group.Public().Proposals()) < 8:
		p.ProposeUpdate(c, nil, member.SendOptions{AAD: send.AAD})
	case n == 6 && len(p.Clients) > 2 && len(c.Group.Public().Proposals()) < 8:
		if leaf := p.other(c).Group.OwnLeaf(); !p.proposed(c, leaf) {
			p.Propose(c, mls.RemoveProposal(leaf), member.SendOptions{})
		}
	case n == 7 && len(p.Clients) < most:
		p.JoinExternal(p.NewClient(), member.ExternalOptions{AAD: []byte("external")})
	case n == 8:
		// Resync: the old state is lost, the identity is not.
		leaf := c.Group.OwnLeaf()
		p.JoinExternal(c, member.ExternalOptions{Resync: &leaf})
	case n == 9:
		o.Leaf = &member.LeafOptions{Signer: c.NewSigner()}
		p.Commit(c, o)
		c.ID.Signer = o.Leaf.Signer
	case n == 10:
		// A lost race: both stage, the other one wins.
		if d := p.other(c); d != nil {
			if _, err := d.Stage(member.CommitOptions{}); err != nil {
				p.T.Fatalf("%s: staging: %v", d.Name, err)
			}
		}
		p.Commit(c, o)
	default:
		p.Commit(c, o)
	}
}

func TestSelfPlay(t *testing.T) {
	steps, most := 500, 33
	if testing.Short() || raceEnabled {
		steps, most = 50, 9
	}
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		n, m := steps, most
		if s != 1 {
			n, m = steps/5, most/3
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		p := &player{mlstest.NewWorld(t, s, 2), rand.New(rand.NewPCG(seed, 0)).IntN}
		for range n {
			p.step(m)
		}
		for len(p.Clients) < m {
			p.Commit(p.pick(), member.CommitOptions{}, p.NewClient())
		}
		for _, c := range p.Clients {
			if len(c.Group.Public().Proposals()) == 0 {
				p.Say(c, member.SendOptions{})
			}
		}
	})
}

// rapidTB lets rapid know that a test failed, so that it looks for a shorter
// list of steps that fails as well.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (r rapidTB) Fatal(args ...any)                 { r.rt.Fatal(args...) }
func (r rapidTB) Fatalf(format string, args ...any) { r.rt.Fatalf(format, args...) }
func (r rapidTB) Error(args ...any)                 { r.rt.Error(args...) }
func (r rapidTB) Errorf(format string, args ...any) { r.rt.Errorf(format, args...) }

// TestServerFollowsRandomSteps: after each of well over 1,000 random steps the
// server, which knows no secret, has the members' tree hash, tree bytes and
// GroupContext; World.Check compares them.
func TestServerFollowsRandomSteps(t *testing.T) {
	steps, most := 20, 12
	if testing.Short() || raceEnabled {
		steps = 12
	}
	ran := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := mlstest.NewWorld(rapidTB{t, rt}, 1, 2)
		p := &player{w, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "choice") }}
		for range steps {
			p.step(most)
			p.Check()
			ran++
		}
	})
	if ran < 1000 && !testing.Short() {
		t.Errorf("%d steps only", ran)
	}
}
