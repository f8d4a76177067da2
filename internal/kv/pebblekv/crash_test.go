package pebblekv_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/pebblekv"
)

type quiet struct{ pebble.Logger }

func (quiet) Infof(string, ...any) {}

func openFS(tb testing.TB, fs vfs.FS) (*pebblekv.Store, func()) {
	tb.Helper()
	db, err := pebble.Open("", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{pebble.DefaultLogger}})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := pebblekv.New(db, prefix)
	if err != nil {
		tb.Fatal(err)
	}
	return s, func() {
		if err := errors.Join(s.Close(), db.Close()); err != nil {
			tb.Error(err)
		}
	}
}

// TestCrash takes the disk as a power failure would leave it, with nothing that
// was not synced, again and again while transactions count two records up
// together. Neither what a writer was told nor what a reader saw may be taken
// back, and no half of a transaction may be there.
func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, stop := openFS(t, fs)
	defer stop()
	var written, seen atomic.Uint64
	quit := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(quit)
	a, b := kv.Key{Group: "g", Name: "a"}, kv.Key{Group: "g", Name: "b"}
	wg.Go(func() {
		for n := uint64(1); ; n++ {
			select {
			case <-quit:
				return
			default:
			}
			v := binary.BigEndian.AppendUint64(nil, n)
			if _, err := s.Apply(t.Context(), []kv.Op{{Key: a, Value: v}, {Key: b, Value: v, TTL: time.Hour}}); err != nil {
				t.Errorf("Apply: %v", err)
				return
			}
			written.Store(n)
		}
	})
	wg.Go(func() {
		for {
			select {
			case <-quit:
				return
			default:
			}
			if r, err := s.Get(t.Context(), a); err == nil {
				seen.Store(binary.BigEndian.Uint64(r.Value))
			} else if !errors.Is(err, kv.ErrNotFound) {
				t.Errorf("Get: %v", err)
				return
			}
		}
	})
	for range 20 {
		time.Sleep(10 * time.Millisecond)
		w, r := written.Load(), seen.Load()
		n, stop := openFS(t, fs.CrashClone(vfs.CrashCloneCfg{}))
		rs, err := n.GetMany(t.Context(), "g", []string{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		if string(rs[0].Value) != string(rs[1].Value) {
			t.Fatalf("half of a transaction: %x, %x", rs[0].Value, rs[1].Value)
		}
		got := uint64(0)
		if rs[0].Version != 0 {
			got = binary.BigEndian.Uint64(rs[0].Value)
		}
		if got < w || got < r {
			t.Fatalf("%d after the crash; %d was written and %d was read", got, w, r)
		}
		v, err := kv.Put(t.Context(), n, a, rs[0].Version, []byte("x"), 0)
		if err != nil || v == rs[0].Version {
			t.Fatalf("Put after the crash = %d, %v", v, err)
		}
		stop()
	}
}
