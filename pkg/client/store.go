package client

import (
	"errors"
	"maps"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Store keeps a client's state: small opaque records under short names. It
// holds secrets; protecting it at rest is the application's or the disk's task.
type Store interface {
	// Load returns all records.
	Load() (map[string][]byte, error)
	// Write applies the changes together or not at all, durably; a nil value
	// deletes a record.
	Write(changes map[string][]byte) error
	// Close releases the store.
	Close() error
}

// MemoryStore is a Store that ends with the process.
type MemoryStore struct {
	mu sync.Mutex // guards m
	m  map[string][]byte
}

var _ Store = (*MemoryStore)(nil)

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore { return &MemoryStore{m: make(map[string][]byte)} }

// Load implements Store.
func (s *MemoryStore) Load() (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.m), nil
}

// Write implements Store.
func (s *MemoryStore) Write(changes map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range changes {
		if v == nil {
			delete(s.m, k)
		} else {
			s.m[k] = append([]byte(nil), v...)
		}
	}
	return nil
}

// Close implements Store.
func (s *MemoryStore) Close() error { return nil }

// PebbleStore is a Store in a directory. One process can have it open.
type PebbleStore struct{ db *pebble.DB }

var _ Store = (*PebbleStore)(nil)

// OpenPebbleStore opens or creates the store in dir.
func OpenPebbleStore(dir string) (*PebbleStore, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
	if err != nil {
		return nil, err
	}
	return &PebbleStore{db}, nil
}

// Load implements Store.
func (s *PebbleStore) Load() (map[string][]byte, error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	m := make(map[string][]byte)
	for it.First(); it.Valid(); it.Next() {
		m[string(it.Key())] = append([]byte(nil), it.Value()...)
	}
	return m, errors.Join(it.Error(), it.Close())
}

// Write implements Store.
func (s *PebbleStore) Write(changes map[string][]byte) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	for k, v := range changes {
		var err error
		if v == nil {
			err = b.Delete([]byte(k), nil)
		} else {
			err = b.Set([]byte(k), v, nil)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

// Close implements Store.
func (s *PebbleStore) Close() error { return s.db.Close() }

// silent keeps Pebble's messages, which name files and sizes, out of the
// application's output.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(f string, _ ...any) {
	panic("client: store: " + f)
}
