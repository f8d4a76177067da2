// Package kvtest is the proof of the contract in package kv: every backend runs
// all of it.
//
//	func TestConformance(t *testing.T) {
//		t.Run("memory", func(t *testing.T) { kvtest.Run(t, open) })
//	}
//
// A store may implement the interfaces Clock, Reopener and Peers of this
// package to have more of itself tested; the test wraps its store to do so.
package kvtest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// Open makes an empty store that ends with the test.
type Open func(tb testing.TB) kv.Store

// Clock is a store whose time the tests move. Without it they wait.
type Clock interface {
	kv.Store
	Advance(d time.Duration)
}

// Reopener is a store that survives being closed.
type Reopener interface {
	kv.Store
	// Reopen closes the store and opens what it left.
	Reopen(tb testing.TB) kv.Store
}

// Peers is a store that several processes can have open.
type Peers interface {
	kv.Store
	// Peer opens the same records as another process would.
	Peer(tb testing.TB) kv.Store
}

// Run runs every theme against stores that open makes.
func Run(t *testing.T, open Open) {
	for _, x := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Records", Records},
		{"Binary", Binary},
		{"CAS", CAS},
		{"Atomic", Atomic},
		{"GetMany", GetMany},
		{"Scan", Scan},
		{"Groups", Groups},
		{"TTL", TTL},
		{"Once", Once},
		{"Lease", Lease},
		{"Limits", Limits},
		{"Concurrent", Concurrent},
		{"OneMoment", OneMoment},
		{"Cancel", Cancel},
		{"AfterClose", AfterClose},
		{"Reopen", Reopen},
		{"Peers", Share},
		{"Audit", Audit},
		{"Linearizable", Linearizable},
		{"Model", Model},
		{"Faults", Faults},
	} {
		t.Run(x.name, func(t *testing.T) { x.test(t, open) })
	}
}

func key(group, name string) kv.Key { return kv.Key{Group: group, Name: name} }

// set writes a record whatever its version.
func set(tb testing.TB, s kv.Store, k kv.Key, value string, ttl time.Duration) kv.Version {
	tb.Helper()
	vs, err := s.Apply(tb.Context(), []kv.Op{{Key: k, Value: []byte(value), TTL: ttl}})
	if err != nil {
		tb.Fatalf("Apply: %v", err)
	}
	if len(vs) != 1 || vs[0] == 0 {
		tb.Fatalf("Apply gives versions %v, want one that is not 0", vs)
	}
	return vs[0]
}

// want asserts that a record has a value.
func want(tb testing.TB, s kv.Store, k kv.Key, value string) kv.Record {
	tb.Helper()
	r, err := s.Get(tb.Context(), k)
	if err != nil {
		tb.Fatalf("Get: %v", err)
	}
	if string(r.Value) != value || r.Value == nil || r.Key != k || r.Version == 0 {
		tb.Fatalf("Get = %+v, want value %q", r, value)
	}
	return r
}

// absent asserts that there is no such record.
func absent(tb testing.TB, s kv.Store, k kv.Key) {
	tb.Helper()
	if r, err := s.Get(tb.Context(), k); !errors.Is(err, kv.ErrNotFound) {
		tb.Fatalf("Get = %+v, %v, want ErrNotFound", r, err)
	}
}

// names lists what Scan yields.
func names(tb testing.TB, s kv.Store, group, prefix string) []string {
	tb.Helper()
	ns := []string{}
	for r, err := range s.Scan(tb.Context(), group, prefix) {
		if err != nil {
			tb.Fatalf("Scan: %v", err)
		}
		if r.Version == 0 || r.Value == nil || r.Key.Group != group {
			tb.Fatalf("Scan yields %+v", r)
		}
		ns = append(ns, r.Key.Name)
	}
	return ns
}

// groups lists what Groups yields, each once.
func groups(tb testing.TB, s kv.Store, prefix string) map[string]bool {
	tb.Helper()
	gs := make(map[string]bool)
	for g, err := range s.Groups(tb.Context(), prefix) {
		if err != nil {
			tb.Fatalf("Groups: %v", err)
		}
		gs[g] = true
	}
	return gs
}

func equal(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if d := cmp.Diff(want, got); d != "" {
		tb.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// pass lets time go by.
func pass(s kv.Store, d time.Duration) {
	if c, ok := s.(Clock); ok {
		c.Advance(d)
		return
	}
	time.Sleep(d)
}
