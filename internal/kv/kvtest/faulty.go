package kvtest

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// Faulty returns a store that asks fault before every Get, GetMany, Apply,
// Scan and Groups, by that name. With an error the call fails with it; apply
// says whether an Apply is carried out all the same.
func Faulty(s kv.Store, fault func(op string) (apply bool, err error)) kv.Store {
	return &faulty{s, fault}
}

type faulty struct {
	kv.Store
	fault func(op string) (bool, error)
}

func (f *faulty) Get(ctx context.Context, k kv.Key) (kv.Record, error) {
	if _, err := f.fault("Get"); err != nil {
		return kv.Record{}, err
	}
	return f.Store.Get(ctx, k)
}

func (f *faulty) GetMany(ctx context.Context, group string, names []string) ([]kv.Record, error) {
	if _, err := f.fault("GetMany"); err != nil {
		return nil, err
	}
	return f.Store.GetMany(ctx, group, names)
}

func (f *faulty) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	apply, err := f.fault("Apply")
	if err == nil {
		return f.Store.Apply(ctx, ops)
	}
	if apply {
		if _, e := f.Store.Apply(ctx, ops); errors.Is(e, kv.ErrConflict) {
			return nil, e // a conflict is an answer: the caller would have had it
		}
	}
	return nil, err
}

func (f *faulty) Scan(ctx context.Context, group, prefix string) iter.Seq2[kv.Record, error] {
	if _, err := f.fault("Scan"); err != nil {
		return func(yield func(kv.Record, error) bool) { yield(kv.Record{}, err) }
	}
	return f.Store.Scan(ctx, group, prefix)
}

func (f *faulty) Groups(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if _, err := f.fault("Groups"); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return f.Store.Groups(ctx, prefix)
}

var errFault = queuetest.ErrFault

// failing returns a store whose first Apply fails.
func failing(s kv.Store, apply bool) kv.Store {
	failed := false
	return Faulty(s, func(op string) (bool, error) {
		if op != "Apply" || failed {
			return true, nil
		}
		failed = true
		return apply, errFault
	})
}

// Faults: what a caller can do after an error that leaves open what happened.
func Faults(t *testing.T, open Open) {
	s := open(t)
	for name, persist := range map[string]bool{"AndNotPersist": false, "ButPersist": true} {
		t.Run("Put"+name, func(t *testing.T) {
			f, k := failing(s, persist), key("put"+name, "n")
			if _, err := kv.Put(t.Context(), f, k, 0, []byte("x"), 0); !errors.Is(err, errFault) {
				t.Fatalf("Put: %v", err)
			}
			_, err := kv.Put(t.Context(), f, k, 0, []byte("x"), 0)
			if errors.Is(err, kv.ErrConflict) != persist {
				t.Errorf("repeated: %v", err)
			}
			want(t, s, k, "x")
		})
		t.Run("Once"+name, func(t *testing.T) {
			// The value tells the caller that the claim it finds is its own.
			f, k := failing(s, persist), key("once"+name, "n")
			if _, _, err := kv.Once(t.Context(), f, k, []byte("me"), time.Hour); !errors.Is(err, errFault) {
				t.Fatalf("Once: %v", err)
			}
			first, earlier, err := kv.Once(t.Context(), f, k, []byte("me"), time.Hour)
			if err != nil || first == persist || persist && string(earlier) != "me" {
				t.Errorf("repeated: %v, %q, %v", first, earlier, err)
			}
		})
		t.Run("Acquire"+name, func(t *testing.T) {
			f, k := failing(s, persist), key("lease"+name, "n")
			if _, err := kv.Acquire(t.Context(), f, k, "me", time.Now(), time.Hour); !errors.Is(err, errFault) {
				t.Fatalf("Acquire: %v", err)
			}
			l, err := kv.Acquire(t.Context(), f, k, "me", time.Now(), time.Hour)
			if err != nil || l.Fence != 1 {
				t.Errorf("repeated: %+v, %v", l, err)
			}
		})
		t.Run("Delete"+name, func(t *testing.T) {
			f, k := failing(s, persist), key("delete"+name, "n")
			set(t, s, k, "x", 0)
			if err := kv.Delete(t.Context(), f, k); !errors.Is(err, errFault) {
				t.Fatalf("Delete: %v", err)
			}
			if err := kv.Delete(t.Context(), f, k); err != nil {
				t.Errorf("repeated: %v", err)
			}
			absent(t, s, k)
		})
	}
}
