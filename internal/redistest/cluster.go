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

// Cluster is a Redis Cluster of masters without replicas.
type Cluster struct {
	tb    testing.TB
	Nodes []*Server
}

// StartCluster starts a cluster of n masters that share the slots evenly.
func StartCluster(tb testing.TB, n int) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	for range n {
		c.Nodes = append(c.Nodes, Start(tb, Options{TCP: true, Args: []string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(tb)), "--cluster-node-timeout", "5000",
		}}))
	}
	ctx := tb.Context()
	first := c.Nodes[0]
	bus := func(s *Server) string { return s.args[indexOf(s.args, "--cluster-port")+1] }
	for i, s := range c.Nodes {
		if err := s.Client().ClusterAddSlotsRange(ctx, i*slots/n, (i+1)*slots/n-1).Err(); err != nil {
			tb.Fatalf("giving a node its slots: %v", err)
		}
		if s == first {
			continue
		}
		if err := s.Client().Do(ctx, "CLUSTER", "MEET", "127.0.0.1", first.port, bus(first)).Err(); err != nil {
			tb.Fatalf("joining the cluster: %v", err)
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

func indexOf(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
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
