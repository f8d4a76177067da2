package member_test

import (
	"fmt"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// bigWorld is a group of n members of whom only the first two are kept. Its tree
// is as one commit with Adds left it: parents are blank but for one path.
func bigWorld(b *testing.B, n int) *mlstest.World {
	b.Helper()
	w := mlstest.NewWorld(b, 1, 1)
	w.NoReload = true
	w.Options.Limits.Proposals, w.Options.Limits.Tree = 20000, 64<<20
	w.Found()
	second := w.NewClient()
	o := member.CommitOptions{ByValue: []*mls.ProposalBody{mls.AddProposal(second.KeyPackage())}}
	for range n - 2 {
		o.ByValue = append(o.ByValue, mls.AddProposal(w.NewClient().KeyPackage()))
	}
	c := w.Clients[0]
	staged, err := c.Stage(o)
	if err != nil {
		b.Fatal(err)
	}
	commit, welcome := staged.Commit(), staged.Welcome()
	if _, err := c.Confirm(); err != nil {
		b.Fatal(err)
	}
	if w.Hub, _, err = w.Hub.Process(commit, mlstest.Now); err != nil {
		b.Fatal(err)
	}
	w.Join(welcome, false, second)
	return w
}

func BenchmarkGroup(b *testing.B) {
	for _, n := range []int{2, 10, 100, 1000} {
		w := bigWorld(b, n)
		a, c := w.Clients[0], w.Clients[1]
		b.Run(fmt.Sprintf("stage/blank/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := c.Group.Stage(member.CommitOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		_, staged, err := c.Group.Stage(member.CommitOptions{})
		if err != nil {
			b.Fatal(err)
		}
		commit := staged.Commit()
		b.Run(fmt.Sprintf("process/blank/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := a.Group.Process(commit); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("send/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := a.Group.Send(make([]byte, 100), member.SendOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		_, msg, err := c.Group.Send(make([]byte, 100), member.SendOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("receive/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := a.Group.Process(msg); err != nil {
					b.Fatal(err)
				}
			}
		})
		info, err := a.Group.GroupInfo(member.GroupInfoOptions{})
		if err != nil {
			b.Fatal(err)
		}
		joiner := w.NewClient()
		b.Run(fmt.Sprintf("external/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := member.JoinExternal(joiner.ID, info, member.ExternalOptions{Options: w.Options}); err != nil {
					b.Fatal(err)
				}
			}
		})
		_, staged, err = a.Group.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{mls.AddProposal(joiner.KeyPackage())}})
		if err != nil {
			b.Fatal(err)
		}
		welcome := staged.Welcome()
		b.Run(fmt.Sprintf("welcome/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := member.Join(welcome, joiner.Find, member.JoinOptions{Options: w.Options}); err != nil {
					b.Fatal(err)
				}
			}
		})
		public, private := mlstest.State(b, a.Group)
		b.Run(fmt.Sprintf("load/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := a.Load(public, private); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("save-private/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := a.Group.AppendPrivate(nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(public)), "public-bytes")
			b.ReportMetric(float64(len(private)), "private-bytes")
		})
	}
}
