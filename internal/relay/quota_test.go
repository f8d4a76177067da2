package relay_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// sharedStores returns a store as two processes have it open, or twice the same
// where there is one process only.
func sharedStores(t *testing.T, backend string) [2]kv.Store {
	t.Helper()
	url, opens := map[string]string{"memory": "memory:", "pebble": "pebble:" + t.TempDir()}[backend], 1
	if backend == "redis" {
		url, opens = redistest.Start(t, redistest.Options{}).URL(), 2
	}
	var ss [2]kv.Store
	for i := range opens {
		s, err := store.Open(t.Context(), url, "accounts")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		ss[i], ss[1] = s.KV, s.KV
	}
	return ss
}

// TestQuota: many who add through two processes at once fill a quota to its last
// place, and not one record more; names that are there need no room.
func TestQuota(t *testing.T) {
	const most, callers = 20, 60
	for _, backend := range []string{"memory", "pebble", "redis"} {
		t.Run(backend, func(t *testing.T) {
			ss := sharedStores(t, backend)
			guard := kv.Key{Group: "g", Name: "guard"}
			if _, err := relay.AddWithin(t.Context(), ss[0], guard, "x/", most); !errors.Is(err, kv.ErrNotFound) {
				t.Errorf("without a guard: %v", err)
			}
			if _, err := kv.Put(t.Context(), ss[0], guard, 0, []byte("it"), 0); err != nil {
				t.Fatal(err)
			}
			op := func(name string) kv.Op {
				return kv.Op{Key: kv.Key{Group: "g", Name: name}, Value: []byte{1}, TTL: time.Hour}
			}
			count := func() (n int) {
				for _, err := range ss[0].Scan(t.Context(), "g", "x/") {
					if err != nil {
						t.Fatal(err)
					}
					n++
				}
				return n
			}
			var added, refused atomic.Int64
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					_, err := relay.AddWithin(t.Context(), ss[i%2], guard, "x/", most, op(fmt.Sprint("x/", i)), op("other"))
					switch {
					case err == nil:
						added.Add(1)
					case errors.Is(err, mmrerr.Limit):
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if added.Load() != most || refused.Load() != callers-most || count() != most {
				t.Fatalf("%d added, %d refused, %d there; the limit is %d", added.Load(), refused.Load(), count(), most)
			}
			for rec := range ss[0].Scan(t.Context(), "g", "x/") {
				n, err := relay.AddWithin(t.Context(), ss[1], guard, "x/", most, op(rec.Key.Name))
				if err != nil || n != most {
					t.Errorf("a name that is there: %d, %v", n, err)
				}
			}
			// What did not fit leaves nothing behind, and a place that is given up can be taken.
			for rec := range ss[0].Scan(t.Context(), "g", "x/") {
				if err := kv.Delete(t.Context(), ss[0], rec.Key); err != nil {
					t.Fatal(err)
				}
				break
			}
			if _, err := relay.AddWithin(t.Context(), ss[0], guard, "x/", most, op("x/a"), op("x/b")); !errors.Is(err, mmrerr.Limit) || count() != most-1 {
				t.Errorf("two for one place: %v", err)
			}
			if n, err := relay.AddWithin(t.Context(), ss[1], guard, "x/", most, op("x/a")); err != nil || n != most {
				t.Errorf("one for one place: %d, %v", n, err)
			}
		})
	}
}
