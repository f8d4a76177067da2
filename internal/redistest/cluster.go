package redistest

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// slots is how many hash slots a cluster has.
const slots = 16384

// Cluster is a Redis Cluster.
type Cluster struct {
	tb testing.TB
	// Nodes are its servers. Those that began as masters come first.
	Nodes []*Server
	// Replicas is how many replicas a master has.
	Replicas int
}

// StartCluster starts a cluster of n masters without replicas that share the slots
// evenly.
func StartCluster(tb testing.TB, n int) *Cluster { return startCluster(tb, n, Patient, false) }

// Quick is how long a cluster waits for a node in tests of failover, Patient where
// a busy machine must not be taken for a dead node.
const (
	Quick   = time.Second
	Patient = 30 * time.Second
)

// StartReplicated starts a cluster of n masters, each with one replica, that takes
// a node for gone after timeout. Nodes keep an append-only file, synced every
// second.
func StartReplicated(tb testing.TB, n int, timeout time.Duration) *Cluster {
	tb.Helper()
	c := startCluster(tb, n, timeout, true)
	c.Replicas = 1
	ctx := tb.Context()
	for i := range n {
		r := startNode(tb, timeout, true)
		c.Nodes = append(c.Nodes, r)
		c.meet(r)
		c.await(ctx, r)
		id, err := c.Nodes[i].Client().ClusterMyID(ctx).Result()
		if err != nil {
			tb.Fatal(err)
		}
		c.Eventually("a node becomes a replica", func() bool { return r.Client().ClusterReplicate(ctx, id).Err() == nil })
	}
	for _, s := range c.Nodes {
		c.await(ctx, s)
	}
	for _, s := range c.Nodes[n:] {
		c.Eventually("a replica is in step", s.InStep)
	}
	return c
}

func startNode(tb testing.TB, timeout time.Duration, aof bool) *Server {
	return Start(tb, Options{TCP: true, AOF: aof, Fsync: "everysec", Args: []string{
		"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(tb)), "--cluster-node-timeout", strconv.FormatInt(timeout.Milliseconds(), 10),
		"--cluster-allow-replica-migration", "no",
	}})
}

// meet makes a node known to the first, and so to all.
func (c *Cluster) meet(s *Server) {
	c.tb.Helper()
	first := c.Nodes[0]
	if err := s.Client().Do(c.tb.Context(), "CLUSTER", "MEET", "127.0.0.1", first.port, first.arg("--cluster-port")).Err(); err != nil {
		c.tb.Fatalf("joining the cluster: %v", err)
	}
}

func startCluster(tb testing.TB, n int, timeout time.Duration, aof bool) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	for range n {
		c.Nodes = append(c.Nodes, startNode(tb, timeout, aof))
	}
	ctx := tb.Context()
	first := c.Nodes[0]
	for i, s := range c.Nodes {
		if err := s.Client().ClusterAddSlotsRange(ctx, i*slots/n, (i+1)*slots/n-1).Err(); err != nil {
			tb.Fatalf("giving a node its slots: %v", err)
		}
		if s != first {
			c.meet(s)
		}
	}
	for _, s := range c.Nodes {
		c.await(ctx, s)
	}
	return c
}

// await waits until a node knows all slots and all nodes.
func (c *Cluster) await(ctx context.Context, s *Server) {
	c.tb.Helper()
	client := s.Client()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		info, err := client.ClusterInfo(ctx).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(len(c.Nodes))) {
			return
		}
		if time.Since(start) > startTimeout {
			c.tb.Fatalf("the cluster is not complete: %v", err)
		}
	}
}

// Eventually waits for something that takes a while.
func (c *Cluster) Eventually(what string, f func() bool) { eventually(c.tb, what, f) }

func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for start := time.Now(); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > startTimeout {
			tb.Fatalf("it does not happen: %s", what)
		}
	}
}

// Masters are the nodes that say they are masters with slots.
func (c *Cluster) Masters() []*Server {
	var ms []*Server
	for _, s := range c.Nodes {
		if s.IsMaster() && len(c.SlotsOf(s, 1)) > 0 {
			ms = append(ms, s)
		}
	}
	return ms
}

// ReplicaOf returns a node that is in step with a master.
func (c *Cluster) ReplicaOf(m *Server) *Server {
	c.tb.Helper()
	for _, s := range c.Nodes {
		if s != m && s.replicates("master_port:"+strconv.Itoa(m.port)) {
			return s
		}
	}
	c.tb.Fatal("the master has no replica")
	return nil
}

// SlotsOf returns slots that a master has, up to n.
func (c *Cluster) SlotsOf(m *Server, n int) (out []int) {
	c.tb.Helper()
	list, err := m.Client().ClusterSlots(c.tb.Context()).Result() //nolint:staticcheck // the slots are what is asked for
	if err != nil {
		c.tb.Fatal(err)
	}
	for _, r := range list {
		if !strings.HasSuffix(r.Nodes[0].Addr, ":"+strconv.Itoa(m.port)) {
			continue
		}
		for i := r.Start; i <= r.End && len(out) < n; i++ {
			out = append(out, i)
		}
	}
	return out
}

// URL is the cluster as the daemons' store flags name it.
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr()
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// Client returns a new client that ends with the test.
func (c *Cluster) Client() *redis.ClusterClient {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr()
	}
	cc := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	c.tb.Cleanup(func() { _ = cc.Close() })
	return cc
}

// MoveSlot gives a slot with its keys to another node, as a resharding does.
func (c *Cluster) MoveSlot(slot int, from, to *Server) {
	c.tb.Helper()
	ctx := c.tb.Context()
	src, dst := from.Client(), to.Client()
	id := func(cl *redis.Client) string {
		s, err := cl.ClusterMyID(ctx).Result()
		if err != nil {
			c.tb.Fatal(err)
		}
		return s
	}
	do := func(cl *redis.Client, args ...any) {
		c.tb.Helper()
		if err := cl.Do(ctx, args...).Err(); err != nil {
			c.tb.Fatalf("moving a slot: %v", err)
		}
	}
	do(dst, "CLUSTER", "SETSLOT", slot, "IMPORTING", id(src))
	do(src, "CLUSTER", "SETSLOT", slot, "MIGRATING", id(dst))
	for {
		keys, err := src.ClusterGetKeysInSlot(ctx, slot, 100).Result()
		if err != nil {
			c.tb.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		do(src, args...)
	}
	do(dst, "CLUSTER", "SETSLOT", slot, "NODE", id(dst))
	do(src, "CLUSTER", "SETSLOT", slot, "NODE", id(dst))
}
