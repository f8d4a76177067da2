package interop_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// random is a group whose members do random things. The hub follows it as long
// as handshakes are public.
type random struct {
	t       *testing.T
	r       *rand.Rand
	procs   []*process
	suite   int
	private bool
	serial  int
	members []*client
	hub     *client
	held    []heldMessage
}

// heldMessage is an application message that some members have not read yet.
type heldMessage struct {
	message any
	data    string
	epoch   int
	readers []*client
}

// TestRandomRun does 200 random steps from each seed, with reloads between any
// two.
func TestRandomRun(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := &random{t: t, r: rand.New(rand.NewPCG(seed, 9420)), private: seed%2 == 1, suite: 1 + int(seed)%3} //nolint:gosec // Reproducible.
			w.procs = []*process{start(t, mlspeer), start(t, mlspeer)}
			founder := w.newClient()
			founder.ok("create", object{"group_id": groupID})
			w.members = []*client{founder}
			if !w.private {
				w.hub = &client{p: w.procs[0], name: "hub"}
				w.hub.ok("hub_create", object{"group_info": founder.ok("group_info")["group_info"]})
			}
			for range 200 {
				w.step()
			}
		})
	}
}

func (w *random) newClient() *client {
	w.serial++
	return &client{
		p: w.procs[w.r.IntN(len(w.procs))], name: fmt.Sprintf("client-%d", w.serial), suite: w.suite,
		leaf: object{"cap_exts": []int{61604}, "leaf_exts": []object{{"type": 61604, "data": fmt.Sprintf("%04x", w.serial)}}},
	}
}

func (w *random) any() *client { return w.members[w.r.IntN(len(w.members))] }

func (w *random) step() {
	w.t.Helper()
	w.any().ok("reload")
	if w.hub != nil && w.r.IntN(3) == 0 {
		w.hub.ok("hub_reload")
	}
	switch n := w.r.IntN(12); {
	case n < 2 && len(w.members) < 8 || len(w.members) == 1:
		w.add()
	case n == 2 && len(w.members) < 8:
		w.join(w.newClient(), object{})
	case n == 3:
		c := w.any()
		w.drop(c)
		w.join(c, object{"resync": true})
	case n == 4 && len(w.members) > 2:
		w.remove()
	case n == 5:
		w.propose()
	case n == 6:
		w.race()
	case n == 7:
		c := w.any()
		w.commit(c, object{"gce": []object{{"type": 61604, "data": fmt.Sprintf("%02x", w.r.IntN(256))}}, "aad": "aa"})
	case n < 10:
		w.say()
	case n == 10:
		w.read()
	default:
		w.commit(w.any(), object{})
	}
	agree(w.t, w.members...)
	if w.hub != nil {
		state, hub := w.any().ok("info"), w.hub.ok("hub_info")
		for _, f := range []string{"epoch", "tree_hash", "confirmed_transcript_hash", "gc_exts", "members"} {
			if diff := cmp.Diff(state[f], hub[f]); diff != "" {
				w.t.Fatalf("the hub differs in %s: %s", f, diff)
			}
		}
	}
}

// deliver gives a handshake to all but its sender, and to the hub.
func (w *random) deliver(from *client, message any) {
	w.t.Helper()
	for _, c := range w.members {
		if c != from {
			c.ok("process", object{"message": message})
		}
	}
	if w.hub != nil {
		w.hub.ok("hub_process", object{"message": message})
	}
}

// commit stages, reloads, and confirms or commits at once.
func (w *random) commit(c *client, fields object) object {
	w.t.Helper()
	fields["private"] = w.private
	stage := w.r.IntN(2) == 0
	fields["stage"] = stage
	a := c.ok("commit", fields)
	if stage {
		c.ok("reload")
	}
	w.deliver(c, a["commit"])
	if stage {
		c.ok("confirm")
	}
	return a
}

func (w *random) add() {
	w.t.Helper()
	var kps []any
	var joiners []*client
	for range 1 + w.r.IntN(3) {
		c := w.newClient()
		kps = append(kps, c.ok("key_package")["key_package"])
		joiners = append(joiners, c)
	}
	noTree := w.r.IntN(2) == 0
	a := w.commit(w.any(), object{"add": kps, "no_tree": noTree})
	for _, c := range joiners {
		c.ok("reload")
		fields := object{"welcome": a["welcome"]}
		if noTree {
			fields["ratchet_tree"] = a["ratchet_tree"]
		}
		c.ok("join", fields)
	}
	w.members = append(w.members, joiners...)
}

func (w *random) join(c *client, fields object) {
	w.t.Helper()
	helper := w.any()
	info := helper.ok("group_info", object{"no_tree": true})
	fields["group_info"], fields["ratchet_tree"] = info["group_info"], info["ratchet_tree"]
	if w.hub != nil {
		w.hub.ok("hub_group_info", object{"group_info": info["group_info"]})
		served := w.hub.ok("hub_group_info")
		fields["group_info"], fields["ratchet_tree"] = served["group_info"], served["ratchet_tree"]
	}
	stage := w.r.IntN(2) == 0
	fields["stage"] = stage
	a := c.ok("external_join", fields)
	w.deliver(c, a["commit"])
	if stage {
		c.ok("reload")
		c.ok("confirm")
	}
	if !slices.Contains(w.members, c) {
		w.members = append(w.members, c)
	}
}

func (w *random) remove() {
	w.t.Helper()
	by, out := w.any(), w.any()
	if by == out {
		return
	}
	w.commit(by, object{"remove": []any{out.name}})
	if s := out.ok("info"); s.str("status") != "removed" {
		w.t.Fatalf("%s is not removed", out.name)
	}
	w.members = slices.DeleteFunc(w.members, func(c *client) bool { return c == out })
	w.drop(out)
}

// drop forgets that a client still had messages to read.
func (w *random) drop(c *client) {
	for i := range w.held {
		w.held[i].readers = slices.DeleteFunc(w.held[i].readers, func(o *client) bool { return o == c })
	}
}

// propose lets one member propose and another commit.
func (w *random) propose() {
	w.t.Helper()
	from, by := w.any(), w.any()
	p := object{"update": true}
	switch {
	case w.r.IntN(2) == 0:
		p = object{"gce": []object{{"type": 61604, "data": "99"}}}
	case from == by:
		return // Nobody commits an own Update.
	}
	p["private"] = w.private
	a := from.ok("propose", p)
	w.deliver(from, a["message"])
	w.commit(by, object{})
}

// race lets two members stage; the second one's commit wins.
func (w *random) race() {
	w.t.Helper()
	loser, winner := w.any(), w.any()
	loser.ok("commit", object{"stage": true, "private": w.private})
	if loser == winner {
		loser.ok("discard")
		return
	}
	w.commit(winner, object{})
}

func (w *random) say() {
	w.t.Helper()
	from := w.any()
	for range 1 + w.r.IntN(4) {
		data := fmt.Sprintf("%08x", w.r.Uint32())
		a := from.ok("send", object{"data": data})
		m := heldMessage{message: a["message"], data: data, epoch: from.ok("info").num("epoch")}
		for _, c := range w.members {
			if c != from {
				m.readers = append(m.readers, c)
			}
		}
		w.held = append(w.held, m)
	}
}

// read lets everybody read what is held, newest first, if it is young enough.
func (w *random) read() {
	w.t.Helper()
	now := w.any().ok("info").num("epoch")
	for _, m := range slices.Backward(w.held) {
		for _, c := range m.readers {
			if now-m.epoch > 3 {
				c.refused("stale", "process", object{"message": m.message})
				continue
			}
			if got := c.ok("process", object{"message": m.message}); got.str("data") != m.data {
				w.t.Fatal("another message")
			}
			c.refused("replay", "process", object{"message": m.message})
		}
	}
	w.held = nil
}
