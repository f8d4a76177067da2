// Package store opens what the daemons' store flags name: the records and the
// queues of one kind of data ("accounts", "packages", "queues", "hub") in one
// place.
//
//	memory:                                    lost at exit
//	pebble:DIR                                 a database in DIR/<kind>
//	redis://[user:password@]host[:port][/db]   one server
//	redis+unix:///path/to/socket[?db=n]        one server, by its socket
//	redis+cluster://host[:port],...            Redis Cluster
//	redis+sentinel://host[:port],.../master[/db]
//	                                           the master that Sentinels name
//	rediss://, rediss+cluster://, rediss+sentinel://
//	                                           the same with TLS 1.3
//
// Kinds share no key: each has its own database or key prefix. Options of Redis
// are in redisurl.go. Every place carries the version of its format, and what a
// newer program wrote is refused.
package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/pebblekv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/pebblequeue"
)

var (
	// ErrURL reports a store that the flag's value does not name rightly. No text of
	// the value is in the error: it may have a password.
	ErrURL = errors.New("the store is not named in a known form")
	// ErrNewer reports data of a newer version of this program.
	ErrNewer = errors.New("the store was written by a newer version of mmrelay")
	// ErrBusy reports an embedded store that another process has open.
	ErrBusy = errors.New("another process has the store open")
	// ErrBackup reports that a backup was given where a store is meant.
	ErrBackup = errors.New("this is a backup, not a store")
)

// Version is the format of what mmrelay keeps in Redis. It rises when an older
// program could not read what a newer one wrote.
const Version = 1

// Stores are the records and the queues of one kind of data.
type Stores struct {
	KV    kv.Store
	Queue queue.Store
	// Backend is memory, pebble or redis: a label for logs and metrics.
	Backend string

	db      *pebble.DB     // of Pebble
	dir     string         // where it is
	closers []func() error // in the order of closing
}

// Close closes both stores and what is below them. Closing again does nothing.
func (s *Stores) Close() error {
	var errs []error
	for _, f := range s.closers {
		errs = append(errs, f())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Open opens the stores for one kind of data: a name of lower-case letters that
// becomes a directory or a key prefix.
func Open(ctx context.Context, url, kind string) (*Stores, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch {
	case url == "memory:":
		return openMemory(), nil
	case scheme == "pebble" && rest == "":
		return nil, fmt.Errorf("%w: no directory\nhint: pebble:DIR, for example pebble:./data", ErrURL)
	case scheme == "pebble":
		return openPebble(filepath.Join(rest, kind))
	case strings.HasPrefix(scheme, "redis"):
		return openRedis(ctx, url, kind)
	}
	return nil, fmt.Errorf("%w\nhint: memory:, pebble:DIR, redis://HOST, redis+unix:///SOCKET, redis+cluster://HOST,HOST or redis+sentinel://HOST,HOST/MASTER", ErrURL)
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
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), manifestFile)); err == nil {
		return nil, fmt.Errorf("%w\nhint: make a store of it with 'mmr store restore'", ErrBackup)
	}
	return openPebbleDir(dir, pebbledb.Open, pebbledb.Close)
}

func openPebbleDir(dir string, open func(string) (*pebble.DB, error), closeDB func(*pebble.DB) error) (*Stores, error) {
	db, err := open(dir)
	switch {
	case errors.Is(err, pebbledb.ErrNewer):
		return nil, fmt.Errorf("%w\nhint: run that version, or restore a backup of this one", ErrNewer)
	case errors.Is(err, pebbledb.ErrBusy):
		return nil, fmt.Errorf("%w\nhint: stop the daemon; a backup is made through it: 'mmr store backup http://ADMIN NAME'", ErrBusy)
	case err != nil:
		return nil, err
	}
	k, err := pebblekv.New(db, prefixKV)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q := pebblequeue.New(db, prefixQueue)
	return &Stores{KV: k, Queue: q, Backend: "pebble", db: db, dir: dir, closers: []func() error{q.Close, k.Close, func() error { return closeDB(db) }}}, nil
}
