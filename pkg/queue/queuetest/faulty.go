package queuetest

import (
	"context"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Faulty returns a store that asks fault (for example a Failpoint) before every call of a method but
// Close, by the method's name. With an error the call fails with it; apply says
// whether it is carried out all the same, so that the failure is one of the
// answer only.
func Faulty(s queue.Store, fault func(op string) (apply bool, err error)) queue.Store {
	return &faulty{s, fault}
}

type faulty struct {
	queue.Store
	fault func(op string) (bool, error)
}

// do carries out a call that returns only an error.
func (f *faulty) do(op string, call func() error) error {
	apply, err := f.fault(op)
	if err == nil {
		return call()
	}
	if apply {
		_ = call() // its answer is what gets lost
	}
	return err
}

func (f *faulty) Create(ctx context.Context, id queue.ID, l queue.Limits) error {
	return f.do("Create", func() error { return f.Store.Create(ctx, id, l) })
}

func (f *faulty) Delete(ctx context.Context, id queue.ID) error {
	return f.do("Delete", func() error { return f.Store.Delete(ctx, id) })
}

func (f *faulty) Ack(ctx context.Context, id queue.ID, upTo queue.Seq) error {
	return f.do("Ack", func() error { return f.Store.Ack(ctx, id, upTo) })
}

func (f *faulty) AppendBatch(ctx context.Context, batch []queue.Append) (rs []queue.Result, err error) {
	err = f.do("AppendBatch", func() (err error) { rs, err = f.Store.AppendBatch(ctx, batch); return err })
	if err != nil {
		return nil, err
	}
	return rs, nil
}

func (f *faulty) Read(ctx context.Context, id queue.ID, after queue.Seq, max int) (es []queue.Entry, err error) {
	if err := f.do("Read", func() (err error) { es, err = f.Store.Read(ctx, id, after, max); return err }); err != nil {
		return nil, err
	}
	return es, nil
}

func (f *faulty) Stat(ctx context.Context, id queue.ID) (st queue.Stat, err error) {
	if err := f.do("Stat", func() (err error) { st, err = f.Store.Stat(ctx, id); return err }); err != nil {
		return queue.Stat{}, err
	}
	return st, nil
}

func (f *faulty) Wake(ctx context.Context, id queue.ID) error {
	return f.do("Wake", func() error { return f.Store.Wake(ctx, id) })
}

func (f *faulty) Watch(ctx context.Context, id queue.ID) (<-chan struct{}, error) {
	if _, err := f.fault("Watch"); err != nil {
		return nil, err
	}
	return f.Store.Watch(ctx, id)
}

var errFault = ErrFault

// failing returns a store whose first call of one method fails.
func failing(s queue.Store, method string, apply bool) queue.Store {
	failed := false
	return Faulty(s, func(op string) (bool, error) {
		if op != method || failed {
			return true, nil
		}
		failed = true
		return apply, errFault
	})
}

// Faults: a call that failed can be repeated, whether or not it was carried out,
// and the outcome is as if it had been made once.
func Faults(t *testing.T, open Open) {
	s := open(t)
	for name, persist := range map[string]bool{"AndNotPersist": false, "ButPersist": true} {
		id := queue.ID(name)
		t.Run("Create"+name, func(t *testing.T) {
			f := failing(s, "Create", persist)
			wantErr(t, "Create", f.Create(t.Context(), id, queue.Limits{}), errFault)
			if err := f.Create(t.Context(), id, queue.Limits{}); errors.Is(err, queue.ErrExists) != persist {
				t.Errorf("repeated: %v", err)
			}
			equal(t, "Stat", stat(t, s, id), queue.Stat{})
		})
		t.Run("Append"+name, func(t *testing.T) {
			f := failing(s, "AppendBatch", persist)
			batch := []queue.Append{
				{Queue: id, Entry: []byte("1"), Dedup: []byte("k1")},
				{Queue: id, Entry: []byte("2"), Dedup: []byte("k2")},
			}
			_, err := f.AppendBatch(t.Context(), batch)
			wantErr(t, "AppendBatch", err, errFault)
			for i, r := range appendAll(t, f, batch) {
				if r.Err != nil || r.Duplicate != persist || r.Seq != queue.Seq(i+1) && r.Seq != 0 {
					t.Errorf("repeated: %+v", r)
				}
			}
			equal(t, "entries", read(t, s, id, 0, 10), entries{{1, "1"}, {2, "2"}})
		})
		t.Run("Read"+name, func(t *testing.T) {
			f := failing(s, "Read", persist)
			_, err := f.Read(t.Context(), id, 0, 10)
			wantErr(t, "Read", err, errFault)
			equal(t, "repeated", len(read(t, f, id, 0, 10)), 2)
		})
		t.Run("Ack"+name, func(t *testing.T) {
			f := failing(s, "Ack", persist)
			wantErr(t, "Ack", f.Ack(t.Context(), id, 1), errFault)
			ack(t, f, id, 1)
			equal(t, "entries", read(t, s, id, 0, 10), entries{{2, "2"}})
		})
		t.Run("Delete"+name, func(t *testing.T) {
			f := failing(s, "Delete", persist)
			wantErr(t, "Delete", f.Delete(t.Context(), id), errFault)
			wantErr(t, "repeated", f.Delete(t.Context(), id), nil)
			_, err := s.Stat(t.Context(), id)
			wantErr(t, "Stat", err, queue.ErrNotFound)
		})
	}
}
