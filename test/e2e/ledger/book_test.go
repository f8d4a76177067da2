package ledger_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkTime bounds the search for an order of a room.
const checkTime = 30 * time.Second

// entry is a numbered message as its sender knows it.
type entry struct {
	room, from string
	number     int
	begun      time.Time
	accepted   time.Time // zero: the outcome is unknown
}

// receipt is a message as a member of its room got it.
type receipt struct {
	seq uint64
	at  time.Time
}

// stay is the part of a room's history that a guest must have got: from the event
// that added it to the one that removed it.
type stay struct{ from, to uint64 } // to 0: it is there still

// place is what one client got in one room.
type place struct {
	member bool // from the beginning to the end; else a guest
	last   uint64
	got    map[string][]receipt // by message
	order  []string
	stays  []stay
}

// book is the ledger: what was accepted and who got what.
type book struct {
	mu         sync.Mutex // guards all below
	entries    map[string]*entry
	places     map[[2]string]*place // by room and client
	violations []string
	unreadable map[string]int // messages that a client was given and could not decrypt
}

func newBook() *book {
	return &book{entries: make(map[string]*entry), places: make(map[[2]string]*place), unreadable: make(map[string]int)}
}

func text(room, from string, number int) string { return fmt.Sprintf("%s/%s/%d", room, from, number) }

// seat makes a client a member or a guest of a room.
func (b *book) seat(room, client string, member bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.places[[2]string{room, client}] = &place{member: member, got: make(map[string][]receipt)}
}

// sending notes a message that is about to be sent: its outcome is unknown.
func (b *book) sending(room, from string, number int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := text(room, from, number)
	b.entries[m] = &entry{room: room, from: from, number: number, begun: time.Now()}
	return m
}

// accepted notes that the hub has accepted a message.
func (b *book) accepted(m string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[m].accepted = at
}

// got notes that a client got a message. The order of calls is the order of receipt.
func (b *book) got(room, client, m string, seq uint64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.places[[2]string{room, client}]
	if p == nil {
		b.violate("a stranger to a room got a message of it")
		return
	}
	if seq <= p.last {
		b.violate("order: %s got event %d of %s after %d", client, seq, room, p.last)
	}
	p.last = max(p.last, seq)
	p.got[m] = append(p.got[m], receipt{seq, at})
	p.order = append(p.order, m)
}

// came and went note the stays of a guest.
func (b *book) came(room, client string, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.places[[2]string{room, client}]; p != nil && !p.member {
		p.stays = append(p.stays, stay{from: seq})
	}
}

func (b *book) went(room, client string, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.places[[2]string{room, client}]
	switch {
	case p == nil || p.member || len(p.stays) == 0:
		b.violate("%s was removed from %s", client, room)
	default:
		p.stays[len(p.stays)-1].to = seq
	}
}

// unread notes that a client was given a message that it cannot decrypt.
func (b *book) unread(client string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unreadable[client]++
}

// broken notes what must not happen whatever fails.
func (b *book) broken(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violate(format, args...)
}

func (b *book) violate(format string, args ...any) {
	b.violations = append(b.violations, fmt.Sprintf(format, args...))
}

// verdict is what the ledger says.
type verdict struct {
	accepted, unknown, arrived int // of the unknown ones, arrived are those that somebody got
	receipts                   int
	before                     int // of an epoch before a guest's, accepted after it came
	lost, duplicated, disorder []string
	other                      []string
	worst                      time.Duration
}

// judge compares what was accepted with what everybody got.
func (b *book) judge() *verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := new(verdict)
	for _, s := range b.violations {
		if len(s) > 6 && s[:6] == "order:" {
			v.disorder = append(v.disorder, s)
		} else {
			v.other = append(v.other, s)
		}
	}
	at := b.numbers(v)
	before := make(map[string][]string)
	for _, m := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[m]
		_, arrived := at[m]
		switch {
		case !e.accepted.IsZero():
			v.accepted++
		case arrived:
			v.unknown, v.arrived = v.unknown+1, v.arrived+1
		default:
			v.unknown++
			continue
		}
		for who, p := range b.places {
			if who[0] != e.room || who[1] == e.from {
				continue
			}
			rs := p.got[m]
			if len(rs) > 1 {
				v.duplicated = append(v.duplicated, fmt.Sprintf("%s got %s %d times", who[1], m, len(rs)))
			}
			if len(rs) == 0 {
				missing := fmt.Sprintf("%s never got %s, event %d%s", who[1], m, at[m], p.history())
				switch owed, earlier := b.owed(p, e, at[m]); {
				case owed:
					v.lost = append(v.lost, missing)
				case earlier:
					before[who[1]] = append(before[who[1]], missing)
				}
			}
			for _, r := range rs {
				v.receipts++
				if !e.accepted.IsZero() {
					v.worst = max(v.worst, r.at.Sub(e.accepted))
				}
			}
		}
	}
	for who, list := range before { // each of them was given to its guest, who could not read it
		if v.before += len(list); len(list) > b.unreadable[who] {
			v.lost = append(v.lost, list...)
		}
	}
	b.senders(v)
	if len(v.lost) == 0 { // else it is not over yet
		b.linearizable(v, at)
	}
	return v
}

// owed reports whether a client must have got the event of that number, 0 if
// nobody knows it. A guest is owed what was sent in an epoch that it is a member
// of: from each sender all that follows the first message it got. What comes before
// that may be earlier: made before the guest was added and accepted after it.
func (b *book) owed(p *place, e *entry, seq uint64) (owed, earlier bool) {
	if p.member {
		return true, false
	}
	for _, s := range p.stays {
		if seq <= s.from || s.to != 0 && seq >= s.to {
			continue
		}
		for m, rs := range p.got {
			if o := b.entries[m]; o != nil && o.from == e.from && rs[0].seq > s.from && rs[0].seq < seq {
				return true, false
			}
		}
		return false, true
	}
	return false, false
}

// history describes a guest's time in a room.
func (p *place) history() string {
	if p.member {
		return ""
	}
	var got []uint64
	for _, rs := range p.got {
		got = append(got, rs[0].seq)
	}
	slices.Sort(got)
	return fmt.Sprintf(", as a guest who was there %v and got %v", p.stays, got)
}

// numbers returns the event numbers of messages, on which all must agree: a
// message under two numbers was accepted twice, two under one are a fork.
func (b *book) numbers(v *verdict) map[string]uint64 {
	at := make(map[string]uint64)
	taken := make(map[string]string)
	for who, p := range b.places {
		for m, rs := range p.got {
			if e := b.entries[m]; e == nil || e.room != who[0] {
				v.other = append(v.other, fmt.Sprintf("%s got a message in %s that nobody sent there", who[1], who[0]))
				continue
			}
			for _, r := range rs {
				if s, ok := at[m]; ok && s != r.seq {
					v.duplicated = append(v.duplicated, fmt.Sprintf("%s is event %d and %d", m, s, r.seq))
				}
				at[m] = r.seq
				k := fmt.Sprint(who[0], " ", r.seq)
				if o, ok := taken[k]; ok && o != m {
					v.disorder = append(v.disorder, fmt.Sprintf("event %d of %s is two messages", r.seq, who[0]))
				}
				taken[k] = m
			}
		}
	}
	return at
}

// senders checks that the messages of each sender arrived in the order of their
// numbers: it sends the next one after the last, whatever became of that.
func (b *book) senders(v *verdict) {
	for who, p := range b.places {
		last := make(map[string]int)
		for _, m := range p.order {
			e := b.entries[m]
			if e == nil {
				continue
			}
			if n, ok := last[e.from]; ok && e.number <= n {
				v.disorder = append(v.disorder, fmt.Sprintf("%s got %s after number %d", who[1], m, n))
			}
			last[e.from] = max(last[e.from], e.number)
		}
	}
}

// linearizable checks with porcupine that each room is one log: that accepted
// messages, each put into it at a moment between the beginning and the end of its
// call, and what members saw of it, can have come about in the order of the log.
func (b *book) linearizable(v *verdict, at map[string]uint64) {
	rooms := make(map[string][]string)
	for m := range at {
		rooms[b.entries[m].room] = append(rooms[b.entries[m].room], m)
	}
	first := make(map[string]time.Time) // when a message was seen
	for _, p := range b.places {
		for m, rs := range p.got {
			if t, ok := first[m]; !ok || rs[0].at.Before(t) {
				first[m] = rs[0].at
			}
		}
	}
	type in struct {
		see   bool
		place int // in the log
	}
	log := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, _ any) (bool, any) {
			switch n, i := state.(int), input.(in); {
			case i.see:
				return n >= i.place, n
			default:
				return n+1 == i.place, i.place
			}
		},
	}
	for name, ms := range rooms {
		slices.SortFunc(ms, func(x, y string) int { return cmp.Compare(at[x], at[y]) })
		var ops []porcupine.Operation
		for i, m := range ms {
			e := b.entries[m]
			end := int64(math.MaxInt64)
			if !e.accepted.IsZero() {
				end = e.accepted.UnixNano()
			}
			seen := first[m].UnixNano()
			ops = append(ops, porcupine.Operation{ClientId: i, Input: in{place: i + 1}, Call: e.begun.UnixNano(), Return: end},
				porcupine.Operation{ClientId: i, Input: in{see: true, place: i + 1}, Call: seen, Return: seen})
		}
		if r := porcupine.CheckOperationsTimeout(log, ops, checkTime); r == porcupine.Illegal {
			v.disorder = append(v.disorder, name+" is not linearizable")
		}
	}
}
