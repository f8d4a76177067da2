// Package kv stores small records with compare-and-swap and expiry: rooms,
// KeyPackages, connection boxes, accounts, spent tokens, replay entries,
// leases. This file is the contract; package kvtest is its proof, and every
// backend (memory, pebblekv, rediskv) passes all of it.
//
// Keys are opaque and grouped by the caller: a Key has a group and a name. All
// records of one group can be changed in one atomic transaction (in Redis
// Cluster a group is a hash tag); records of different groups cannot. A version
// is an opaque number that changes with every write and is never used twice
// for one key while the record exists.
//
// When a method returned an error other than the ones documented here, its
// writes may or may not have been applied as a whole; never in part.
package kv

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Key names a record. Group and Name are 1 to 128 opaque bytes each; '{' and
// '}' and NUL in them are allowed.
type Key struct {
	// Group is the unit of atomicity.
	Group string
	// Name is the record within the group.
	Name string
}

// MaxKey is the longest Group or Name in bytes, MaxValue the largest value.
const (
	MaxKey   = 128
	MaxValue = 16 << 20
)

// Version identifies one state of a record. 0 means that it does not exist.
type Version uint64

var (
	// ErrConflict reports that a record was not in the version the caller
	// expected. Nothing changed.
	ErrConflict = errors.New("kv: version conflict")
	// ErrNotFound reports a record that does not exist or has expired.
	ErrNotFound = errors.New("kv: not found")
	// ErrInvalid reports an argument outside the documented bounds. Nothing changed.
	ErrInvalid = errors.New("kv: invalid argument")
	// ErrClosed reports a Store after Close.
	ErrClosed = errors.New("kv: store closed")
)

// Record is a stored value.
type Record struct {
	Key     Key
	Value   []byte
	Version Version
}

// Op is one write of a transaction.
type Op struct {
	// Key is the record.
	Key Key
	// Value is the new value; nil deletes the record, empty but not nil is a value.
	// At most MaxValue bytes.
	Value []byte
	// TTL is how long the record lives from now on; 0 means for ever. It is
	// exact to a second, and the record is unreadable from then on.
	TTL time.Duration
	// Check asks that the record has version Old (0: does not exist) when the
	// transaction is applied. Without Check the write is unconditional.
	Check bool
	Old   Version
}

// Store is a set of records, durable to the degree the backend documents when
// a call returned without error. All methods are safe for concurrent use.
type Store interface {
	// Get returns a record. ErrNotFound if there is none.
	Get(ctx context.Context, key Key) (Record, error)
	// GetMany returns the records of one group under the names given, in order; a
	// missing one has Version 0 and a nil Value. They are read at one moment.
	GetMany(ctx context.Context, group string, names []string) ([]Record, error)
	// Apply writes all ops, or none: ErrConflict if any Check fails. All keys are of
	// one group, each at most once, at most MaxOps of them. It returns the new versions
	// in order (0 for deletions).
	Apply(ctx context.Context, ops []Op) ([]Version, error)
	// Scan yields the records of a group whose names begin with prefix, in
	// ascending byte order of names. Records written or deleted meanwhile may or may
	// not be seen. An error ends the sequence.
	Scan(ctx context.Context, group, prefix string) iter.Seq2[Record, error]
	// Groups yields every group that begins with prefix and has at least one
	// record, in any order, possibly more than once. It is for sweeps and tools:
	// it costs a walk over the store.
	Groups(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Close releases the store. Calls under way end first; later ones return ErrClosed.
	Close() error
}

// Put writes one record if its version is old (0: it must not exist) and
// returns the new version. ErrConflict if it is in another version.
func Put(ctx context.Context, s Store, key Key, old Version, value []byte, ttl time.Duration) (Version, error) {
	vs, err := s.Apply(ctx, []Op{{Key: key, Value: value, TTL: ttl, Check: true, Old: old}})
	if err != nil {
		return 0, err
	}
	return vs[0], nil
}

// Delete removes a record whatever its version. A missing one is not an error.
func Delete(ctx context.Context, s Store, key Key) error {
	_, err := s.Apply(ctx, []Op{{Key: key}})
	return err
}

// Once reports whether the caller is the first to claim key within ttl: spent
// tokens and the replay cache (SPEC.md ). The value is kept so that a
// caller can recognise its own earlier claim; for a later caller it returns
// the first caller's value.
func Once(ctx context.Context, s Store, key Key, value []byte, ttl time.Duration) (first bool, earlier []byte, err error) {
	for {
		_, err = Put(ctx, s, key, 0, value, ttl)
		if err == nil {
			return true, nil, nil
		}
		if !errors.Is(err, ErrConflict) {
			return false, nil, err
		}
		r, err := s.Get(ctx, key)
		if errors.Is(err, ErrNotFound) { // it expired between the two calls
			continue
		}
		if err != nil {
			return false, nil, err
		}
		return false, r.Value, nil
	}
}
