package member_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// gates are the times in milliseconds, by step, tree and members, that
// BenchmarkEngine refuses to exceed when MLS_GATES is set, on a machine whose
// building blocks take what building says. A slower or busier machine is
// allowed as much more as the public-key operations of the step take more.
var gates = map[string]float64{
	"stage/blank/2": 0.4, "process/blank/2": 0.4, "start/blank/2": 0.2, "server/blank/2": 0.15, "external/blank/2": 0.7, "welcome/blank/2": 0.4,
	"stage/filled/10": 0.7, "process/filled/10": 0.6, "start/filled/10": 0.5, "server/filled/10": 0.15, "external/filled/10": 1.2, "welcome/filled/10": 0.8,
	"stage/filled/100": 1.5, "process/filled/100": 0.8, "start/filled/100": 4, "server/filled/100": 0.25, "external/filled/100": 6, "welcome/filled/100": 5,
	"stage/blank/100": 5, "process/blank/100": 0.6, "start/blank/100": 4, "server/blank/100": 0.25, "external/blank/100": 9, "welcome/blank/100": 5,
	"stage/filled/1000": 3, "process/filled/1000": 1.2, "start/filled/1000": 40, "server/filled/1000": 1, "external/filled/1000": 45, "welcome/filled/1000": 45,
	"stage/blank/1000": 45, "process/blank/1000": 1.2, "start/blank/1000": 40, "server/blank/1000": 1, "external/blank/1000": 80, "welcome/blank/1000": 45,
	"stage/filled/10000": 10, "process/filled/10000": 6, "start/filled/10000": 450, "server/filled/10000": 5, "external/filled/10000": 480, "welcome/filled/10000": 470,
	"stage/blank/10000": 450, "process/blank/10000": 6, "start/blank/10000": 450, "server/blank/10000": 5, "external/blank/10000": 850, "welcome/blank/10000": 470,
}

// building is what the building blocks take on the machine of the gates.
var building = [5]time.Duration{
	suite.OpSeal: 50 * time.Microsecond, suite.OpOpen: 31 * time.Microsecond, suite.OpDerive: 17 * time.Microsecond,
	suite.OpSign: 17 * time.Microsecond, suite.OpVerify: 38 * time.Microsecond,
}

// replica does the public-key operations of a step and nothing else, spread
// over the processors as the engine spreads them.
type replica struct {
	ops    suite.Counts
	blocks [5]func()
}

func newReplica(b *testing.B, ops suite.Counts) *replica {
	b.Helper()
	s := suite.Get(1)
	public, private, err := s.GenerateKeyPair()
	if err != nil {
		b.Fatal(err)
	}
	kem, text, err := s.EncryptWithLabel(public, "x", nil, make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	key, signer, err := s.GenerateSignatureKey()
	if err != nil {
		b.Fatal(err)
	}
	sig, err := s.SignWithLabel(signer, "x", text)
	if err != nil {
		b.Fatal(err)
	}
	return &replica{ops, [5]func(){
		suite.OpSeal:   func() { _, _, _ = s.EncryptWithLabel(public, "x", nil, make([]byte, 32)) },
		suite.OpOpen:   func() { _, _ = s.DecryptWithLabel(private, "x", nil, kem, text) },
		suite.OpDerive: func() { _, _, _ = s.DeriveKeyPair(private) },
		suite.OpSign:   func() { _, _ = s.SignWithLabel(signer, "x", text) },
		suite.OpVerify: func() { s.VerifyWithLabel(key, "x", text, sig) },
	}}
}

// processors returns how many of the operations run at once.
func (r *replica) processors(op suite.Op) int {
	switch {
	case op == suite.OpSeal && r.ops[op] >= 4, op == suite.OpVerify && r.ops[op] >= 10:
		return min(2, runtime.GOMAXPROCS(0))
	}
	return 1
}

// run does the operations and returns the time it took.
func (r *replica) run() time.Duration {
	start := time.Now()
	for op, f := range r.blocks {
		n := int(r.ops[op])
		if r.processors(suite.Op(op)) == 1 {
			for range n {
				f()
			}
			continue
		}
		_ = secret.Parallel(n, func(int) error { f(); return nil })
	}
	return time.Since(start)
}

// there returns what the operations take on the machine of the gates, which
// has two processors.
func (r *replica) there() (sum time.Duration) {
	for op := range r.blocks {
		sum += time.Duration(r.ops[op]) * building[op] / time.Duration(r.processors(suite.Op(op)))
	}
	return sum
}

// step benchmarks f. After each run of f its public-key operations are run by
// themselves; the median of the ratios is what the engine adds to them, and is
// little disturbed by what else the machine does. Scaled is the time on the
// machine of the gates.
func step(b *testing.B, name string, s *subject, f func() error) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		s.ready(b)
		b.ReportAllocs()
		var err error
		r := newReplica(b, suite.Count(func() { err = f() }))
		if err != nil {
			b.Fatal(err)
		}
		var ratios []float64
		for b.Loop() {
			start := time.Now()
			if err := f(); err != nil {
				b.Fatal(err)
			}
			took := time.Since(start)
			if len(ratios) < 500 {
				b.StopTimer()
				ratios = append(ratios, float64(took)/float64(r.run()))
				b.StartTimer()
			}
		}
		slices.Sort(ratios)
		ratio := ratios[len(ratios)/2]
		scaled := ratio * float64(r.there())
		b.ReportMetric(scaled, "scaled-ns/op")
		b.ReportMetric(ratio, "x-of-crypto")
		if gate, ok := gates[name]; ok && os.Getenv("MLS_GATES") != "" && scaled > gate*1e6 {
			b.Errorf("%s: scaled to %.3f ms, the gate is %.3f ms", name, scaled/1e6, gate)
		}
	})
}

// BenchmarkEngine is the table of docs/performance.md. Only the last step of
// its name is measured: groups are made up beforehand, see mlstest.Crowd.
func BenchmarkEngine(b *testing.B) {
	for _, c := range []struct {
		n    int
		tree string
	}{
		{2, "blank"},
		{10, "filled"},
		{100, "filled"},
		{100, "blank"},
		{1000, "filled"},
		{1000, "blank"},
		{10000, "filled"},
		{10000, "blank"},
	} {
		benchmarkGroup(b, fmt.Sprintf("%s/%d", c.tree, c.n), &subject{n: c.n, filled: c.tree == "filled"})
	}
}

// subject is a group to measure, made up when a benchmark first needs it.
type subject struct {
	n      int
	filled bool

	w                             *mlstest.World
	g, other                      *member.Group
	joiner                        *mlstest.Client
	commit, welcome, message      []byte
	info, tree, public, privately []byte
}

func (s *subject) ready(b *testing.B) {
	b.Helper()
	if s.w != nil {
		return
	}
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	s.w = mlstest.Crowd(b, s.n, s.filled)
	s.g, s.other, s.joiner = s.w.Clients[0].Group, s.w.Clients[1].Group, s.w.NewClient()
	_, staged, err := s.g.Stage(member.CommitOptions{})
	check(err)
	s.commit = staged.Commit()
	add := mls.AddProposal(s.joiner.KeyPackage())
	_, staged, err = s.g.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{add}})
	check(err)
	s.welcome = staged.Welcome()
	_, s.message, err = s.g.Send(make([]byte, 100), member.SendOptions{})
	check(err)
	s.info, _ = s.w.Server.GroupInfo()
	s.tree = s.w.Server.TreeBytes()
	s.public, s.privately = mlstest.State(b, s.g)
}

func benchmarkGroup(b *testing.B, name string, s *subject) {
	b.Helper()
	step(b, "stage/"+name, s, func() error { return secondStaged(s.g.Stage(member.CommitOptions{})) })
	step(b, "process/"+name, s, func() error { return secondEvent(s.other.Process(s.commit)) })
	step(b, "server/"+name, s, func() error {
		_, _, err := s.w.Server.Process(s.commit, mlstest.Now)
		return err
	})
	step(b, "start/"+name, s, func() error {
		_, err := mls.NewPublicGroup(s.info, s.tree, &s.w.Options.Options)
		return err
	})
	step(b, "external/"+name, s, func() error {
		_, _, err := member.JoinExternal(s.joiner.ID, s.info, member.ExternalOptions{Options: s.w.Options, Tree: s.tree})
		return err
	})
	step(b, "welcome/"+name, s, func() error {
		_, _, err := member.Join(s.welcome, s.joiner.Find, member.JoinOptions{Options: s.w.Options})
		return err
	})
	data := make([]byte, 100)
	step(b, "send/"+name, s, func() error { return second(s.g.Send(data, member.SendOptions{})) })
	step(b, "receive/"+name, s, func() error { return secondEvent(s.other.Process(s.message)) })
	benchmarkState(b, name, s)
}

// benchmarkState measures storing and loading, and reports sizes.
func benchmarkState(b *testing.B, name string, s *subject) {
	b.Helper()
	b.Run("save-private/"+name, func(b *testing.B) {
		s.ready(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.g.AppendPrivate(nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(s.public)), "public-bytes")
		b.ReportMetric(float64(len(s.privately)), "private-bytes")
	})
	b.Run("load/"+name, func(b *testing.B) {
		s.ready(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.w.Clients[0].Load(s.public, s.privately); err != nil {
				b.Fatal(err)
			}
		}
	})
}
