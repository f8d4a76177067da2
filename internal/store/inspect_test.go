package store_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// boxes is an Inspector for records "box"/ID, each the owner of the queue ID and of
// records of the group "of "+ID.
type boxes struct {
	touch func(s *store.Stores, k kv.Key)
}

func (b boxes) owned(ctx context.Context, s *store.Stores, id string) (bool, error) {
	_, err := s.KV.Get(ctx, kv.Key{Group: "box", Name: id})
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (b boxes) Record(ctx context.Context, s *store.Stores, r kv.Record) (store.Finding, error) {
	id, ok := strings.CutPrefix(r.Key.Group, "of ")
	if !ok {
		f := store.Finding{Kind: "box"}
		if len(r.Value) != 1 {
			f.Fault = "does not decode"
		}
		return f, nil
	}
	owned, err := b.owned(ctx, s, id)
	if b.touch != nil && !owned {
		b.touch(s, r.Key)
	}
	return store.Finding{Kind: "part of a box", Orphan: !owned}, err
}

func (b boxes) Queue(ctx context.Context, s *store.Stores, id queue.ID) (store.Finding, error) {
	owned, err := b.owned(ctx, s, string(id))
	return store.Finding{Kind: "queue", Orphan: !owned}, err
}

// TestInspector asserts that an Inspector sees every record and queue of a store
// that OpenAll found, that its orphans are counted and, when asked for, deleted,
// and that a record which was written after it was looked at stays.
func TestInspector(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	for _, url := range []string{"pebble:" + t.TempDir(), server.URL() + "?prefix=x:"} {
		name, _, _ := strings.Cut(url, ":")
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if _, err := store.OpenAll(ctx, url); err == nil {
				t.Error("a store was found where none is")
			}
			s := open(t, url, "queues")
			for _, id := range []string{"kept", "gone", "raced"} {
				for _, k := range []kv.Key{{Group: "box", Name: id}, {Group: "of " + id, Name: "a"}, {Group: "of " + id, Name: "b"}} {
					_, err := kv.Put(ctx, s.KV, k, 0, []byte("x"), 0)
					mustDo(t, err)
				}
				mustDo(t, s.Queue.Create(ctx, queue.ID(id), queue.Limits{}))
			}
			mustDo(t, kv.Delete(ctx, s.KV, kv.Key{Group: "box", Name: "gone"}))
			mustDo(t, kv.Delete(ctx, s.KV, kv.Key{Group: "box", Name: "raced"}))
			_, err := kv.Put(ctx, s.KV, kv.Key{Group: "box", Name: "damaged"}, 0, []byte("xyz"), 0)
			mustDo(t, err)
			mustDo(t, s.Close())

			set, err := store.OpenAll(ctx, url)
			mustDo(t, err)
			defer set.Close()
			if kinds := slices.Sorted(maps.Keys(set)); !cmp.Equal(kinds, []string{"queues"}) {
				t.Fatalf("kinds %v", kinds)
			}
			mustDo(t, set["queues"].Freeze(ctx)) // the mark is nobody's orphan
			r, err := set["queues"].Audit(ctx, boxes{}, false)
			mustDo(t, err)
			wantOrphans := map[string]int{"part of a box without an owner": 4, "queue without an owner": 2}
			if d := cmp.Diff(wantOrphans, r.Orphans); d != "" || r.Deleted != 0 {
				t.Errorf("orphans (-want +got):\n%s%d deleted", d, r.Deleted)
			}
			if d := cmp.Diff(map[string]int{"box: does not decode": 1}, r.Faults); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
			raced := boxes{touch: func(s *store.Stores, k kv.Key) {
				if k.Group == "of raced" && k.Name == "a" {
					_, err := s.KV.Apply(ctx, []kv.Op{{Key: k, Value: []byte("new")}})
					mustDo(t, err)
				}
			}}
			if _, err = set["queues"].Audit(ctx, raced, true); err != nil {
				t.Fatal(err)
			}
			var left []string
			for g, err := range set["queues"].KV.Groups(ctx, "") {
				mustDo(t, err)
				for r, err := range set["queues"].KV.Scan(ctx, g, "") {
					mustDo(t, err)
					left = append(left, r.Key.Group+"/"+r.Key.Name)
				}
			}
			slices.Sort(left)
			if d := cmp.Diff([]string{"box/damaged", "box/kept", "of kept/a", "of kept/b", "of raced/a", "store/restored"}, left); d != "" {
				t.Errorf("left (-want +got):\n%s", d)
			}
			if _, err := set["queues"].Queue.Stat(ctx, "kept"); err != nil {
				t.Error(err)
			}
			for _, id := range []queue.ID{"gone", "raced"} {
				if _, err := set["queues"].Queue.Stat(ctx, id); !errors.Is(err, queue.ErrNotFound) {
					t.Errorf("queue %s: %v", id, err)
				}
			}
		})
	}
}
