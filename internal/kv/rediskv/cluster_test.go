package rediskv_test

import (
	"fmt"
	"testing"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/internal/kv/rediskv"
	"github.com/mmrelay/mmrelay/internal/redistest"
)

// inCluster is a store on a cluster, which all tests share: records are apart by
// a prefix of the keys.
type inCluster struct {
	*rediskv.Store
	cluster *redistest.Cluster
	prefix  string
}

func (s *inCluster) Peer(tb testing.TB) kv.Store { return openCluster(tb, s.cluster, s.prefix) }

func openCluster(tb testing.TB, c *redistest.Cluster, prefix string) kv.Store {
	s := &inCluster{rediskv.New(c.Client(), prefix, rediskv.Options{WaitReplicas: c.Replicas}), c, prefix}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformanceCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := redistest.StartReplicated(t, 3, redistest.Patient)
	n := 0
	t.Run("redis-cluster", func(t *testing.T) {
		kvtest.Run(t, func(tb testing.TB) kv.Store {
			n++
			return openCluster(tb, c, fmt.Sprint("p", n, "."))
		})
	})
}
