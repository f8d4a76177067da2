package e2e_test

import (
	"cmp"
	"context"
	"math"
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// place is a person in a room.
type place struct{ name, room string }

// move is where in a room's order somebody came, or was no longer in it.
type move struct {
	seq uint64
	in  bool
}

// chaosMessage is a message that was sent. Before is the last event that its
// sender had when it began: the message is of that epoch or a later one, and has
// a higher number. After is what its sender had when it was accepted, 0 if it was
// not, or its sender was out by then: the message has that number or a lower one.
type chaosMessage struct {
	room, text, sender string
	before, after      uint64
	accepted           bool
}

// send sends a message and notes between which events it must be.
func (c *chaos) send(ctx context.Context, p *person, room client.RoomInfo, text string) error {
	m := chaosMessage{room: room.Room, text: text, sender: p.name, before: room.Seq}
	err := p.Send(ctx, room.Room, []byte(text))
	c.count("send", err)
	m.accepted = err == nil
	if info, errRoom := p.Room(room.Room); err == nil && errRoom == nil && !info.Removed {
		m.after = info.Seq
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, m)
	return err
}

// came notes that a person founded a room, came by a link, or took its place
// again: no event tells. It reads all that is sent by somebody who has seen that.
func (c *chaos) came(p *person, room string) {
	info, err := p.Room(room)
	if err != nil || info.Removed {
		return // out again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moves[place{p.name, room}] = append(c.moves[place{p.name, room}], move{info.Seq, true})
}

// lostPlace notes that a person is about to give up its place, for another one or
// none, with all that it has not read yet.
func (c *chaos) lostPlace(p *person, room string) {
	info, err := p.Room(room)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moves[place{p.name, room}] = append(c.moves[place{p.name, room}], move{info.Seq + 1, false})
}

// stays are the parts of a room's order that a person was in: what it was told,
// and what was noted. From is the event that brought it, to the first one that it
// need not have.
func (c *chaos) stays(p *person, room string) (out []struct{ from, to uint64 }) {
	moves := slices.Clone(c.moves[place{p.name, room}])
	var last uint64
	p.mu.Lock()
	for _, e := range p.events {
		if e.Room != room {
			continue
		}
		switch e.Kind {
		case client.KindJoined:
			moves = append(moves, move{e.Seq, true})
		case client.KindRemoved:
			at := e.Seq
			if at == 0 { // the commit never came
				at = last + 1
			}
			moves = append(moves, move{at, false})
		case client.KindLeft: // by another device
			moves = append(moves, move{last + 1, false})
		default:
		}
		last = max(last, e.Seq)
	}
	p.mu.Unlock()
	slices.SortStableFunc(moves, func(a, b move) int {
		if a.seq == b.seq && a.in != b.in { // removed and back: in
			if b.in {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.seq, b.seq)
	})
	in := false
	for _, m := range moves {
		switch {
		case m.in && !in:
			out = append(out, struct{ from, to uint64 }{m.seq, math.MaxUint64})
		case !m.in && in:
			out[len(out)-1].to = m.seq
		}
		in = m.in
	}
	return out
}

// complete: whoever was in a room from before a message was made until after it
// was accepted has it.
func (c *chaos) complete(t *testing.T, people []*person) {
	t.Helper()
	at := make(map[[2]string]uint64) // number by room and text
	for _, p := range people {
		p.mu.Lock()
		for _, e := range p.events {
			if e.Kind == client.KindMessage {
				at[[2]string{e.Room, string(e.Data)}] = e.Seq
			}
		}
		p.mu.Unlock()
	}
	due, pairs, accepted := 0, 0, 0
	for _, m := range c.sent {
		seq, seen := at[[2]string{m.room, m.text}]
		upTo := m.after
		switch {
		case seen:
			upTo = seq
		case !m.accepted:
			continue
		case upTo == 0:
			upTo = math.MaxUint64 - 1 // its sender was out at once: who stayed to the end has it
		}
		accepted++
		if seen && (seq <= m.before || m.after != 0 && seq > m.after) {
			t.Errorf("%q is event %d; its sender was at %d before and at %d after", m.text, seq, m.before, m.after)
		}
		for _, p := range people {
			if p.name == m.sender {
				continue
			}
			pairs++
			for _, s := range c.stays(p, m.room) {
				if s.from > m.before || upTo >= s.to {
					continue
				}
				due++
				if !slices.Contains(p.roomMessages(m.room), m.text) {
					t.Errorf("%s, in room %d from event %d to %d, misses %q, event %d, which was made after %d and accepted before %d; %s",
						p.name, slices.Index(c.rooms, m.room), s.from, s.to, m.text, seq, m.before, m.after, p.lastOf(m.room))
				}
			}
		}
	}
	t.Logf("%d messages, of which %d times one was due to somebody; %d times its reader was out of the room, or came or went meanwhile", accepted, due, pairs-due)
	if due == 0 {
		t.Error("no message was due to anybody")
	}
}

func (p *person) roomMessages(room string) (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Kind == client.KindMessage && e.Room == room {
			out = append(out, string(e.Data))
		}
	}
	return out
}
