// Package store opens what the daemons' store flags name: the records and the
// queues of one kind of data ("accounts", "packages", "queues", "hub") in one
// place.
//
//	memory:                             lost at exit
//	pebble:DIR                          a database in DIR/<kind>
//
// Kinds share no key: each has its own database.
package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/pebblekv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/pebblequeue"
)

// ErrURL reports a store that the flag's value does not name rightly.
var ErrURL = errors.New("unknown form of a store")

// Stores are the records and the queues of one kind of data.
type Stores struct {
	KV    kv.Store
	Queue queue.Store
	// Backend is memory, pebble or redis: a label for logs and metrics.
	Backend string

	closers []func() error // in the order of closing
}

// Close closes both stores and what is below them.
func (s *Stores) Close() error {
	var errs []error
	for _, f := range s.closers {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// Open opens the stores for one kind of data: a name of lower-case letters that
// becomes a directory or a key prefix.
func Open(_ context.Context, url, kind string) (*Stores, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "memory":
		if url != "memory:" {
			break
		}
		return openMemory(), nil
	case "pebble":
		if rest == "" {
			return nil, fmt.Errorf("%w: pebble: without a directory\nhint: pebble:DIR, for example pebble:./data", ErrURL)
		}
		return openPebble(filepath.Join(rest, kind))
	}
	return nil, fmt.Errorf("%w\nhint: memory: or pebble:DIR", ErrURL)
}

func openMemory() *Stores {
	k, q := kv.NewMemory(), queue.NewMemory()
	return &Stores{KV: k, Queue: q, Backend: "memory", closers: []func() error{k.Close, q.Close}}
}

// Prefixes of the two stores in one database.
var (
	prefixKV    = []byte("k")
	prefixQueue = []byte("q")
)

func openPebble(dir string) (*Stores, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	db, err := pebbledb.Open(dir)
	if err != nil {
		return nil, err
	}
	k, err := pebblekv.New(db, prefixKV)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q := pebblequeue.New(db, prefixQueue)
	return &Stores{KV: k, Queue: q, Backend: "pebble", closers: []func() error{q.Close, k.Close, db.Close}}, nil
}
