// Package queue is the mailbox: an ordered, durable, bounded queue of opaque
// entries under an opaque id. A relay keeps one per client ("mailbox",
// SPEC.md R-54), a hub keeps one per destination relay ("outbox", SPEC.md
// This file is the contract; package queuetest is its proof, and every
// backend passes all of it:
//
//	memory          this package: the model for tests and the lab
//	pebblequeue     one process, durable, no set-up
//	redisqueue      many processes on one Redis, Valkey or Redis Cluster
//
// The contract in short:
//
//   - Entries of one queue have sequence numbers 1, 2, 3, … without gaps, in the
//     order in which Append stored them. Numbers are never used twice.
//   - An append is durable when it returned without error. When it returned an
//     error, the entry may or may not be stored: repeat it with the same dedup
//     key, and it is stored once.
//   - Reading deletes nothing; Ack deletes, cumulatively and idempotently.
//   - Nothing of time, sender or dedup key can be read back from an entry.
//
// A queue does not encrypt: entries are sealed to their readers before they
// come here.
package queue

import (
	"context"
	"errors"
	"time"
)

// ID names a queue: 1 to 64 opaque bytes.
type ID string

// Seq is an entry's number in its queue, from 1.
type Seq uint64

// MaxID is the longest ID in bytes; MaxDedupKey the longest dedup key.
const (
	MaxID       = 64
	MaxDedupKey = 32
)

// DedupTTL is how long a dedup key is remembered at least (SPEC.md R-52).
const DedupTTL = time.Hour

var (
	// ErrNotFound reports a queue that does not exist. Nothing changed.
	ErrNotFound = errors.New("queue: not found")
	// ErrExists reports that Create found the queue. Nothing changed.
	ErrExists = errors.New("queue: exists")
	// ErrFull reports that an entry would exceed the queue's limits. It was not
	// stored, nothing stored was lost, and Stat.Dropped rose by one.
	ErrFull = errors.New("queue: full")
	// ErrInvalid reports an argument outside the documented bounds. Nothing changed.
	ErrInvalid = errors.New("queue: invalid argument")
	// ErrClosed reports a Store after Close.
	ErrClosed = errors.New("queue: store closed")
)

// Limits bound one queue. They are fixed by Create.
type Limits struct {
	// MaxEntries is the largest number of entries waiting. 0 means 10,000.
	MaxEntries int
	// MaxBytes is the largest sum of their sizes. 0 means 64 MiB.
	MaxBytes int64
	// MaxAge is how long an entry is kept at least when nobody acknowledges it; it
	// is gone at most a day later (ExpiresAt). 0 means 30 days.
	MaxAge time.Duration
}

// Check reports whether limits are within bounds: none is negative.
func (l Limits) Check() error {
	if l.MaxEntries < 0 || l.MaxBytes < 0 || l.MaxAge < 0 {
		return ErrInvalid
	}
	return nil
}

// ExpiresAt is when an entry stored at now expires: MaxAge, in whole seconds,
// after the end of the UTC day. All entries of a day expire together, so that no
// backend keeps the time of an entry (SPEC.md R-54).
func (l Limits) ExpiresAt(now time.Time) time.Time {
	const day = 24 * 60 * 60
	age := int64(l.MaxAge / time.Second)
	if l.MaxAge%time.Second != 0 {
		age++
	}
	return time.Unix((now.Unix()/day+1)*day+age, 0)
}

// DedupHour numbers the hour of now. Backends keep dedup keys by the hour they
// came in and forget them when the next hour is over: after DedupTTL at least,
// after twice that at most.
func DedupHour(now time.Time) int64 { return now.Unix() / int64(DedupTTL/time.Second) }

// WithDefaults returns l with the documented defaults (SPEC.md §19) for zero fields.
func (l Limits) WithDefaults() Limits {
	if l.MaxEntries == 0 {
		l.MaxEntries = 10_000
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = 64 << 20
	}
	if l.MaxAge == 0 {
		l.MaxAge = 30 * 24 * time.Hour
	}
	return l
}

// Append is one entry to be stored.
type Append struct {
	// Queue is where it goes.
	Queue ID
	// Entry is stored as it is, 1 byte to 2 MiB.
	Entry []byte
	// Dedup makes the append idempotent for DedupTTL: an entry whose key the queue
	// has seen is not stored again, and the result is that of the first time. Empty
	// means no deduplication. At most MaxDedupKey bytes.
	Dedup []byte
}

// Result is the fate of one Append of a batch.
type Result struct {
	// Seq is the entry's number; for a duplicate, that of the first append, or 0
	// when the backend remembers the key but no longer the number.
	Seq Seq
	// Duplicate reports that the dedup key was known and nothing was stored.
	Duplicate bool
	// Err is nil, ErrNotFound, ErrFull, ErrInvalid, or a backend failure.
	Err error
}

// Entry is one stored entry.
type Entry struct {
	Seq  Seq
	Data []byte
}

// Stat describes a queue.
type Stat struct {
	// Entries and Bytes count what is waiting.
	Entries int
	Bytes   int64
	// Last is the number of the newest entry ever stored, 0 if none.
	Last Seq
	// Acked is the number up to which entries were acknowledged or expired: what is
	// waiting has the numbers Acked+1 to Last.
	Acked Seq
	// Dropped counts appends refused with ErrFull since Create. It never falls.
	Dropped uint64
}

// Store is a set of queues. All methods are safe for concurrent use. A
// cancelled context makes a call return early with the context's error; like
// any error of AppendBatch that leaves open whether entries were stored.
type Store interface {
	// Create makes an empty queue. ErrExists if there is one. A queue that was
	// deleted can be created again: it has nothing of the old one, and numbers
	// begin at 1.
	Create(ctx context.Context, id ID, l Limits) error
	// Delete removes a queue with all entries. Deleting a missing queue is not an
	// error. Watchers of the queue are woken.
	Delete(ctx context.Context, id ID) error
	// AppendBatch stores entries and returns one Result for each, in order. Entries
	// of one queue are stored in the order of the batch; an entry that fails does
	// not hold up the others. The error is for the batch as a whole (store closed,
	// backend unreachable) and then the results are meaningless. When a Result has
	// no error the entry is durable to the degree the backend documents.
	AppendBatch(ctx context.Context, batch []Append) ([]Result, error)
	// Read returns up to max entries with numbers above after, in order, fewer if
	// they exceed 4 MiB together (but at least one if there is one). ErrNotFound if
	// the queue does not exist. No entries is not an error.
	Read(ctx context.Context, id ID, after Seq, max int) ([]Entry, error)
	// Ack deletes all entries with numbers up to upTo. Acknowledging again, or
	// beyond Last, changes nothing more, for later entries neither. ErrNotFound if the queue does not exist.
	Ack(ctx context.Context, id ID, upTo Seq) error
	// Stat describes a queue. ErrNotFound if it does not exist.
	Stat(ctx context.Context, id ID) (Stat, error)
	// Watch returns a channel that receives soon after an entry was stored in the
	// queue, by any process. Wake-ups are coalesced and may be spurious, and one is
	// never missed for longer than the backend's poll interval (at most 30 s): read
	// after every wake-up and once after Watch. It is closed when ctx ends or the
	// store closes. Watching a missing queue is not an error.
	Watch(ctx context.Context, id ID) (<-chan struct{}, error)
	// Wake wakes the watchers of a queue in all processes, as an append would: for
	// callers that have changed something else which watchers look at. The queue need
	// not exist. Like any wake-up it may be lost, until the next poll.
	Wake(ctx context.Context, id ID) error
	// Close releases the store. Calls under way end first; later ones return ErrClosed.
	Close() error
}

// AppendOne stores one entry: AppendBatch for a batch of one.
func AppendOne(ctx context.Context, s Store, a Append) (Result, error) {
	rs, err := s.AppendBatch(ctx, []Append{a})
	if err != nil {
		return Result{}, err
	}
	return rs[0], rs[0].Err
}

// MaxEntry is the largest entry in bytes.
const MaxEntry = 2 << 20

// ReadBytes is the most that one Read returns, unless a single entry is larger.
const ReadBytes = 4 << 20

// Check reports whether an append is within the documented bounds.
func (a Append) Check() error {
	if a.Queue.Check() != nil || len(a.Entry) == 0 || len(a.Entry) > MaxEntry || len(a.Dedup) > MaxDedupKey {
		return ErrInvalid
	}
	return nil
}

// Check reports whether an id is within the documented bounds.
func (id ID) Check() error {
	if len(id) == 0 || len(id) > MaxID {
		return ErrInvalid
	}
	return nil
}
