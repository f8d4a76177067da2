package client

import (
	"errors"
	"fmt"
	"sync"
)

// ErrStore reports that a write to the store failed. Its fate is unknown and
// what is in memory may be ahead of what is stored, so that the client does
// nothing more: close it and open the store again.
var ErrStore = errors.New("client: the store failed; open it again")

// failStop is the client's view of its store: after the first failure of a
// write nothing is written, and nothing may be sent or acknowledged any more.
type failStop struct {
	Store

	mu  sync.Mutex // guards err
	err error
}

// Write implements Store.
func (s *failStop) Write(changes map[string][]byte) error {
	if err := s.broken(); err != nil {
		return err
	}
	err := s.Store.Write(changes)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = fmt.Errorf("%w: %w", ErrStore, err)
	return s.err
}

// broken returns the first failure.
func (s *failStop) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
