package pebblequeue_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/pebblequeue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// onDisk is the size of all files of a database.
func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if st, err := d.Info(); err == nil { // a file may go meanwhile
			n += st.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// settle compacts, and waits until obsolete files are gone or limit holds.
func (s *store) settle(t *testing.T, limit int64) int64 {
	t.Helper()
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) { // files are deleted in the background
		if n := onDisk(t, s.dir); n <= limit || time.Since(start) > 20*time.Second {
			return n
		}
	}
}

// TestDiskUse sends a hundred times as many bytes through queues as they may hold,
// with steady acknowledgement, and asserts that the directory stays within a few
// times of what is waiting, without anybody asking for a compaction; that after the
// last acknowledgement next to nothing is left; and that the same goes for entries
// that expire instead.
func TestDiskUse(t *testing.T) {
	const (
		queues   = 8
		held     = 64 << 10 // per queue
		entry    = 1 << 10
		memtable = 128 << 10
		steps    = 8 // batches until a queue is full
	)
	rounds := 100
	if testing.Short() || raceEnabled {
		rounds = 12
	}
	// What is waiting; what is gone but not compacted yet; logs, two of which are kept
	// for reuse.
	limit := int64(5*queues*held + 8*memtable)
	const empty = 6 * memtable

	dir := t.TempDir()
	db, err := pebble.Open(dir, &pebble.Options{
		FormatMajorVersion: pebble.FormatNewest, Logger: silent{pebble.DefaultLogger}, MemTableSize: memtable, L0CompactionThreshold: 4,
		LBaseMaxBytes: 256 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := queuetest.NewManualClock()
	s := &store{Store: pebblequeue.New(db, prefix), db: db, dir: dir, ManualClock: c}
	s.SetNow(c.Now)
	t.Cleanup(func() { s.close(t) })
	ids := make([]queue.ID, queues)
	for i := range ids {
		ids[i] = queue.ID(fmt.Append(nil, i))
		check(t, s.Create(t.Context(), ids[i], queue.Limits{MaxBytes: held, MaxAge: 24 * time.Hour}))
	}
	batch := func() {
		t.Helper()
		var as []queue.Append
		for range held / steps / entry {
			for _, id := range ids {
				e := make([]byte, entry) // sealed entries do not compress
				_, _ = rand.Read(e)
				as = append(as, queue.Append{Queue: id, Entry: e, Dedup: e[:16]})
			}
		}
		rs, err := s.AppendBatch(t.Context(), as)
		check(t, err)
		for _, r := range rs {
			check(t, r.Err)
		}
	}
	most, sum := int64(0), int64(0)
	for i := range steps * rounds {
		batch()
		sum += queues * held / steps
		if i >= steps-1 { // then all are full
			var wg sync.WaitGroup // they share a sync
			for _, id := range ids {
				wg.Go(func() {
					if err := s.Ack(t.Context(), id, queue.Seq((i-steps+2)*held/steps/entry)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		if i%steps == 0 { // dedup keys go, too
			s.Advance(30 * time.Minute)
			check(t, s.Sweep())
		}
		most = max(most, onDisk(t, dir))
	}
	t.Logf("%d MiB sent through queues that hold %d KiB: at most %.1f MiB on disk, limit %.1f", sum>>20, queues*held>>10, float64(most)/(1<<20), float64(limit)/(1<<20))
	if most > limit {
		t.Errorf("%d bytes on disk, want at most %d", most, limit)
	}
	for _, id := range ids {
		check(t, s.Ack(t.Context(), id, 1<<40))
	}
	s.Advance(3 * time.Hour)
	check(t, s.Sweep())
	if n := s.settle(t, empty); n > empty {
		t.Errorf("%d bytes on disk after the last acknowledgement, want at most %d", n, empty)
	}
	for range steps {
		batch()
	}
	s.Advance(49 * time.Hour)
	check(t, s.Sweep())
	if n := s.settle(t, empty); n > empty {
		t.Errorf("%d bytes on disk after everything expired, want at most %d", n, empty)
	}
	s.wantKeys(t, "after everything expired", map[string]int{"s": queues})
}
