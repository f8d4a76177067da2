package kvtest

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest/history"
)

// History is what concurrent clients of records asked and were answered, and when.
// Check says whether it could have come about one call after another, each at some
// moment between its beginning and its end. A call that failed without a
// documented error may have been carried out, at any moment after its beginning,
// or not.
//
// There must be no records at first, and none may expire meanwhile. Get, GetMany
// and Apply are recorded, and with Apply what is made of it: Put, Once, Acquire.
type History struct {
	calls history.Calls[call, answer]
}

// Client returns s for one client of the history, whose calls are recorded.
func (h *History) Client(s kv.Store) kv.Store {
	return &recorded{s, h, h.calls.Client()}
}

// call is what is asked of one group: names to get, or writes.
type call struct {
	group string
	names []string
	ops   []kv.Op
}

// answer is what came of it.
type answer struct {
	unknown, conflict bool
	records           []kv.Record
	versions          []kv.Version
}

func (h *History) add(client int, begin int64, c call, a answer) {
	if a.unknown && c.ops == nil {
		return // it says nothing
	}
	h.calls.Add(client, begin, c, a, a.unknown)
}

type recorded struct {
	kv.Store
	h      *History
	client int
}

func (r *recorded) Get(ctx context.Context, k kv.Key) (kv.Record, error) {
	begin := r.h.calls.Now()
	rec, err := r.Store.Get(ctx, k)
	r.h.add(r.client, begin, call{group: k.Group, names: []string{k.Name}}, answer{unknown: err != nil && !errors.Is(err, kv.ErrNotFound), records: []kv.Record{rec}})
	return rec, err
}

func (r *recorded) GetMany(ctx context.Context, group string, names []string) ([]kv.Record, error) {
	begin := r.h.calls.Now()
	rs, err := r.Store.GetMany(ctx, group, names)
	r.h.add(r.client, begin, call{group: group, names: names}, answer{unknown: err != nil, records: rs})
	return rs, err
}

func (r *recorded) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	if len(ops) == 0 {
		return r.Store.Apply(ctx, ops)
	}
	begin := r.h.calls.Now()
	vs, err := r.Store.Apply(ctx, ops)
	conflict := errors.Is(err, kv.ErrConflict)
	r.h.add(r.client, begin, call{group: ops[0].Key.Group, ops: ops}, answer{unknown: err != nil && !conflict, conflict: conflict, versions: vs})
	return vs, err
}

// register is one record of the model. Its version is 0 if nobody was told yet:
// that of a write with an unknown outcome.
type register struct {
	value   string
	version kv.Version
}

// group is the state of the model: the records of a group.
type group map[string]register

// step returns the states in which a group may be after a call with that answer;
// none if it cannot have been answered so.
func (g group) step(c call, a answer) []group {
	if c.ops == nil {
		return g.get(c.names, a.records)
	}
	matches, surely := g.check(c.ops)
	if a.conflict {
		if surely {
			return nil
		}
		return []group{g}
	}
	if !matches {
		if a.unknown {
			return []group{g}
		}
		return nil
	}
	if !a.unknown && len(a.versions) != len(c.ops) {
		return nil
	}
	next := maps.Clone(g)
	for i, op := range c.ops {
		switch {
		case op.Value == nil:
			delete(next, op.Key.Name)
		case a.unknown:
			next[op.Key.Name] = register{value: string(op.Value)}
		default:
			next[op.Key.Name] = register{string(op.Value), a.versions[i]}
		}
	}
	if a.unknown {
		return []group{g, next}
	}
	return []group{next}
}

func (g group) get(names []string, rs []kv.Record) []group {
	next := g
	for i, n := range names {
		have, ok := next[n]
		switch r := rs[i]; {
		case ok != (r.Version != 0):
			return nil
		case !ok:
		case have.value != string(r.Value) || have.version != 0 && have.version != r.Version:
			return nil
		case have.version == 0: // now it is known
			next = maps.Clone(next)
			next[n] = register{have.value, r.Version}
		}
	}
	return []group{next}
}

// check reports whether the checks of a transaction can hold, and whether they must.
func (g group) check(ops []kv.Op) (can, must bool) {
	can, must = true, true
	for _, op := range ops {
		if !op.Check {
			continue
		}
		have, ok := g[op.Key.Name]
		switch {
		case ok && have.version == 0 && op.Old != 0:
			must = false
		case ok != (op.Old != 0) || ok && have.version != op.Old:
			return false, false
		}
	}
	return can, must
}

// meaning is what the calls mean.
func meaning() history.Model[call, answer, group] {
	return history.Model[call, answer, group]{
		Object: func(c call) string { return c.group },
		Init:   group{},
		Step:   group.step,
		Equal:  maps.Equal[group, group],
	}
}

// Ops is how many calls were recorded, and how many of them have an unknown outcome.
func (h *History) Ops() (all, unknown int) { return h.calls.Count() }

// Linearizable reports whether the history can be put in order.
func (h *History) Linearizable() porcupine.CheckResult {
	return history.Linearizable(&h.calls, meaning())
}

// Check asserts that the history can be put in order.
func (h *History) Check(t *testing.T) {
	t.Helper()
	history.Check(t, &h.calls, meaning())
}
