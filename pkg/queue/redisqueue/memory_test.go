package redisqueue_test

import (
	"crypto/rand"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/redisqueue"
)

// usedMemory is what keys take: not the buffers of clients, not the scripts.
func usedMemory(tb testing.TB, c redis.UniversalClient) int64 {
	tb.Helper()
	v, err := c.Do(tb.Context(), "MEMORY", "STATS").Result()
	if err != nil {
		tb.Fatal(err)
	}
	n := int64(0)
	add := func(v any) {
		if x, ok := v.(int64); ok {
			n += x
		}
	}
	m, ok := v.(map[any]any)
	if !ok {
		tb.Fatalf("MEMORY STATS gives %T", v)
	}
	add(m["dataset.bytes"])
	if db, ok := m["db.0"].(map[any]any); ok {
		add(db["overhead.hashtable.main"])
		add(db["overhead.hashtable.expires"])
	}
	return n
}

// TestMemory asserts what a mailbox costs beyond its payload, dedup state
// included, for envelopes of 512 bytes. The list alone, without anything of
// ours, takes 338 bytes for one envelope, and 121 and 45 for each of 10 and 100:
// the allocator rounds a list of ten up to 6 KiB.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("12,000 mailboxes")
	}
	s := open(t, redistest.Options{}, redisqueue.Options{})
	const boxes, payload = 12_000, 512
	ids := make([]queue.ID, boxes)
	before := usedMemory(t, s.client)
	for i := range ids {
		ids[i] = queue.ID(random(16))
		if err := s.Create(t.Context(), ids[i], queue.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(ids []queue.ID, n int) {
		for range n {
			var batch []queue.Append
			for _, id := range ids {
				batch = append(batch, queue.Append{Queue: id, Entry: random(payload), Dedup: random(16)})
			}
			if _, err := s.AppendBatch(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
	}
	per := func(n int) int64 { return (usedMemory(t, s.client) - before) / int64(n) }
	report := func(what string, got, limit int64) {
		t.Helper()
		t.Logf("%s: %d bytes beyond payload", what, got)
		if got > limit {
			t.Errorf("%s: %d bytes beyond payload, want at most %d", what, got, limit)
		}
	}
	report("a new mailbox", per(boxes), 250)
	fill(ids, 1)
	report("a mailbox with one envelope", per(boxes)-payload, 500)
	for _, id := range ids {
		if err := s.Ack(t.Context(), id, 1); err != nil {
			t.Fatal(err)
		}
	}
	report("a drained mailbox that remembers one dedup key", per(boxes), 250)
	few := ids[:500]
	base := usedMemory(t, s.client)
	fill(few, 10)
	report("an envelope of ten", (usedMemory(t, s.client)-base)/int64(len(few)*10)-payload, 160)
	fill(few, 90)
	report("an envelope of a hundred", (usedMemory(t, s.client)-base)/int64(len(few)*100)-payload, 70)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
