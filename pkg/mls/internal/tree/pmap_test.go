package tree_test

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
)

// TestPersistentMap compares the persistent map with copies of a Go map: an old
// version must not see what became of it.
func TestPersistentMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var m tree.Map
	want := map[string]int{}
	for range 300 { // built in place first
		k := key(rng.IntN(400))
		m.Add(k)
		want[string(k)]++
	}
	type version struct {
		m    tree.Map
		want map[string]int
	}
	var old []version
	for i := range 4000 {
		k := key(rng.IntN(400))
		delta := 1
		if want[string(k)] > 0 && rng.IntN(2) == 0 {
			delta = -1
		}
		m = m.Count(k, delta)
		if want[string(k)] += delta; want[string(k)] == 0 {
			delete(want, string(k))
		}
		if i%500 == 0 {
			old = append(old, version{m, maps.Clone(want)})
		}
	}
	for _, v := range append(old, version{m, want}) {
		got := map[string]int{}
		for i := range 400 {
			if n := v.m.Get(key(i)); n != 0 {
				got[string(key(i))] = n
			}
		}
		if d := cmp.Diff(v.want, got); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
		sum, total := 0, 0
		v.m.All(func(n int) bool { sum += n; return true })
		for _, n := range v.want {
			total += n
		}
		if sum != total {
			t.Errorf("iteration finds %d, want %d", sum, total)
		}
	}
}

func key(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }
