package kvtest

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// race calls f n times at once, through as many stores as there can be, and
// counts how often it was true.
func race(t *testing.T, s kv.Store, n int, f func(s kv.Store, i int) bool) int {
	t.Helper()
	stores := []kv.Store{s}
	if p, ok := s.(Peers); ok {
		stores = append(stores, p.Peer(t))
	}
	var yes atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if f(stores[i%len(stores)], i) {
				yes.Add(1)
			}
		})
	}
	wg.Wait()
	return int(yes.Load())
}

// Concurrent: no increment of a counter is lost, and each is counted once.
func Concurrent(t *testing.T, open Open) {
	s := open(t)
	k := key("g", "counter")
	const workers, each = 8, 25
	race(t, s, workers, func(s kv.Store, _ int) bool {
		for done := 0; done < each; {
			r, err := s.Get(t.Context(), k)
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				t.Error(err)
				return false
			}
			n := uint64(0)
			if r.Version != 0 {
				n = binary.BigEndian.Uint64(r.Value)
			}
			_, err = kv.Put(t.Context(), s, k, r.Version, binary.BigEndian.AppendUint64(nil, n+1), 0)
			switch {
			case err == nil:
				done++
			case !errors.Is(err, kv.ErrConflict):
				t.Error(err)
				return false
			}
		}
		return true
	})
	r, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "counter", binary.BigEndian.Uint64(r.Value), uint64(workers*each))
}

// OneMoment: GetMany never sees half a transaction.
func OneMoment(t *testing.T, open Open) {
	s := open(t)
	names := []string{"a", "b", "c"}
	var stop atomic.Bool
	race(t, s, 4, func(s kv.Store, i int) bool {
		if i == 0 {
			defer stop.Store(true)
			for n := range 100 {
				ops := make([]kv.Op, len(names))
				for j := range ops {
					ops[j] = kv.Op{Key: key("g", names[j]), Value: []byte{byte(n)}}
				}
				if n%10 == 9 {
					for j := range ops {
						ops[j].Value = nil
					}
				}
				if _, err := s.Apply(t.Context(), ops); err != nil {
					t.Error(err)
				}
			}
			return true
		}
		for !stop.Load() {
			rs, err := s.GetMany(t.Context(), "g", names)
			if err != nil {
				t.Error(err)
				return false
			}
			for _, r := range rs[1:] {
				if string(r.Value) != string(rs[0].Value) {
					t.Errorf("records of two transactions: %v", rs)
					return false
				}
			}
		}
		return true
	})
}

// Cancel: a cancelled context ends every call, and nothing is written.
func Cancel(t *testing.T, open Open) {
	s := open(t)
	set(t, s, key("g", "a"), "1", 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range calls(ctx, s) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", what, err)
		}
	}
	equal(t, "records", names(t, s, "g", ""), []string{"a"})

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	set(t, s, key("g", "b"), "2", 0)
	var last error
	for _, err := range s.Scan(ctx, "g", "") {
		cancel()
		last = err
	}
	if last != nil && !errors.Is(last, context.Canceled) {
		t.Errorf("Scan cancelled meanwhile: %v", last)
	}
}

// AfterClose: every method fails with ErrClosed, and Close may be repeated.
func AfterClose(t *testing.T, open Open) {
	s := open(t)
	set(t, s, key("g", "a"), "1", 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range calls(t.Context(), s) {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// calls makes a call of every method and returns the errors.
func calls(ctx context.Context, s kv.Store) map[string]error {
	errs := make(map[string]error)
	_, errs["Get"] = s.Get(ctx, key("g", "a"))
	_, errs["GetMany"] = s.GetMany(ctx, "g", []string{"a"})
	_, errs["Apply"] = s.Apply(ctx, []kv.Op{{Key: key("g", "new"), Value: []byte("x")}})
	errs["Scan"], errs["Groups"] = nil, nil
	for _, err := range s.Scan(ctx, "g", "") {
		errs["Scan"] = err
	}
	for _, err := range s.Groups(ctx, "") {
		errs["Groups"] = err
	}
	return errs
}

// Reopen: what a call returned is there after the store was closed and opened.
func Reopen(t *testing.T, open Open) {
	s, ok := open(t).(Reopener)
	if !ok {
		t.Skip("the store does not outlive its process")
	}
	v := set(t, s, key("g", "a"), "1", 0)
	set(t, s, key("g", "b"), "2", time.Hour)
	set(t, s, key("g", "c"), "3", 0)
	if err := kv.Delete(t.Context(), s, key("g", "c")); err != nil {
		t.Fatal(err)
	}
	n := s.Reopen(t)
	if r := want(t, n, key("g", "a"), "1"); r.Version != v {
		t.Errorf("version %d after reopening, was %d", r.Version, v)
	}
	equal(t, "records", names(t, n, "g", ""), []string{"a", "b"})
	v2, err := kv.Put(t.Context(), n, key("g", "a"), v, []byte("2"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if v2 == v {
		t.Error("a version was used twice")
	}
}

// Share: processes see each other's records at once.
func Share(t *testing.T, open Open) {
	s, ok := open(t).(Peers)
	if !ok {
		t.Skip("one process only")
	}
	p := s.Peer(t)
	v := set(t, s, key("g", "a"), "1", 0)
	if r := want(t, p, key("g", "a"), "1"); r.Version != v {
		t.Errorf("versions differ: %d, %d", r.Version, v)
	}
	if _, err := kv.Put(t.Context(), p, key("g", "a"), v, []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), s, key("g", "a"), v, []byte("3"), 0); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("Put over another process's write: %v, want ErrConflict", err)
	}
	want(t, s, key("g", "a"), "2")
}
