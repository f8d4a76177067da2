package kvtest_test

import (
	"context"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// broken is a store with one fault that a history must show.
type broken struct {
	*kv.Memory
	fault string
	calls int
}

func (b *broken) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	b.calls++
	if b.calls != 2 {
		return b.Memory.Apply(ctx, ops)
	}
	switch b.fault {
	case "lost write":
		return []kv.Version{99}, nil
	case "false conflict":
		return nil, kv.ErrConflict
	case "conflict, applied":
		_, _ = b.Memory.Apply(ctx, ops)
		return nil, kv.ErrConflict
	case "unknown, applied":
		_, _ = b.Memory.Apply(ctx, ops)
		return nil, queuetest.ErrFault
	case "unknown, not applied":
		return nil, queuetest.ErrFault
	case "half":
		ops = ops[:1]
		vs, err := b.Memory.Apply(ctx, ops)
		return append(vs, 77), err
	}
	return b.Memory.Apply(ctx, ops)
}

// TestHistoryFinds asserts that a history of a faulty store has no order, and that
// one with open outcomes has.
func TestHistoryFinds(t *testing.T) {
	for fault, want := range map[string]porcupine.CheckResult{
		"":                     porcupine.Ok,
		"unknown, applied":     porcupine.Ok,
		"unknown, not applied": porcupine.Ok,
		"lost write":           porcupine.Illegal,
		"false conflict":       porcupine.Illegal,
		"conflict, applied":    porcupine.Illegal,
		"half":                 porcupine.Illegal,
	} {
		t.Run(fault, func(t *testing.T) {
			h := new(kvtest.History)
			s := h.Client(&broken{Memory: kv.NewMemory(), fault: fault})
			a, b := kv.Key{Group: "g", Name: "a"}, kv.Key{Group: "g", Name: "b"}
			v, err := kv.Put(t.Context(), s, a, 0, []byte("1"), 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Apply(t.Context(), []kv.Op{{Key: a, Value: []byte("2"), Check: true, Old: v}, {Key: b, Value: []byte("2")}}) // recorded
			_, _ = s.GetMany(t.Context(), "g", []string{"a", "b"})
			_, _ = kv.Put(t.Context(), s, a, v, []byte("3"), 0)
			_, _ = s.Get(t.Context(), a)
			if got := h.Linearizable(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}
