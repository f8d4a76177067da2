package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// ErrFault is what calls fail with at a Failpoint.
var ErrFault = errors.New("queuetest: injected fault")

// writes are the methods of queue.Store and kv.Store that change something.
var writes = []string{"Create", "Delete", "AppendBatch", "Ack", "Apply"}

// Failpoint makes one write fail, counted over all stores that share it:
//
//	p := &queuetest.Failpoint{N: 3}
//	q := queuetest.Faulty(queues, p.Fault)
//	k := kvtest.Faulty(records, p.Fault)
//
// It is the means to show that a path of several writes can be cut anywhere; Walk
// cuts it everywhere.
type Failpoint struct {
	// N is the write that fails, from 1. 0 means none: writes are only counted.
	N int
	// Persist says that it is carried out all the same, so that the failure is one of
	// the answer only.
	Persist bool
	// Halt says that every later call fails too, reads included, and does nothing,
	// until Heal: as for a process that crashed or lost its store.
	Halt bool

	mu     sync.Mutex // guards all below
	ops    []string
	hit    bool
	healed bool
}

// Fault is for Faulty of this package and of kvtest.
func (p *Failpoint) Fault(op string) (apply bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hit && p.Halt && !p.healed {
		return false, ErrFault
	}
	if !slices.Contains(writes, op) {
		return true, nil
	}
	p.ops = append(p.ops, op)
	if len(p.ops) != p.N {
		return true, nil
	}
	p.hit = true
	return p.Persist, ErrFault
}

// Hit reports whether the write was reached.
func (p *Failpoint) Hit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hit
}

// Heal ends Halt: the process has started again, the store is back.
func (p *Failpoint) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.healed = true
}

// Writes names the writes that were tried, in order.
func (p *Failpoint) Writes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ops)
}

// String names the failpoint for a test.
func (p *Failpoint) String() string {
	if p.N == 0 {
		return "none"
	}
	s := fmt.Sprintf("write %d ", p.N)
	if p.Persist {
		s += "ButPersist"
	} else {
		s += "AndNotPersist"
	}
	if p.Halt {
		s += "AndHalt"
	}
	return s
}

// mostWrites bounds a walk: a path that repeats itself for ever does not end it.
const mostWrites = 1000

// Walk calls run, in a subtest each, without a fault; then with every write of run
// failing that there is, before and after it was carried out, alone and with all
// that follows. run makes its own stores, takes the path, repairs it in the way it
// promises (repeats a call, starts again after Heal, sweeps) and asserts that the
// outcome is right.
func Walk(t *testing.T, run func(t *testing.T, p *Failpoint)) {
	t.Helper()
	none := new(Failpoint)
	if !t.Run(none.String(), func(t *testing.T) { run(t, none) }) {
		return
	}
	if len(none.Writes()) == 0 {
		t.Error("there is no write: the stores do not ask the failpoint")
	}
	for kind := range 4 {
		for n := 1; ; n++ {
			if n > mostWrites {
				t.Fatal("there is no end to the writes")
			}
			p := &Failpoint{N: n, Persist: kind%2 == 1, Halt: kind >= 2}
			name := p.String()
			if w := none.Writes(); n <= len(w) {
				name += " " + w[n-1]
			}
			t.Run(name, func(t *testing.T) { run(t, p) })
			if !p.Hit() { // behind the last write
				break
			}
		}
	}
}
