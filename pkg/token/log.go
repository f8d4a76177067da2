package token

import "slices"

// LogEntry is one line of an issuer's append-only list of its keys (SPEC.md
//
type LogEntry struct {
	Epoch Epoch
	ID    KeyID
}

// CheckLog compares an issuer's list with what was seen of it before, and with
// the key to be used, or returns ErrInconsistent: the list may only grow, has one
// key per epoch in ascending order, and holds the key. Clients that keep and
// compare lists notice an issuer that shows them other keys than before.
func CheckLog(seen, log []LogEntry, key PublishedKey) error {
	if len(log) < len(seen) || !slices.Equal(seen, log[:len(seen)]) {
		return ErrInconsistent
	}
	for i := 1; i < len(log); i++ {
		if log[i-1].Epoch >= log[i].Epoch {
			return ErrInconsistent
		}
	}
	if !slices.Contains(log, LogEntry{key.Epoch, key.Key.id}) {
		return ErrInconsistent
	}
	return nil
}
