package hub_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
)

// materialRoot is where TestMain's key directories are.
var materialRoot = func() string {
	dir, err := os.MkdirTemp("", "hubtest")
	if err != nil {
		panic(err)
	}
	return dir
}()

var errFault = errors.New("injected fault")

// faultyKV is a store whose transactions fail when a test says so.
type faultyKV struct {
	kv.Store
	hook atomic.Pointer[func(ops []kv.Op) (apply bool, err error)]

	blind atomic.Bool // reads of the marker of a restored store fail

	mu     sync.Mutex // guards handed
	handed []string   // pending records that were removed, in order
}

// note remembers the order in which pending records go.
func (f *faultyKV) note(ops []kv.Op) {
	for _, op := range ops {
		if op.Value == nil && strings.HasPrefix(op.Key.Name, hub.PrefixPending) {
			f.mu.Lock()
			if !slices.Contains(f.handed, op.Key.Name) { // the runner and the sweep may both come by
				f.handed = append(f.handed, op.Key.Name)
			}
			f.mu.Unlock()
		}
	}
}

func (f *faultyKV) Get(ctx context.Context, key kv.Key) (kv.Record, error) {
	if key == store.Restored && f.blind.Load() {
		return kv.Record{}, errFault
	}
	return f.Store.Get(ctx, key)
}

func (f *faultyKV) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	hook := f.hook.Load()
	if hook == nil {
		f.note(ops)
		return f.Store.Apply(ctx, ops)
	}
	apply, fail := (*hook)(ops)
	if !apply {
		return nil, fail
	}
	vs, err := f.Store.Apply(ctx, ops)
	if err == nil {
		err = fail
	}
	return vs, err
}

func (f *faultyKV) fail(h func(ops []kv.Op) (bool, error)) {
	if h == nil {
		f.hook.Store(nil)
		return
	}
	f.hook.Store(&h)
}
