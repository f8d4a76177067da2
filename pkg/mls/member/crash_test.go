package member_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

var errCrash = errors.New("crash")

// disk is what a client has after a crash: one record that is written as a
// whole, as the package's documentation asks for.
type disk struct {
	public, private []byte
	outbox          [][]byte // not known to have arrived
	cursor          int      // entries of the log that were processed
	read            []string
}

// cutter ends the process at one write: before it, or right after.
type cutter struct {
	writes, at int
	after      bool
	crashed    bool
}

// post keeps the order of messages: a server that follows the group and takes
// one commit an epoch. It never crashes, and what it took is in the log.
type post struct {
	server *mls.PublicGroup
	log    []entry
}

type entry struct {
	from *device
	msg  []byte
}

// device is a client that does everything in the order compute, store, adopt,
// send, retire, and can be cut at each write.
type device struct {
	c    *mlstest.Client
	post *post
	cut  *cutter
	disk disk
	sent *ledger

	// In memory; lost in a crash.
	group *member.Group
	now   disk
}

// ledger notes what left the devices: the texts, and the keys that encrypted
// them, which the sender data tell to whoever knows the epoch's secret.
type ledger struct {
	t          *testing.T
	texts      []string
	senderData map[mls.Epoch]suite.Secret
	keys       map[string][]byte // epoch, leaf, ratchet, generation -> ciphertext
}

// store writes a record, or crashes.
func (d *device) store(g *member.Group, next disk) error {
	next.public, next.private = mlstest.State(d.c.W.T, g)
	d.cut.writes++
	crash := d.cut.writes == d.cut.at
	if !crash || d.cut.after {
		d.disk = next
		d.disk.outbox, d.disk.read = slices.Clone(next.outbox), slices.Clone(next.read)
	}
	if crash {
		d.cut.crashed = true
		return errCrash
	}
	if g != d.group {
		d.group.Retire(g) // What it shares with the next state stays.
	}
	d.group, d.now = g, next
	return nil
}

// start loads what the disk has, and sends what may not have arrived.
func (d *device) start() error {
	g, err := d.c.Load(d.disk.public, d.disk.private)
	if err != nil {
		return fmt.Errorf("loading after a crash: %w", err)
	}
	d.group, d.now = g, d.disk
	d.sent.learn(d)
	return d.flush()
}

// flush sends the outbox. A refused message is somebody's lost race.
func (d *device) flush() error {
	for len(d.now.outbox) > 0 {
		msg := d.now.outbox[0]
		d.sent.note(d, msg)
		d.post.take(d, msg)
		next := d.now
		next.outbox = next.outbox[1:]
		if err := d.store(d.group, next); err != nil {
			return err
		}
	}
	return nil
}

// take appends a message to the log if the server accepts it. Application
// messages are accepted always, the same one twice as well.
func (p *post) take(from *device, msg []byte) {
	if m, err := wire.ParseMessage(msg, nil); err != nil || m.Public != nil {
		next, _, err := p.server.Process(msg, mlstest.Now)
		if err != nil {
			return
		}
		p.server = next
	}
	p.log = append(p.log, entry{from, msg})
}

// note checks that no key encrypts two plaintexts.
func (l *ledger) note(d *device, msg []byte) {
	m, err := wire.ParseMessage(msg, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	if m.Private == nil {
		return
	}
	s, known := l.senderData[m.Private.Epoch]
	if !known {
		l.t.Fatalf("a message of epoch %d, which nobody reached", m.Private.Epoch)
	}
	sd, err := secret.OpenSenderData(suite.Get(1), s, m.Private)
	if err != nil {
		l.t.Fatal(err)
	}
	key := fmt.Sprint(m.Private.Epoch, sd.Leaf, m.Private.ContentType == wire.ContentApplication, sd.Generation)
	if before, used := l.keys[key]; used && !bytes.Equal(before, m.Private.Ciphertext) {
		l.t.Fatalf("%s: epoch, leaf, ratchet and generation %s encrypt two messages", d.c.Name, key)
	}
	l.keys[key] = m.Private.Ciphertext
}

// learn notes the secret that tells the keys of the current epoch's messages.
func (l *ledger) learn(d *device) {
	d.c.Group = d.group
	l.senderData[d.group.Epoch()] = d.c.Lawless().Secrets.SenderData.Clone()
}

// sync processes the log up to its end, one write an entry.
func (d *device) sync() error {
	for d.now.cursor < len(d.post.log) {
		e, next := d.post.log[d.now.cursor], d.now
		next.cursor++
		g := d.group
		var refusal *mls.Refusal
		after, event, err := d.group.Process(e.msg)
		switch {
		case errors.Is(err, member.ErrOwnCommit):
			if g, _, err = d.group.Confirm(); err != nil {
				return err
			}
		case err == nil:
			g = after
			if event.Kind == mls.KindApplication {
				next.read = append(slices.Clone(next.read), string(event.Data))
			}
		case errors.As(err, &refusal) && (e.from == d || refusal.Class == mls.ClassReplay):
			// Its own message, or one that was sent again after a crash.
		default:
			return fmt.Errorf("%s: entry %d of the log: %w", d.c.Name, d.now.cursor, err)
		}
		epoch := d.group.Epoch()
		if err := d.store(g, next); err != nil {
			return err
		}
		if d.group.Epoch() != epoch {
			d.sent.learn(d)
		}
	}
	return nil
}

// act does one step: it says something, proposes, commits, gives a commit up,
// or reads. What is refused for the group's state is left out.
func (d *device) act(what int, text string) error {
	var next *member.Group
	var msg []byte
	var err error
	switch what {
	case 0, 1:
		next, msg, err = d.group.Send([]byte(text), member.SendOptions{})
	case 2:
		next, msg, err = d.group.ProposeUpdate(nil, member.SendOptions{Private: false})
	case 3, 4:
		var staged *member.Staged
		if next, staged, err = d.group.Stage(member.CommitOptions{}); err == nil {
			msg = staged.Commit()
		}
	default:
		return d.sync()
	}
	if errors.Is(err, member.ErrCommitFirst) || errors.Is(err, member.ErrPending) {
		return d.sync()
	}
	if err != nil {
		return err
	}
	record := d.now
	record.outbox = append(slices.Clone(record.outbox), msg)
	err = d.store(next, record)
	if what < 2 && (err == nil || d.cut.after) {
		d.sent.texts = append(d.sent.texts, text) // Stored: from now on it must arrive.
	}
	if err != nil {
		return err
	}
	return d.flush()
}

// TestCrashAtEveryWrite runs a script of sends, proposals, commits, lost races
// and reads by three devices, and cuts it before and after each of its writes.
// Whatever the cut, no key is used twice, no epoch and no message is lost.
func TestCrashAtEveryWrite(t *testing.T) {
	steps := 24
	if testing.Short() || raceEnabled {
		steps = 12
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	writes := crashScript(t, seed, steps, &cutter{})
	if writes < steps {
		t.Fatalf("a script of %d steps writes %d times", steps, writes)
	}
	crashes := 0
	for at := 1; at <= writes; at++ {
		for _, after := range []bool{false, true} {
			c := &cutter{at: at, after: after}
			crashScript(t, seed, steps, c)
			if c.crashed {
				crashes++
			}
		}
	}
	if crashes < 2*writes*9/10 {
		t.Errorf("%d crashes at %d writes", crashes, writes)
	}
}

// crashScript returns how often the script wrote.
func crashScript(t *testing.T, seed uint64, steps int, cut *cutter) int {
	t.Helper()
	w := mlstest.NewWorld(t, 1, 3)
	p := &post{server: w.Server}
	l := &ledger{t: t, senderData: map[mls.Epoch]suite.Secret{}, keys: map[string][]byte{}}
	var ds []*device
	for _, c := range w.Clients {
		d := &device{c: c, post: p, cut: cut, sent: l, group: c.Group}
		d.disk.public, d.disk.private = mlstest.State(t, c.Group)
		d.now = d.disk
		ds = append(ds, d)
	}
	l.learn(ds[0])
	do := func(d *device, f func() error) {
		t.Helper()
		err := f()
		for errors.Is(err, errCrash) {
			err = d.start()
		}
		if err != nil {
			t.Fatalf("cut at write %d, after %v: %s: %v", cut.at, cut.after, d.c.Name, err)
		}
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for step := range steps {
		d, what := ds[r.IntN(len(ds))], r.IntN(8)
		do(d, func() error { return d.act(what, fmt.Sprintf("step %d", step)) })
		if what := r.IntN(3); what > 0 {
			other := ds[r.IntN(len(ds))]
			do(other, other.sync)
		}
	}
	written := cut.writes
	cut.at = 0
	for range 2 { // The second time for what the first one's flush sent.
		for _, d := range ds {
			do(d, d.flush)
			do(d, d.sync)
		}
	}
	settled(t, cut, l, ds)
	return written
}

// settled requires that all devices are in the server's epoch, have read every
// text once, and go on from there.
func settled(t *testing.T, cut *cutter, l *ledger, ds []*device) {
	t.Helper()
	where := fmt.Sprintf("cut after write %d: %v", cut.at, cut.after)
	for _, d := range ds {
		if !bytes.Equal(d.group.EpochAuthenticator(), ds[0].group.EpochAuthenticator()) || d.group.Epoch() != d.post.server.Epoch() {
			t.Fatalf("%s: %s is in epoch %d, the server in %d", where, d.c.Name, d.group.Epoch(), d.post.server.Epoch())
		}
		if _, ok := d.group.Pending(); ok {
			t.Fatalf("%s: %s waits for a commit that was decided", where, d.c.Name)
		}
	}
	count := map[string]int{}
	for _, d := range ds {
		for _, text := range d.now.read {
			count[text]++
		}
	}
	for _, text := range l.texts {
		if count[text] != len(ds)-1 {
			t.Fatalf("%s: %q was read %d times", where, text, count[text])
		}
		delete(count, text)
	}
	if len(count) > 0 {
		t.Fatalf("%s: texts that nobody sent: %v", where, count)
	}
	for i, d := range ds {
		if err := d.act(3, ""); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		for _, other := range ds {
			if err := other.sync(); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
		}
		text := fmt.Sprintf("end %d", i)
		if err := d.act(0, text); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		for _, other := range ds {
			if err := other.sync(); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			if other != d && other.now.read[len(other.now.read)-1] != text {
				t.Fatalf("%s: %s did not read on", where, other.c.Name)
			}
		}
	}
}
