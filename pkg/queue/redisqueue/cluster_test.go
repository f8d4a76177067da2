package redisqueue_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/queue/redisqueue"
)

// inCluster is a store on a cluster, which all tests share: ids are apart by a
// prefix of the keys.
type inCluster struct {
	*redisqueue.Store
	cluster *redistest.Cluster
	client  *redis.ClusterClient
	prefix  string
	*queuetest.ManualClock
}

func (s *inCluster) Peer(tb testing.TB) queue.Store {
	return openCluster(tb, s.cluster, s.prefix, s.ManualClock)
}

func openCluster(tb testing.TB, c *redistest.Cluster, prefix string, k *queuetest.ManualClock) *inCluster {
	tb.Helper()
	client := c.Client()
	q, err := redisqueue.New(client, prefix, redisqueue.Options{WaitReplicas: c.Replicas})
	if err != nil {
		tb.Fatal(err)
	}
	q.SetNow(k.Now)
	tb.Cleanup(func() { _ = q.Close() })
	return &inCluster{Store: q, cluster: c, client: client, prefix: prefix, ManualClock: k}
}

func TestConformanceCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := redistest.StartReplicated(t, 3, redistest.Patient)
	n := 0
	t.Run("redis-cluster", func(t *testing.T) {
		queuetest.Run(t, func(tb testing.TB) queue.Store {
			n++
			return openCluster(tb, c, fmt.Sprint("p", n), queuetest.NewManualClock())
		})
	})
}

// TestClusterReshard asserts that queues move with their slot: appends go on,
// numbers too, and watchers are woken by the new node.
func TestClusterReshard(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := redistest.StartCluster(t, 3)
	s := openCluster(t, c, "p", queuetest.NewManualClock())
	if err := s.Create(t.Context(), "q", queue.Limits{}); err != nil {
		t.Fatal(err)
	}
	wake, err := s.Watch(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	add := func(want queue.Seq) {
		t.Helper()
		r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("x"), Dedup: fmt.Append(nil, want)})
		if err != nil || r.Seq != want {
			t.Fatalf("append = %+v, %v, want number %d", r, err, want)
		}
	}
	for i := range 40 {
		add(queue.Seq(i + 1))
	}
	channel := "p{cQ}s"
	slot, err := c.Nodes[0].Client().ClusterKeySlot(t.Context(), channel).Result()
	if err != nil {
		t.Fatal(err)
	}
	var from, to *redistest.Server
	for _, n := range c.Nodes {
		list, err := n.Client().ClusterSlots(t.Context()).Result() //nolint:staticcheck // the slots are what is moved here
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Start <= int(slot) && int(slot) <= r.End && strings.HasSuffix(n.Addr(), strings.Split(r.Nodes[0].Addr, ":")[1]) {
				from = n
			}
		}
	}
	for _, n := range c.Nodes {
		if n != from {
			to = n
		}
	}
	c.MoveSlot(int(slot), from, to)
	add(41)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) { // subscribed at the new node
		n, err := to.Client().PubSubShardChannels(t.Context(), channel).Result()
		if err == nil && len(n) == 1 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("channels at the new node: %v, %v", n, err)
		}
	}
	time.Sleep(100 * time.Millisecond) // wake-ups under way
	select {
	case <-wake:
	default:
	}
	add(42)
	select {
	case <-wake:
	case <-time.After(20 * time.Second): // less than the poll interval
		t.Error("not woken by the new node")
	}
	es, err := s.Read(t.Context(), "q", 0, 100)
	if err != nil || len(es) != 42 {
		t.Errorf("Read = %d entries, %v", len(es), err)
	}
}

// TestClusterWait asserts that WAIT goes to the node that wrote.
func TestClusterWait(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := redistest.StartCluster(t, 3)
	s, err := redisqueue.New(c.Client(), "p", redisqueue.Options{WaitReplicas: 1, WaitTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 10 { // there are no replicas: every node must say so
		if err := s.Create(t.Context(), queue.ID(fmt.Append(nil, i)), queue.Limits{}); err == nil {
			t.Errorf("Create of queue %d succeeded without replicas", i)
		}
	}
}
