package client

import "testing"

// TestPendingJoinOpensNothing: a room whose external join was not answered yet
// has no K; an envelope that arrives meanwhile is not its, and no reason to panic.
func TestPendingJoinOpensNothing(t *testing.T) {
	r := &room{st: roomState{GroupID: []byte("room"), Pending: &pendingState{Join: true}}}
	raw, pending := r.tryOpen(make([]byte, 64))
	if raw != nil || pending {
		t.Fatalf("opened %d bytes, pending %v; want nothing", len(raw), pending)
	}
}
