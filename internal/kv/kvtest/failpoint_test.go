package kvtest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// TestFailpointCounts asserts what a failpoint of both kinds of store lets through.
func TestFailpointCounts(t *testing.T) {
	for _, persist := range []bool{false, true} {
		for _, halt := range []bool{false, true} {
			p := &queuetest.Failpoint{N: 3, Persist: persist, Halt: halt}
			t.Run(p.String(), func(t *testing.T) {
				k, q := kv.NewMemory(), queue.NewMemory()
				fk, fq := kvtest.Faulty(k, p.Fault), queuetest.Faulty(q, p.Fault)
				put := func(name string) error {
					_, err := kv.Put(t.Context(), fk, kv.Key{Group: "g", Name: name}, 0, []byte("x"), 0)
					return err
				}
				has := func(name string) bool {
					_, err := k.Get(t.Context(), kv.Key{Group: "g", Name: name})
					return err == nil
				}
				read := func() error { _, err := fk.Get(t.Context(), kv.Key{Group: "g", Name: "1"}); return err }
				for i, err := range []error{put("1"), read(), fq.Create(t.Context(), "q", queue.Limits{}), read()} {
					if err != nil {
						t.Errorf("call %d: %v", i, err)
					}
				}
				if err := put("3"); !errors.Is(err, queuetest.ErrFault) || !p.Hit() || has("3") != persist {
					t.Errorf("the third write: %v; hit %v, there %v", err, p.Hit(), has("3"))
				}
				want := error(nil)
				if halt {
					want = queuetest.ErrFault
				}
				if err := read(); !errors.Is(err, want) {
					t.Errorf("a read afterwards: %v, want %v", err, want)
				}
				if err := put("4"); !errors.Is(err, want) || has("4") == halt {
					t.Errorf("a write afterwards: %v, want %v; there %v", err, want, has("4"))
				}
				p.Heal()
				if err := put("5"); err != nil || !has("5") {
					t.Errorf("a write after Heal: %v", err)
				}
				if _, err := q.Stat(t.Context(), "q"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestWalk asserts that a walk cuts a path everywhere: this one writes a record and
// hands an entry over, and repairs itself by doing all again. Without its dedup key
// it would not be repaired, which the walk must notice.
func TestWalk(t *testing.T) {
	var cuts []string
	walk := func(t *testing.T, p *queuetest.Failpoint, dedup string) (entries int) {
		k, q := kv.NewMemory(), queue.NewMemory()
		if err := q.Create(t.Context(), "q", queue.Limits{}); err != nil {
			t.Fatal(err)
		}
		fk, fq := kvtest.Faulty(k, p.Fault), queuetest.Faulty(q, p.Fault)
		path := func() error {
			if _, _, err := kv.Once(t.Context(), fk, kv.Key{Group: "g", Name: "n"}, []byte("x"), time.Hour); err != nil {
				return err
			}
			if _, err := queue.AppendOne(t.Context(), fq, queue.Append{Queue: "q", Entry: []byte("x"), Dedup: []byte(dedup)}); err != nil {
				return err
			}
			return kv.Delete(t.Context(), fk, kv.Key{Group: "g", Name: "n"})
		}
		for tries := 0; path() != nil; tries++ {
			p.Heal()
			if tries > 2 {
				t.Fatal("it never ends")
			}
		}
		st, err := q.Stat(t.Context(), "q")
		if err != nil {
			t.Fatal(err)
		}
		return st.Entries
	}
	queuetest.Walk(t, func(t *testing.T, p *queuetest.Failpoint) {
		if p.N > 0 && p.N <= 3 {
			cuts = append(cuts, fmt.Sprint(p))
		}
		if n := walk(t, p, "d"); n != 1 {
			t.Errorf("%d entries, want 1", n)
		}
	})
	var want []string
	for _, kind := range []string{"AndNotPersist", "ButPersist", "AndNotPersistAndHalt", "ButPersistAndHalt"} {
		for n := range 3 {
			want = append(want, fmt.Sprintf("write %d %s", n+1, kind))
		}
	}
	if d := cmp.Diff(want, cuts); d != "" {
		t.Errorf("cuts (-want +got):\n%s", d)
	}
	if n := walk(t, &queuetest.Failpoint{N: 2, Persist: true}, ""); n != 2 {
		t.Errorf("without a dedup key there are %d entries: the fault does nothing", n)
	}
}
