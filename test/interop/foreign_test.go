package interop_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTSMLSAlone follows, as our hub, a group of which every member is ts-mls:
// the hub has nobody of its own to learn from.
func TestTSMLSAlone(t *testing.T) {
	for suite := 1; suite <= 3; suite++ {
		t.Run(fmt.Sprint(suite), func(t *testing.T) {
			t.Parallel()
			leaf := object{"cap_exts": []int{61604, 61605}, "leaf_exts": []object{{"type": 61604, "data": "beef"}}}
			p, q := startTSMLS(t), startTSMLS(t)
			a := &client{p: p, name: "a", suite: suite, leaf: leaf}
			b := &client{p: q, name: "b", suite: suite, leaf: leaf}
			c := &client{p: p, name: "c", suite: suite, leaf: leaf}
			d := &client{p: q, name: "d", suite: suite, leaf: leaf}
			hub := &client{p: start(t, mlspeer), name: "hub"}
			a.ok("create", object{"group_id": groupID, "gc_exts": []object{{"type": 61605, "data": "01"}}})
			hub.ok("hub_create", object{"group_info": a.ok("group_info")["group_info"]})
			in := []*client{a}
			deliver := func(from *client, message any) {
				t.Helper()
				for _, other := range in {
					if other != from {
						other.ok("process", object{"message": message})
					}
				}
				hub.ok("hub_process", object{"message": message})
				agree(t, in...)
				state, seen := in[0].ok("info"), hub.ok("hub_info")
				for _, f := range []string{"epoch", "tree_hash", "confirmed_transcript_hash", "gc_exts", "members"} {
					if diff := cmp.Diff(state[f], seen[f]); diff != "" {
						t.Fatalf("the hub differs in %s: %s", f, diff)
					}
				}
			}
			for _, new := range []*client{b, c} {
				w := a.ok("commit", object{"add": []any{new.ok("key_package")["key_package"]}})
				deliver(a, w["commit"])
				new.ok("join", object{"welcome": w["welcome"]})
				in = append(in, new)
			}
			for _, by := range []*client{a, b, c} {
				deliver(by, by.ok("commit", object{"aad": "abcd"})["commit"])
			}
			p2 := b.ok("propose", object{"remove": "c"})
			deliver(b, p2["message"])
			in = []*client{a, b}
			deliver(a, a.ok("commit")["commit"])
			// Joining from outside with what the hub serves.
			hub.ok("hub_group_info", object{"group_info": b.ok("group_info")["group_info"]})
			served := hub.ok("hub_group_info")
			join := d.ok("external_join", object{"group_info": served["group_info"], "ratchet_tree": served["ratchet_tree"], "aad": "0d"})
			deliver(d, join["commit"])
			in = append(in, d)
			deliver(d, d.ok("commit")["commit"])
		})
	}
}
