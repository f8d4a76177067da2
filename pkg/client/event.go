package client

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// Kind says what an Event tells.
type Kind string

// The kinds of events.
const (
	KindMessage   Kind = "message"   // somebody sent Data
	KindJoined    Kind = "joined"    // this client was added to a room
	KindMembers   Kind = "members"   // the members of a room changed
	KindRemoved   Kind = "removed"   // this client was removed from a room
	KindConnected Kind = "connected" // a connection is complete; User is the peer
	KindForked    Kind = "forked"    // the hub showed two histories of a room
	KindLeft      Kind = "left"      // this client has left a room
	KindBanned    Kind = "banned"    // a user who was banned is in the room again: Added
	KindStuck     Kind = "stuck"     // a commit could not be processed; the client tries to come back
	KindSuspect   Kind = "suspect"   // hub and a member broke the room's rules; nothing is sent until the user decides
	KindLocked    Kind = "locked"    // a member made the room unusable for all others
	KindGone      Kind = "gone"      // the hub says for an hour that this client is not in the room: it was removed and the mailbox was full, or the hub has lost the room
)

// Event is something that happened in a room.
type Event struct {
	// Number identifies the event in this client's state; it rises.
	Number uint64 `json:"number"`
	Kind   Kind   `json:"kind"`
	// Room is the room's URI.
	Room string `json:"room,omitempty"`
	// Seq is the event's number in the room.
	Seq uint64 `json:"seq,omitempty"`
	// User is who did it, verified; empty if the sender is unverified.
	User string `json:"user,omitempty"`
	// Data is a message's content.
	Data []byte `json:"data,omitempty"`
	// Evidence is what Report needs of a message.
	Evidence []byte `json:"evidence,omitempty"`
	// Added and Removed are the users of leaves that came and went.
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	// Accepted is the hub's clock.
	Accepted time.Time `json:"accepted"`
}

// emit puts an event into the inbox, in the same step as what caused it.
func (c *Client) emit(b batch, e Event) error {
	c.mailbox.NextInbox++
	e.Number = c.mailbox.NextInbox
	if err := b.put(recInbox+strconv.FormatUint(e.Number, 10), &e); err != nil {
		return err
	}
	if err := b.put(recMailbox, c.mailbox); err != nil {
		return err
	}
	c.inbox[e.Number] = &e
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// Take calls handle for every event in the state, in order, and removes each
// when handle returns nil.
func (c *Client) Take(handle func(Event) error) error {
	for {
		e, ok := c.first()
		if !ok {
			return nil
		}
		if err := handle(e); err != nil {
			return err
		}
		if err := c.remove(e.Number); err != nil {
			return err
		}
	}
}

func (c *Client) first() (Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inbox) == 0 || c.store.broken() != nil { // perhaps not stored: it comes again
		return Event{}, false
	}
	var numbers []uint64
	for n := range c.inbox {
		numbers = append(numbers, n)
	}
	return *c.inbox[slices.Min(numbers)], true
}

func (c *Client) remove(number uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := make(batch)
	b.del(recInbox + strconv.FormatUint(number, 10))
	if err := c.store.Write(b); err != nil {
		return err
	}
	delete(c.inbox, number)
	return nil
}

// deliver presents events as they come.
func (c *Client) deliver(ctx context.Context, handle func(Event) error) error {
	for {
		if err := c.Take(handle); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
	}
}
