package hub

import (
	"context"
	"errors"
	"sync"
)

// flusher hands the pending rows of accepted events to the outboxes, room by
// room in the order of acceptance: the rows of a lane must not overtake each
// other (SPEC.md R-78).
type flusher struct {
	h *Hub

	mu    sync.Mutex // guards all below
	rooms map[string]*roomFlush
	// clean are rooms of which nothing older is pending in the store, as far as
	// this process knows. In others everything is handed over from the store.
	clean map[string]bool
}

// maxClean bounds the table; a room that is forgotten costs a look at the store.
const maxClean = 100_000

// roomFlush is what one room has to hand over. It exists while a goroutine
// works on it.
type roomFlush struct{ jobs []flushJob }

type flushJob struct {
	name string // of the pending record
	rows []outboxRow
}

func newFlusher(h *Hub) *flusher {
	return &flusher{h: h, rooms: make(map[string]*roomFlush), clean: make(map[string]bool)}
}

// add hands over rows soon. The caller holds the room's lock, which makes the
// order of calls that of acceptance.
func (f *flusher) add(groupID []byte, name string, rows []outboxRow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := string(groupID)
	if r := f.rooms[id]; r != nil {
		r.jobs = append(r.jobs, flushJob{name, rows})
		return
	}
	r := &roomFlush{jobs: []flushJob{{name, rows}}}
	f.rooms[id] = r
	f.h.background(func(ctx context.Context) { f.run(ctx, groupID, r) })
}

// run works until nothing is left.
func (f *flusher) run(ctx context.Context, groupID []byte, r *roomFlush) {
	for {
		f.mu.Lock()
		if len(r.jobs) == 0 {
			delete(f.rooms, string(groupID))
			f.mu.Unlock()
			return
		}
		job := r.jobs[0]
		r.jobs = r.jobs[1:]
		clean := f.clean[string(groupID)]
		f.mu.Unlock()
		var err error
		if clean {
			err = f.h.flush(ctx, groupID, job.name, job.rows)
		} else {
			_, err = f.h.flushRoom(ctx, groupID)
		}
		f.note(groupID, err == nil)
		if err != nil && !errors.Is(err, context.Canceled) {
			f.h.log.Warn("handing events to the outbox did not work; the sweep will repeat it", "err_class", "outbox")
		}
	}
}

func (f *flusher) note(groupID []byte, clean bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !clean {
		delete(f.clean, string(groupID))
		return
	}
	if len(f.clean) >= maxClean {
		clear(f.clean)
	}
	f.clean[string(groupID)] = true
}

// flushRoom hands over all pending rows that the store has of a room, oldest
// first, and returns how many events they are of.
func (h *Hub) flushRoom(ctx context.Context, groupID []byte) (n int, err error) {
	for p, err := range h.cfg.Store.Scan(ctx, roomKey(groupID, "").Group, prefixStop) {
		if err != nil {
			return n, err
		}
		if err := h.stop(ctx, groupID, p.Key.Name, p.Value); err != nil {
			return n, err
		}
		n++
	}
	for p, err := range h.cfg.Store.Scan(ctx, roomKey(groupID, "").Group, prefixPending) {
		if err != nil {
			return n, err
		}
		rows, err := parseRows(p.Value)
		if err != nil {
			return n, err
		}
		if err := h.flush(ctx, groupID, p.Key.Name, rows); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
