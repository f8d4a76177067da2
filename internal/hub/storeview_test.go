package hub_test

import (
	"context"
	"time"

	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

func (w *world) sentTo(domain string, n int) []hub.Row {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		var rows []hub.Row
		for _, e := range w.entries(domain) {
			r, ok := hub.ParseRow(e.Data)
			if !ok {
				w.t.Fatal("an outbox entry is no row")
			}
			rows = append(rows, r)
		}
		if len(rows) >= n || time.Now().After(deadline) {
			if len(rows) != n {
				w.t.Fatalf("%d rows for %s, want %d", len(rows), domain, n)
			}
			return rows
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled waits until no rows are pending in the store.
func (w *world) settled(groupID []byte) {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for len(w.records(hub.RoomGroup(groupID), hub.PrefixPending)) > 0 {
		if time.Now().After(deadline) {
			w.t.Fatal("rows stay pending")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) records(group, prefix string) []kv.Record {
	w.t.Helper()
	var out []kv.Record
	for r, err := range w.store.Scan(context.Background(), group, prefix) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// dump returns all records of the rooms: what a refused request must not change.
func (w *world) dump() map[kv.Key]string {
	w.t.Helper()
	out := make(map[kv.Key]string)
	for _, r := range w.records("dirty", "") {
		w.settled([]byte(r.Key.Name))
	}
	for g, err := range w.store.Groups(context.Background(), "") {
		if err != nil {
			w.t.Fatal(err)
		}
		if g == "lease" {
			continue
		}
		for _, r := range w.records(g, "") {
			out[r.Key] = string(r.Value)
		}
	}
	return out
}

// withoutSweeps restarts the hub while somebody else holds the lease of sweeps:
// they run when the test says so.
func (w *world) withoutSweeps() {
	w.t.Helper()
	w.h.Close()
	if _, err := kv.Acquire(context.Background(), w.store, kv.Key{Group: "lease", Name: "sweep"}, "the test", time.Now(), time.Hour); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

// restartWith starts a hub on another view of the outboxes.
func (w *world) restartWith(q queue.Store) {
	w.t.Helper()
	w.box = q
	w.start()
}

// unchanged compares the store with an earlier dump.
func (w *world) unchanged(before map[kv.Key]string) {
	w.t.Helper()
	after := w.dump()
	for k, v := range after {
		if old, ok := before[k]; !ok || old != v {
			w.t.Errorf("record %q of group %x was written", k.Name, k.Group)
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			w.t.Errorf("record %q of group %x was deleted", k.Name, k.Group)
		}
	}
}
