package queuetest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// broken is a store with one fault that a history must show.
type broken struct {
	*queue.Memory
	fault string
	mu    sync.Mutex
	stale []queue.Entry
}

var errLost = errors.New("the answer is lost")

func (b *broken) AppendBatch(ctx context.Context, batch []queue.Append) ([]queue.Result, error) {
	switch b.fault {
	case "lost append":
		if string(batch[0].Entry) == "2" {
			return []queue.Result{{Seq: 2}}, nil
		}
	case "repeated append":
		if _, err := b.Memory.AppendBatch(ctx, []queue.Append{{Queue: batch[0].Queue, Entry: batch[0].Entry}}); err != nil {
			return nil, err
		}
	case "false duplicate":
		if string(batch[0].Entry) == "2" {
			return []queue.Result{{Seq: 1, Duplicate: true}}, nil
		}
	case "unknown, applied", "unknown, not applied":
		if string(batch[0].Entry) == "2" {
			if b.fault == "unknown, applied" {
				_, _ = b.Memory.AppendBatch(ctx, batch)
			}
			return nil, errLost
		}
	}
	return b.Memory.AppendBatch(ctx, batch)
}

func (b *broken) Read(ctx context.Context, id queue.ID, after queue.Seq, max int) ([]queue.Entry, error) {
	es, err := b.Memory.Read(ctx, id, after, max)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault == "stale read" {
		es, b.stale = b.stale, es
	}
	return es, err
}

func (b *broken) Ack(ctx context.Context, id queue.ID, upTo queue.Seq) error {
	if b.fault == "lost ack" {
		return nil
	}
	return b.Memory.Ack(ctx, id, upTo)
}

// TestHistoryFinds asserts that a history of a faulty store has no order, and that
// one with open outcomes has; also where answers tell less.
func TestHistoryFinds(t *testing.T) {
	t.Run("told", func(t *testing.T) { historyFinds(t, false) })
	t.Run("untold", func(t *testing.T) { historyFinds(t, true) })
}

func historyFinds(t *testing.T, untold bool) {
	t.Helper()
	for fault, want := range map[string]porcupine.CheckResult{
		"":                     porcupine.Ok,
		"unknown, applied":     porcupine.Ok,
		"unknown, not applied": porcupine.Ok,
		"lost append":          porcupine.Illegal,
		"repeated append":      porcupine.Illegal,
		"false duplicate":      porcupine.Illegal,
		"stale read":           porcupine.Illegal,
		"lost ack":             porcupine.Illegal,
	} {
		t.Run(fault, func(t *testing.T) {
			b := &broken{Memory: queue.NewMemory(), fault: fault}
			h := &queuetest.History{Untold: untold}
			s := h.Client(b)
			if err := b.Create(t.Context(), "q", queue.Limits{}); err != nil {
				t.Fatal(err)
			}
			for _, e := range []string{"1", "2", "3"} {
				_, _ = queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte(e), Dedup: []byte(e)}) // recorded
			}
			_, _ = s.Read(t.Context(), "q", 0, 10)
			_ = s.Ack(t.Context(), "q", 1)
			_, _ = s.Read(t.Context(), "q", 0, 10)
			if got := h.Linearizable(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}
