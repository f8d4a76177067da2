package pebblequeue_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/pebblequeue"
)

// slowDisk takes its time to sync, so that there is one in which calls must wait.
type slowDisk struct{ vfs.FS }

func (d slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return slowFile{f}, err
}

func (d slowDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return slowFile{f}, err
}

type slowFile struct{ vfs.File }

func (f slowFile) Sync() error {
	time.Sleep(2 * time.Millisecond)
	return f.File.Sync()
}

func (f slowFile) SyncData() error {
	time.Sleep(2 * time.Millisecond)
	return f.File.SyncData()
}

func openFS(tb testing.TB, fs vfs.FS) (*pebblequeue.Store, func()) {
	tb.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: silent{pebble.DefaultLogger}})
	if err != nil {
		tb.Fatal(err)
	}
	s := pebblequeue.New(db, prefix)
	return s, func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	}
}

// ledger is what callers were told, which no crash may take back.
type ledger struct {
	mu       sync.Mutex // guards all below
	appended map[string]queue.Seq
	read     map[queue.Seq]string
	acked    queue.Seq
}

func (l *ledger) snapshot() (appended map[string]queue.Seq, read map[queue.Seq]string, acked queue.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	appended, read = map[string]queue.Seq{}, map[queue.Seq]string{}
	maps.Copy(appended, l.appended)
	maps.Copy(read, l.read)
	return appended, read, l.acked
}

// TestCrash takes the disk as a power failure would leave it, with nothing that
// was not synced, again and again while writers append and a reader reads and
// acknowledges. What was answered before that moment must be on it: appended
// entries with their numbers, nothing read that is not there, acknowledgements.
func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, stop := openFS(t, slowDisk{fs})
	defer stop()
	if err := s.Create(t.Context(), "q", queue.Limits{MaxEntries: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	l := &ledger{appended: map[string]queue.Seq{}, read: map[queue.Seq]string{}}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(quit)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				name := fmt.Sprintf("%d %d", w/2, i) // two writers race to it: one is a duplicate
				r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte(name), Dedup: []byte(name)})
				if err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				l.mu.Lock()
				l.appended[name] = r.Seq
				l.mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		last := queue.Seq(0)
		for {
			select {
			case <-quit:
				return
			default:
			}
			es, err := s.Read(t.Context(), "q", last, 10)
			if err != nil {
				t.Errorf("Read: %v", err)
				return
			}
			for _, e := range es {
				last = e.Seq
				l.mu.Lock()
				l.read[e.Seq] = string(e.Data)
				l.mu.Unlock()
			}
			if len(es) == 10 && last > 30 {
				if err := s.Ack(t.Context(), "q", last-20); err != nil {
					t.Errorf("Ack: %v", err)
					return
				}
				l.mu.Lock()
				l.acked = last - 20
				l.mu.Unlock()
			}
		}
	})
	for range 20 {
		time.Sleep(10 * time.Millisecond)
		appended, read, acked := l.snapshot()
		disk := fs.CrashClone(vfs.CrashCloneCfg{})
		checkCrashed(t, disk, appended, read, acked)
	}
}

func checkCrashed(t *testing.T, disk vfs.FS, appended map[string]queue.Seq, read map[queue.Seq]string, acked queue.Seq) {
	t.Helper()
	s, stop := openFS(t, disk)
	defer stop()
	st, err := s.Stat(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	if st.Acked < acked {
		t.Errorf("acknowledged up to %d after the crash, want %d at least", st.Acked, acked)
	}
	if st.Entries != int(st.Last-st.Acked) {
		t.Errorf("Stat = %+v", st)
	}
	there := map[queue.Seq]string{}
	for after := queue.Seq(0); ; {
		es, err := s.Read(t.Context(), "q", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			there[e.Seq] = string(e.Data)
			after = e.Seq
		}
	}
	if len(there) != st.Entries {
		t.Errorf("%d entries, Stat says %d", len(there), st.Entries)
	}
	for name, seq := range appended {
		if seq > st.Acked && there[seq] != name {
			t.Fatalf("entry %d is %q after the crash, want %q", seq, there[seq], name)
		}
		r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("again"), Dedup: []byte(name)})
		if err != nil || !r.Duplicate || r.Seq != seq {
			t.Fatalf("repeated append after the crash = %+v, %v, want a duplicate of %d", r, err, seq)
		}
	}
	for seq, name := range read {
		if seq > st.Acked && there[seq] != name {
			t.Fatalf("entry %d was read as %q and is %q after the crash", seq, name, there[seq])
		}
	}
}
