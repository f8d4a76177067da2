package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// tap records which methods a gateway serves and the last requests that it
// answered: well-formed material for tests that break it.
type tap struct {
	mu      sync.Mutex // guards all below
	methods map[string]bool
	samples map[string][]seal.Request
	fault   map[string]func(accepted bool) bool // by method: whether to answer that the service is away
	edit    map[string]func(*seal.Request)      // by method: what a hostile client would have sent instead
}

func newTap() *tap {
	return &tap{methods: make(map[string]bool), samples: make(map[string][]seal.Request), fault: make(map[string]func(bool) bool), edit: make(map[string]func(*seal.Request))}
}

func (t *tap) wrap(method string, next gateway.Handler) gateway.Handler {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.methods[method] = true
	return func(ctx context.Context, c *gateway.Call) ([]byte, error) {
		if t.faulty(method, false) {
			return nil, errCrash
		}
		t.mu.Lock()
		edit := t.edit[method]
		t.mu.Unlock()
		if edit != nil {
			edit(c.Request)
		}
		out, err := next(ctx, c)
		if err == nil {
			r := *c.Request
			r.Body, r.GroupID, r.Token = slices.Clone(r.Body), slices.Clone(r.GroupID), slices.Clone(r.Token)
			t.mu.Lock()
			t.samples[method] = append(t.samples[method], r)
			t.mu.Unlock()
			if t.faulty(method, true) {
				return nil, errCrash
			}
		}
		return out, err
	}
}

func (t *tap) faulty(method string, accepted bool) bool {
	t.mu.Lock()
	f := t.fault[method]
	t.mu.Unlock()
	return f != nil && f(accepted)
}

// lose makes a method's answers get lost after it was done.
func (t *tap) lose(method string) { t.when(method, func(accepted bool) bool { return accepted }) }

// refuse makes a method be out of reach.
func (t *tap) refuse(method string) { t.when(method, func(bool) bool { return true }) }

func (t *tap) heal(method string) { t.when(method, nil) }

func (t *tap) when(method string, f func(accepted bool) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault[method] = f
}

// forge lets f change the requests of a method before they are served; nil ends it.
func (t *tap) forge(method string, f func(*seal.Request)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.edit[method] = f
}

func (t *tap) served() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.methods))
}

// all returns the accepted requests of a method, oldest first.
func (t *tap) all(method string) []seal.Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.samples[method])
}

// of returns the accepted requests of a method about one room.
func (t *tap) of(method string, groupID []byte) []seal.Request {
	return slices.DeleteFunc(t.all(method), func(r seal.Request) bool { return string(r.GroupID) != string(groupID) })
}

// recordedQueues is a memory store whose queues can be listed.
type recordedQueues struct {
	*queue.Memory

	mu  sync.Mutex // guards ids
	ids map[queue.ID]bool
}

func newRecordedQueues() *recordedQueues {
	return &recordedQueues{Memory: queue.NewMemory(), ids: make(map[queue.ID]bool)}
}

func (q *recordedQueues) Create(ctx context.Context, id queue.ID, l queue.Limits) error {
	err := q.Memory.Create(ctx, id, l)
	if err == nil {
		q.mu.Lock()
		q.ids[id] = true
		q.mu.Unlock()
	}
	return err
}

func (q *recordedQueues) list() []queue.ID {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Sorted(maps.Keys(q.ids))
}

// entry is one thing that a service has at rest.
type entry struct{ place, group, name, value string }

func (e entry) key() string { return fmt.Sprintf("%s %q %q", e.place, e.group, e.name) }

// atRest returns everything in a service's stores: records and queue entries.
func (s *service) atRest(tb testing.TB) []entry {
	tb.Helper()
	ctx := context.Background()
	var out []entry
	for _, name := range slices.Sorted(maps.Keys(s.stores)) {
		groups := make(map[string]bool)
		for g, err := range s.stores[name].Groups(ctx, "") {
			if err != nil {
				tb.Fatal(err)
			}
			groups[g] = true
		}
		for _, g := range slices.Sorted(maps.Keys(groups)) {
			for r, err := range s.stores[name].Scan(ctx, g, "") {
				if err != nil {
					tb.Fatal(err)
				}
				out = append(out, entry{name, r.Key.Group, r.Key.Name, string(r.Value)})
			}
		}
	}
	for _, id := range s.queues.list() {
		st, err := s.queues.Stat(ctx, id)
		if err != nil {
			continue // deleted
		}
		out = append(out, entry{"queues", string(id), "stat", fmt.Sprintf("%d %d %d %d", st.Entries, st.Bytes, st.Last, st.Dropped)})
		es, err := s.queues.Read(ctx, id, 0, 1<<20)
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range es {
			out = append(out, entry{"queues", string(id), fmt.Sprint(e.Seq), string(e.Data)})
		}
	}
	return out
}

// volatile names what a refused request may leave behind: spent tokens, replay
// entries, the state of rates and allowances, leases.
func (e entry) volatile() bool {
	switch e.place {
	case "accounts":
		return strings.HasPrefix(e.name, "tokens/") || strings.HasPrefix(e.name, "issue/")
	case "mailboxes", "queues":
		return e.name == "listener"
	}
	return len(e.group) == 2 && (e.group[0] == 't' || e.group[0] == 'r') || e.group == "lease"
}

// state is what must not change.
func (s *service) state(tb testing.TB) map[string]string {
	tb.Helper()
	out := make(map[string]string)
	for _, e := range s.atRest(tb) {
		if !e.volatile() {
			out[e.key()] = e.value
		}
	}
	return out
}

func (s *service) served(g *grpcserver.Server) {
	for name, info := range g.GetServiceInfo() {
		if strings.HasPrefix(name, "grpc.health.") {
			continue
		}
		for _, m := range info.Methods {
			s.rpcs[name+"/"+m.Name] = true
		}
	}
}

var _ kv.Store = (*kv.Memory)(nil)
