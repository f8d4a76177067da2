package hub_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// TestInspector: a store with something of everything has no fault and no
// orphan; damaged rows are faults, and rows without a room are orphans.
func TestInspector(t *testing.T) {
	w := newWorld(t)
	alice, _ := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
	bob := alice.add("b.example")
	carol := alice.add("b.example")
	bob.process(carol.added.req.GetCommit())
	if _, err := carol.putSeals(1, w.moreSeals(2)); err != nil {
		t.Fatal(err)
	}
	alice.franked("x")
	if err := bob.leave(); err != nil {
		t.Fatal(err)
	}
	if err := w.h.ReportGone(context.Background(), w.sentTo("b.example", w.inOutbox("b.example"))[0].Lane, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := w.h.SweepIdle(context.Background(), time.Now()); err != nil {
		t.Fatal(err)
	}
	over := w.room()
	if err := over.leave(); err != nil {
		t.Fatal(err)
	}
	s := &store.Stores{KV: w.store, Queue: w.outbox}
	look := func() (faults, orphans []string, kinds map[string]int) {
		kinds = make(map[string]int)
		for g, err := range w.store.Groups(context.Background(), "") {
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range w.records(g, "") {
				f, err := hub.Inspector{}.Record(context.Background(), s, rec)
				if err != nil {
					t.Fatal(err)
				}
				kinds[f.Kind]++
				if f.Fault != "" {
					faults = append(faults, f.Kind+": "+f.Fault)
				}
				if f.Orphan {
					orphans = append(orphans, f.Kind)
				}
			}
		}
		return faults, orphans, kinds
	}
	faults, orphans, kinds := look()
	if len(faults)+len(orphans) > 0 {
		t.Errorf("faults %v, orphans %v", faults, orphans)
	}
	for _, k := range []string{"room", "sealed row", "first contact", "mark of a room", "index of first contacts", "stopped lane", "one-time addresses", "report that a lane is gone", "lease"} {
		if kinds[k] == 0 {
			t.Errorf("there is no %q: %v", k, kinds)
		}
	}
	for _, d := range []string{"a.example", "b.example"} {
		if f, err := (hub.Inspector{}).Queue(context.Background(), s, hub.OutboxID(d)); err != nil || f.Fault != "" || f.Orphan {
			t.Errorf("outbox: %+v, %v", f, err)
		}
	}
	// Damage and loss.
	group := hub.RoomGroup(alice.groupID())
	for i, name := range []string{"room", "w0123456789abcdef", "o1", "s1", "f1", "n1", "x"} {
		before, _, _ := look()
		rec, _ := w.store.Get(context.Background(), kv.Key{Group: group, Name: name})
		if _, err := w.store.Apply(context.Background(), []kv.Op{{Key: kv.Key{Group: group, Name: name}, Value: fmt.Appendf(nil, "damage %d", i)}}); err != nil {
			t.Fatal(err)
		}
		if after, _, _ := look(); len(after) != len(before)+1 {
			t.Errorf("%s: faults %v", name, after)
		}
		if _, err := w.store.Apply(context.Background(), []kv.Op{{Key: kv.Key{Group: group, Name: name}, Value: rec.Value}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Delete(context.Background(), w.store, kv.Key{Group: group, Name: "room"}); err != nil {
		t.Fatal(err)
	}
	if _, orphans, _ = look(); len(orphans) != len(w.records(group, "")) {
		t.Errorf("%d orphans, the room had %d rows", len(orphans), len(w.records(group, "")))
	}
}
