package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// TestClusterFailover runs the load on three masters and three replicas with
// wait=1, while slots move, a replica takes over on request, and each master is
// killed in turn and comes back. Nothing that was answered is lost or repeated.
func TestClusterFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster of six")
	}
	c := redistest.StartReplicated(t, 3, redistest.Quick)
	l := startLoad(t, open(t, c.URL()+"?wait=1", "hub"))
	l.progress()

	ms := c.Masters()
	for _, slot := range c.SlotsOf(ms[0], 40) {
		c.MoveSlot(slot, ms[0], ms[1])
	}
	moved := map[int]bool{} // the slots that have something, each once
	for i, from := range ms {
		keys, err := from.Client().Keys(t.Context(), "*{*").Result()
		mustDo(t, err)
		for _, k := range keys {
			slot, err := from.Client().ClusterKeySlot(t.Context(), k).Result()
			mustDo(t, err)
			if !moved[int(slot)] {
				moved[int(slot)] = true
				c.MoveSlot(int(slot), from, ms[(i+1)%len(ms)])
			}
		}
	}
	t.Logf("moved %d slots with keys", len(moved))
	l.progress()

	r := c.ReplicaOf(ms[1])
	mustDo(t, r.Client().ClusterFailover(t.Context()).Err())
	c.Eventually("the replica takes over", r.IsMaster)
	c.Eventually("the old master is in step", ms[1].InStep)
	l.progress()

	for range 3 {
		m := c.Masters()[0]
		heir := c.ReplicaOf(m)
		m.Kill()
		c.Eventually("the replica takes over", heir.IsMaster)
		m.Restart()
		c.Eventually("the old master is in step", m.InStep)
		l.progress()
	}
	l.finish()
	rep, err := l.s.Audit(t.Context(), nil, false)
	if err != nil || !rep.Sound() {
		t.Errorf("audit: %v, %v", rep, err)
	}
}

// TestFailoverLinearizable records what clients of queues and records on a cluster
// with wait=1 are answered while masters are killed and replicas take over, and
// asserts that it could have come about one call after another.
func TestFailoverLinearizable(t *testing.T) {
	t.Parallel() // it waits most of the time
	if testing.Short() {
		t.Skip("starts a cluster of six")
	}
	c := redistest.StartReplicated(t, 3, redistest.Quick)
	stores := []*store.Stores{open(t, c.URL()+"?wait=1", "hub"), open(t, c.URL()+"?wait=1", "hub")}
	queues := []queue.ID{"a", "b", "c", "d"}
	for _, id := range queues {
		mustDo(t, stores[0].Queue.Create(t.Context(), id, queue.Limits{}))
	}
	qh, kh := new(queuetest.History), new(kvtest.History)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var calls atomic.Int64
	for i := range 4 {
		q, k := qh.Client(stores[i%2].Queue), kh.Client(stores[i%2].KV)
		r := rand.New(rand.NewPCG(uint64(i), 3))
		wg.Go(func() {
			for n := 0; ; n++ {
				pause := 15 * time.Millisecond
				if !queuetest.RandomCall(context.WithoutCancel(t.Context()), q, queues[r.IntN(len(queues))], r, fmt.Sprint(i, " ", n)) {
					pause = 300 * time.Millisecond // few open outcomes, which make the search long
				}
				if !kvtest.RandomCall(context.WithoutCancel(t.Context()), k, fmt.Sprint("g", r.IntN(4)), r, fmt.Sprint(i, " ", n)) {
					pause = 300 * time.Millisecond
				}
				calls.Add(2)
				select {
				case <-stop:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	progress := func() {
		for from := calls.Load(); calls.Load() < from+120; {
			time.Sleep(5 * time.Millisecond)
		}
	}
	progress()
	for range 2 {
		m := c.Masters()[0]
		heir := c.ReplicaOf(m)
		m.Kill()
		c.Eventually("the replica takes over", heir.IsMaster)
		m.Restart()
		c.Eventually("the old master is in step", m.InStep)
		progress()
	}
	close(stop)
	wg.Wait()
	qh.Check(t)
	kh.Check(t)
	for what, h := range map[string]interface{ Ops() (int, int) }{"queues": qh, "records": kh} {
		all, unknown := h.Ops()
		t.Logf("%s: %d calls, %d with unknown outcome", what, all, unknown)
	}
}

// TestSentinelFailover does the same with one master, one replica and three
// Sentinels: the master is killed, the replica is promoted, the old master comes
// back as its replica.
func TestSentinelFailover(t *testing.T) {
	t.Parallel() // it waits most of the time
	if testing.Short() {
		t.Skip("waits for Sentinels")
	}
	master := redistest.Start(t, redistest.Options{TCP: true, AOF: true})
	replica := master.StartReplica(redistest.Options{AOF: true})
	ss := redistest.StartSentinels(t, master, 3)
	l := startLoad(t, open(t, ss.URL()+"?wait=1", "hub"))
	l.progress()
	master.Kill()
	ss.Eventually("the replica takes over", replica.IsMaster)
	master.Restart()
	ss.Eventually("the old master is in step", master.InStep)
	l.progress()
	l.finish()
}

// TestWaitWindow asserts what wait=1 is for: with a replica that is cut off, an
// append without it is answered and lost when the replica takes over; with it, the
// caller is told that it may be.
func TestWaitWindow(t *testing.T) {
	t.Parallel() // it waits most of the time
	for _, wait := range []bool{false, true} {
		master := redistest.Start(t, redistest.Options{TCP: true, AOF: true})
		replica := master.StartReplica(redistest.Options{AOF: true})
		query := ""
		if wait {
			query = "?wait=1&wait_timeout=300ms"
		}
		s := open(t, master.URL()+query, "hub")
		mustDo(t, open(t, master.URL(), "hub").Queue.Create(t.Context(), "q", queue.Limits{}))
		mustDo(t, master.Client().Do(t.Context(), "WAIT", 1, 10_000).Err()) // the replica has the queue
		replica.Pause()
		mustDo(t, master.Client().ClientKillByFilter(t.Context(), "TYPE", "replica").Err())
		r, err := queue.AppendOne(t.Context(), s.Queue, queue.Append{Queue: "q", Entry: []byte("x")})
		if wait != (err != nil) {
			t.Errorf("wait %v: append to a master without a replica = %+v, %v", wait, r, err)
		}
		if _, err := s.KV.Apply(t.Context(), []kv.Op{{Key: kv.Key{Group: "g", Name: "n"}, Value: []byte("x")}}); wait != (err != nil) {
			t.Errorf("wait %v: Apply on a master without a replica: %v", wait, err)
		}
		// What nobody confirmed is not shown to readers either.
		if es, err := s.Queue.Read(t.Context(), "q", 0, 10); wait != (err != nil) {
			t.Errorf("wait %v: Read on a master without a replica = %v, %v", wait, es, err)
		}
		if rec, err := s.KV.Get(t.Context(), kv.Key{Group: "g", Name: "n"}); wait != (err != nil) {
			t.Errorf("wait %v: Get on a master without a replica = %v, %v", wait, rec, err)
		}
		master.Kill()
		replica.Resume()
		mustDo(t, replica.Client().Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
		after := open(t, replica.URL(), "hub")
		st, err := after.Queue.Stat(t.Context(), "q")
		mustDo(t, err)
		if st.Entries != 0 {
			t.Errorf("wait %v: the replica has %+v, which it cannot", wait, st)
		}
	}
}

// TestKillWithAOF asserts what appendfsync keeps when the server's process is
// killed, which is not what it keeps when the machine loses power.
func TestKillWithAOF(t *testing.T) {
	for _, fsync := range []string{"always", "no"} {
		t.Run(fsync, func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{AOF: true, Fsync: fsync})
			l := startLoad(t, open(t, server.URL(), "hub"))
			for range 3 {
				l.progress()
				server.Kill()
				server.Restart()
			}
			l.progress()
			l.finish()
		})
	}
}

// TestRedisTLS asserts that rediss:// works, and with nobody but the server meant.
func TestRedisTLS(t *testing.T) {
	t.Parallel() // it waits most of the time
	server := redistest.Start(t, redistest.Options{TLS: true})
	s := open(t, server.URL(), "hub")
	write(t, s)
	check(t, s)
	other := redistest.Start(t, redistest.Options{TLS: true})
	for name, url := range map[string]string{
		"another root":   "rediss://" + server.Addr() + "?ca=" + other.CA(),
		"system's roots": "rediss://" + server.Addr(),
		"another name":   server.URL() + "&server_name=redis.example",
		"no TLS":         "redis://" + server.Addr(),
	} {
		if s, err := store.Open(t.Context(), url, "hub"); err == nil {
			t.Errorf("%s: accepted", name)
			_ = s.Close()
		}
	}
	old := redistest.Start(t, redistest.Options{TLS: true, Args: []string{"--tls-protocols", "TLSv1.2"}})
	if s, err := store.Open(t.Context(), old.URL(), "hub"); err == nil {
		t.Error("TLS 1.2: accepted")
		_ = s.Close()
	}
}

// TestHashTags asserts, on what a store of everything writes to a cluster, that
// all keys of a group or a queue are in one slot, by a tag that is not empty, and
// that nothing else is written but the few keys that stand alone.
func TestHashTags(t *testing.T) {
	t.Parallel() // it waits most of the time
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := redistest.StartCluster(t, 3)
	s := open(t, c.URL(), "hub")
	writeGolden(t, s)
	finishGolden(t, s)
	slots := map[string]int64{}
	kinds := map[string]int{}
	for _, n := range c.Nodes {
		keys, err := n.Client().Keys(t.Context(), "*").Result()
		mustDo(t, err)
		for _, k := range keys {
			if k == "hformat" || k == "hswept" || k == "hsweeping" {
				continue
			}
			before, rest, ok := strings.Cut(k, "{")
			tag, _, ok2 := strings.Cut(rest, "}")
			if !ok || !ok2 || tag == "" || before != "h" && before != "hk" {
				t.Errorf("key %q has no tag", k)
				continue
			}
			slot, err := n.Client().ClusterKeySlot(t.Context(), k).Result()
			mustDo(t, err)
			if was, ok := slots[before+tag]; ok && was != slot {
				t.Errorf("keys of tag %q are in the slots %d and %d", tag, was, slot)
			}
			slots[before+tag] = slot
			kinds[before]++
		}
	}
	if len(slots) < 8 || kinds["h"] < 5 || kinds["hk"] < 10 {
		t.Errorf("%d tags, keys %v: the test writes too little", len(slots), kinds)
	}
	if _, err := store.Open(t.Context(), "redis://"+c.Nodes[0].Addr(), "hub"); err == nil || errors.Is(err, store.ErrNewer) {
		t.Errorf("a node alone: %v", err)
	}
}
