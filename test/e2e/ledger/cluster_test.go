package ledger_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/mmrelay/mmrelay/internal/redistest"
)

// TestCluster: two hubs and two relays of each provider on a Redis Cluster of three
// masters and three replicas, with wait=1. Besides what else fails, slots move and
// masters are replaced: on request, and because they are killed.
func TestCluster(t *testing.T) {
	wanted(t)
	c := redistest.StartReplicated(t, 3, redistest.Quick)
	d := deploy(t, 2, func(domain string) string { return fmt.Sprintf("%s?wait=1&prefix=%s:", c.URL(), domain) })
	d.cluster = c
	run(t, d, *duration)
}

// reshard moves slots from one master to another, those with keys among them.
func (f *faults) reshard(ctx context.Context) {
	ms := f.d.cluster.Masters()
	f.rnd.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	keys, err := ms[0].Client().Keys(ctx, "*{*").Result()
	if err != nil {
		f.log("  no keys: %v", err)
		return
	}
	moved := make(map[int]bool)
	for _, k := range keys {
		slot, err := ms[0].Client().ClusterKeySlot(ctx, k).Result()
		if err != nil || len(moved) == 50 || ctx.Err() != nil {
			break
		}
		if !moved[int(slot)] {
			moved[int(slot)] = true
			f.d.cluster.MoveSlot(int(slot), ms[0], ms[1])
		}
	}
	f.log("  moved %d slots with keys", len(moved))
}

// handOver lets a replica take over from its master, which becomes its replica.
func (f *faults) handOver(ctx context.Context) {
	m := f.d.cluster.Masters()[0]
	heir := f.d.cluster.ReplicaOf(m)
	if err := heir.Client().ClusterFailover(ctx).Err(); err != nil {
		f.log("  not handed over: %v", err)
		return
	}
	f.d.cluster.Eventually("the replica takes over", heir.IsMaster)
	f.d.cluster.Eventually("the old master is in step", m.InStep)
}

// failOver kills a master; its replica takes over, and it comes back as a replica.
func (f *faults) failOver(context.Context) {
	ms := f.d.cluster.Masters()
	m := ms[f.rnd.IntN(len(ms))]
	heir := f.d.cluster.ReplicaOf(m)
	m.Kill()
	f.d.cluster.Eventually("the replica takes over", heir.IsMaster)
	m.Restart()
	f.d.cluster.Eventually("the old master is in step", m.InStep)
}
