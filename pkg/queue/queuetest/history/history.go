// Package history records what concurrent clients of a store asked and were
// answered, and when, and asks porcupine whether it could have come about one call
// after another, each at some moment between its beginning and its end. What the
// calls are and what they mean is the model's: see queuetest and kvtest.
package history

import (
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkTime bounds the search for an order, which can take for ever.
const checkTime = time.Minute

// Calls are calls of type C with answers of type A. It is ready for use.
type Calls[C, A any] struct {
	mu      sync.Mutex // guards all below
	start   time.Time
	clients int
	ops     []porcupine.Operation
}

// Client returns the number of a new client.
func (h *Calls[C, A]) Client() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.start.IsZero() {
		h.start = time.Now()
	}
	h.clients++
	return h.clients - 1
}

// Now is the time to give to Add as the beginning of a call of some client.
func (h *Calls[C, A]) Now() int64 { return int64(time.Since(h.start)) }

// Add records a call that ends now. One with an unknown outcome may have been
// carried out, at any moment after its beginning, or not.
func (h *Calls[C, A]) Add(client int, begin int64, c C, a A, unknown bool) {
	end := h.Now()
	if unknown {
		end = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: c, Call: begin, Output: a, Return: end})
}

// Count is how many calls were recorded, and how many of them have an unknown outcome.
func (h *Calls[C, A]) Count() (all, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.ops {
		if o.Return == math.MaxInt64 {
			unknown++
		}
	}
	return len(h.ops), unknown
}

// Model says what calls do to objects that have nothing to do with each other, in
// states of type S.
type Model[C, A, S any] struct {
	// Object names the object of a call.
	Object func(C) string
	// Init is its state at first.
	Init S
	// Step returns the states in which it may be after a call with that answer; none
	// if it cannot have been answered so.
	Step func(S, C, A) []S
	// Equal reports whether two states are the same.
	Equal func(a, b S) bool
}

// Linearizable reports whether the calls can be put in order.
func Linearizable[C, A, S any](h *Calls[C, A], m Model[C, A, S]) porcupine.CheckResult {
	h.mu.Lock()
	defer h.mu.Unlock()
	nm := porcupine.NondeterministicModel{
		Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
			by := make(map[string][]porcupine.Operation)
			for _, o := range ops {
				k := m.Object(o.Input.(C))
				by[k] = append(by[k], o)
			}
			return slices.Collect(maps.Values(by))
		},
		Init: func() []any { return []any{m.Init} },
		Step: func(state, input, output any) (next []any) {
			for _, s := range m.Step(state.(S), input.(C), output.(A)) {
				next = append(next, s)
			}
			return next
		},
		Equal: func(a, b any) bool { return m.Equal(a.(S), b.(S)) },
	}
	return porcupine.CheckOperationsTimeout(nm.ToModel(), h.ops, checkTime)
}

// Check asserts that the calls can be put in order.
func Check[C, A, S any](t *testing.T, h *Calls[C, A], m Model[C, A, S]) {
	t.Helper()
	all, unknown := h.Count()
	if r := Linearizable(h, m); r != porcupine.Ok {
		t.Errorf("a history of %d calls, %d with unknown outcome, has no order: %s", all, unknown, r)
	}
}
