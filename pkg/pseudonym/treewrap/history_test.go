package treewrap_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

// history is a room with a hub and members who join, leave, write, miss deltas
// and refresh at random. Every member keeps what a greedy client would keep, so
// that removed members can play the attacker of SPEC.md §7.
type history struct {
	t       *rapid.T
	gid     []byte
	epoch   uint64
	rs      []primitive.Secret // R by epoch
	leaves  []treewrap.Leaf
	truth   map[uint32]primitive.Secret // link key of the credential at each leaf
	links   []pseudonym.RoomLink
	key     *primitive.KEMPrivateKey // of the link
	hub     *treewrap.State
	members map[uint32]*member
	gone    []*member
	stored  []treewrap.Node // every ciphertext the hub ever had
}

type member struct {
	leaf     uint32
	view     *treewrap.View // nil until it can read
	pending  map[uint32]primitive.Secret
	from, to uint64 // epochs whose R it knows: from <= e < to
	keys     map[uint32][]primitive.Secret
	seen     map[string]bool // link keys it ever held
}

func (h *history) newMember(leaf uint32) *member {
	m := &member{leaf: leaf, pending: map[uint32]primitive.Secret{}, from: h.epoch, to: 1 << 62, keys: map[uint32][]primitive.Secret{}, seen: map[string]bool{}}
	m.hold(h.truth[leaf])
	h.members[leaf] = m
	return m
}

func (m *member) hold(p primitive.Secret) { m.seen[string(p.Bytes())] = true }

// adopt takes a view over and remembers everything in it.
func (m *member) adopt(v *treewrap.View) {
	m.view = v
	for y, k := range v.Keys() {
		if !slices.ContainsFunc(m.keys[y], k.Equal) {
			m.keys[y] = append(m.keys[y], k.Clone())
		}
	}
	for i, p := range v.Payloads() {
		m.hold(p)
		delete(m.pending, i)
	}
}

func (h *history) r() primitive.Secret { return h.rs[h.epoch] }

func (h *history) newEpoch() {
	h.epoch++
	h.rs = append(h.rs, primitive.NewSecret())
	for i := range h.leaves {
		h.leaves[i].Added = false
	}
}

func (h *history) place(added bool) uint32 {
	i := uint32(slices.IndexFunc(h.leaves, func(l treewrap.Leaf) bool { return !l.Present }))
	if int32(i) < 0 {
		i = uint32(len(h.leaves))
		h.leaves = append(h.leaves, treewrap.Leaf{})
	}
	h.leaves[i] = treewrap.Leaf{Present: true, Hash: randomHash(), Rule: pseudonym.KeyRequired, Added: added}
	h.truth[i] = primitive.NewSecret()
	return i
}

func (h *history) remove(i uint32) {
	m := h.members[i]
	m.to = h.epoch // called after newEpoch: this one's R is not the member's
	h.gone = append(h.gone, m)
	delete(h.members, i)
	delete(h.truth, i)
	h.leaves[i] = treewrap.Leaf{}
	for _, o := range h.members {
		delete(o.pending, i)
	}
}

// order returns the leaves of all members, ascending: what is drawn must not
// depend on the order of a map.
func (h *history) order() []uint32 { return slices.Sorted(maps.Keys(h.members)) }

// readers returns the leaves of members with the hub's current state,
// ascending.
func (h *history) readers() []uint32 {
	var v []uint32
	for _, i := range h.order() {
		if m := h.members[i]; m.view != nil && m.view.State().ID() == h.hub.ID() {
			v = append(v, i)
		}
	}
	return v
}

// publish lets the hub check a delta and the others apply it, unless they miss
// it; the writer has next.
func (h *history) publish(writer *member, d *treewrap.Delta, next *treewrap.View, refresh bool) {
	b, _ := d.AppendBinary(nil)
	d, err := treewrap.ParseDelta(b)
	if err != nil {
		h.t.Fatalf("delta does not parse: %v", err)
	}
	var state *treewrap.State
	if refresh {
		state, _, err = h.hub.Refresh(h.epoch, h.leaves, h.links, d)
	} else {
		state, err = h.hub.Commit(h.epoch, h.leaves, h.links, d)
	}
	if err != nil {
		h.t.Fatalf("the hub refuses: %v", err)
	}
	old := h.hub
	h.hub = state
	h.stored = append(h.stored, d.Nodes...)
	writer.adopt(next)
	for _, i := range h.order() {
		m := h.members[i]
		if m == writer || m.view == nil || m.view.State().ID() != old.ID() {
			continue
		}
		if rapid.IntRange(0, 9).Draw(h.t, fmt.Sprintf("member %d misses", i)) == 0 {
			continue
		}
		v, err := m.view.Apply(h.r(), h.leaves, h.links, d)
		if err != nil {
			h.t.Fatalf("member %d cannot apply: %v", i, err)
		}
		m.adopt(v)
	}
}

// write lets a member write what it knows.
func (h *history) write(m *member, refresh bool) bool {
	known := map[uint32]primitive.Secret{m.leaf: h.truth[m.leaf]}
	maps.Copy(known, m.pending)
	w := treewrap.Write{
		Epoch: h.epoch, R: h.r(), Leaves: h.leaves, Links: h.links, Known: known,
		Full: rapid.IntRange(0, 9).Draw(h.t, "full") == 0,
	}
	if rapid.Bool().Draw(h.t, "refresh own leaf") {
		w.Refresh = []uint32{m.leaf}
	}
	d, next, err := m.view.Write(w)
	if err != nil {
		h.t.Fatalf("writing: %v", err)
	}
	if refresh && h.hub.Epoch() == h.epoch && len(h.hub.Touched(h.leaves)) == len(d.Unresolved) && !w.Full {
		return false // nobody needs it
	}
	h.publish(m, d, next, refresh)
	return true
}

// commit is a member's commit with Adds, Removes and perhaps a new credential.
func (h *history) commit(readers []uint32) {
	m := h.members[rapid.SampledFrom(readers).Draw(h.t, "committer")]
	adds := rapid.IntRange(0, 2).Draw(h.t, "adds")
	removes := rapid.IntRange(0, 2).Draw(h.t, "removes")
	replace := rapid.IntRange(0, 3).Draw(h.t, "replace") == 0
	h.newEpoch()
	for range removes {
		others := slices.DeleteFunc(h.order(), func(i uint32) bool { return i == m.leaf })
		if len(others) == 0 {
			break
		}
		h.remove(rapid.SampledFrom(others).Draw(h.t, "removed"))
	}
	if replace {
		h.leaves[m.leaf].Hash = randomHash()
		h.truth[m.leaf] = primitive.NewSecret()
		m.hold(h.truth[m.leaf])
	}
	for range adds {
		i := h.place(true)
		m.pending[i] = h.truth[i] // the adder derives it from the connection key
		h.newMember(i)
	}
	if adds == 0 && !replace && rapid.Bool().Draw(h.t, "without delta") {
		return
	}
	h.write(m, false)
}

// join is an external commit: by link with a delta, or pending with a
// joiner_link that most members open.
func (h *history) join(byLink bool) {
	i := h.place(false)
	h.newEpoch()
	j := h.newMember(i)
	if byLink && h.hub != nil {
		top, err := h.hub.OpenTop(h.gid, h.links[0].ID, h.key)
		if err != nil {
			h.t.Fatalf("opening the link: %v", err)
		}
		v, err := treewrap.ReadTop(h.gid, h.hub, top)
		if err != nil {
			h.t.Fatalf("reading by link: %v", err)
		}
		j.adopt(v)
		h.write(j, false)
		return
	}
	for _, k := range h.order() {
		if m := h.members[k]; m != j && rapid.IntRange(0, 4).Draw(h.t, fmt.Sprintf("member %d opens joiner_link", k)) != 0 {
			m.pending[i] = h.truth[i]
			m.hold(h.truth[i])
		}
	}
}

// fetch lets members without the current state read it, if they know R_w.
func (h *history) fetch() {
	b, _ := h.hub.AppendBinary(nil)
	state, err := treewrap.ParseState(b)
	if err != nil {
		h.t.Fatalf("state does not parse: %v", err)
	}
	for i, m := range h.members {
		if m.view != nil && m.view.State().ID() == h.hub.ID() || h.hub.Epoch() < m.from {
			continue
		}
		v, err := treewrap.Read(h.gid, state, h.rs[h.hub.Epoch()])
		if err != nil {
			h.t.Fatalf("member %d cannot read: %v", i, err)
		}
		m.adopt(v)
	}
}

// check compares every reader with the truth.
func (h *history) check() {
	for i, m := range h.members {
		if m.view == nil || m.view.State().ID() != h.hub.ID() {
			continue
		}
		occupied := h.hub.Occupied()
		if len(m.view.Payloads()) != len(occupied) {
			h.t.Fatalf("member %d knows %d of %d payloads", i, len(m.view.Payloads()), len(occupied))
		}
		for _, l := range occupied {
			bound, _ := h.hub.Bound(l)
			if !h.leaves[l].Present || h.leaves[l].Hash != bound {
				continue // replaced or removed by a commit without delta
			}
			if p, _ := m.view.Payload(l); !p.Equal(h.truth[l]) {
				h.t.Fatalf("member %d has a wrong payload for leaf %d", i, l)
			}
		}
	}
}

// attack gives a removed member everything it ever held and everything the hub
// ever stored, and opens what opens.
func (h *history) attack(m *member) {
	keys := m.keys
	for grew := true; grew; {
		grew = false
		for _, n := range h.stored {
			candidates := slices.Clone(keys[n.Index])
			for e := m.from; e < m.to && e < uint64(len(h.rs)); e++ {
				candidates = append(candidates, treewrap.NodeKey(h.rs[e], n.Index))
			}
			for _, k := range candidates {
				pt, err := n.Open(h.gid, k)
				if err != nil {
					continue
				}
				if len(pt) == primitive.SecretSize {
					if n.Epoch < m.to { // it was a member, even if it missed the delta
						m.seen[string(pt)] = true
					} else if !m.seen[string(pt)] {
						h.t.Fatalf("a removed member opens a payload written in epoch %d; it left before %d", n.Epoch, m.to)
					}
					continue
				}
				// A parent's content is two keys for nodes somewhere below.
				for half := range 2 {
					s, _ := primitive.ParseSecret(pt[32*half : 32*half+32])
					for _, o := range h.stored {
						if o.Index != n.Index && !slices.ContainsFunc(keys[o.Index], s.Equal) {
							if _, err := o.Open(h.gid, s); err == nil {
								keys[o.Index] = append(keys[o.Index], s)
								grew = true
							}
						}
					}
				}
			}
		}
	}
}

// TestHistories runs random histories: every reader agrees with the truth after
// every step, and removed members open nothing that they had not held.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{
			t: t, gid: make([]byte, 32), rs: []primitive.Secret{primitive.NewSecret()}, truth: map[uint32]primitive.Secret{}, members: map[uint32]*member{},
		}
		seed := primitive.NewSecret()
		h.links = []pseudonym.RoomLink{pseudonym.NewRoomLink([16]byte{1}, seed, h.gid, 1)}
		h.key = pseudonym.JoinKey(seed, h.gid)
		creator := h.newMember(h.place(false))
		creator.hold(h.truth[creator.leaf])
		creator.view = treewrap.New(h.gid)
		h.write(creator, false)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			readers := h.readers()
			if len(readers) == 0 {
				// Everybody who could read has left: the link is what remains.
				h.join(true)
				continue
			}
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				h.join(true)
			case 1:
				h.join(false)
			case 2, 3:
				h.write(h.members[rapid.SampledFrom(readers).Draw(t, "refresher")], true)
			default:
				h.commit(readers)
			}
			h.check()
			if rapid.IntRange(0, 2).Draw(t, "fetch") == 0 {
				h.fetch()
				h.check()
			}
		}
		for i, m := range h.gone {
			if i < 3 {
				h.attack(m)
			}
		}
	})
}

// TestAttackerIsReal makes sure that the attack of TestHistories finds
// something where there is something: a removed member opens the state of its
// own time.
func TestAttackerIsReal(t *testing.T) {
	w := newRoom(t, 4)
	opened := 0
	for _, n := range w.hub.Nodes() {
		if pt, err := n.Open(w.gid, treewrap.NodeKey(w.r, n.Index)); err == nil && len(pt) == primitive.SecretSize {
			opened++
		}
	}
	if opened != 4 {
		t.Errorf("opened %d payloads", opened)
	}
	if _, err := w.hub.Nodes()[0].Open(w.gid, primitive.NewSecret()); !errors.Is(err, primitive.ErrOpen) {
		t.Errorf("random key: %v", err)
	}
}
