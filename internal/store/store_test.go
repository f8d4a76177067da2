package store_test

import (
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// write puts a record and an entry into new stores.
func write(t *testing.T, s *store.Stores) {
	t.Helper()
	ctx := t.Context()
	if _, err := kv.Put(ctx, s.KV, kv.Key{Group: "g", Name: "n"}, 0, []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Queue.Create(ctx, "q", queue.Limits{}); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.AppendOne(ctx, s.Queue, queue.Append{Queue: "q", Entry: []byte("entry")}); err != nil {
		t.Fatal(err)
	}
}

// check asserts that what write wrote is there.
func check(t *testing.T, s *store.Stores) {
	t.Helper()
	r, err := s.KV.Get(t.Context(), kv.Key{Group: "g", Name: "n"})
	if err != nil || string(r.Value) != "value" {
		t.Errorf("Get = %q, %v", r.Value, err)
	}
	es, err := s.Queue.Read(t.Context(), "q", 0, 10)
	if err != nil || len(es) != 1 || string(es[0].Data) != "entry" || es[0].Seq != 1 {
		t.Errorf("Read = %v, %v", es, err)
	}
}

func open(t *testing.T, url, kind string) *store.Stores {
	t.Helper()
	s, err := store.Open(t.Context(), url, kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestOpenMemory(t *testing.T) {
	s := open(t, "memory:", "hub")
	write(t, s)
	check(t, s)
}

func TestOpenPebbleReopens(t *testing.T) {
	url := "pebble:" + t.TempDir()
	s, err := store.Open(t.Context(), url, "hub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, open(t, url, "hub"))
}

func TestOpenKindsAreApart(t *testing.T) {
	url := "pebble:" + t.TempDir()
	write(t, open(t, url, "accounts"))
	write(t, open(t, url, "queues"))
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"", "memory", "memory:x", "pebble:", "file:/x", "nonsense"} {
		if s, err := store.Open(t.Context(), url, "hub"); !errors.Is(err, store.ErrURL) {
			t.Errorf("Open(%q) = %v, %v, want ErrURL", url, s, err)
		}
	}
}
