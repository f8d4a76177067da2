package interop_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var tsmlsReady = sync.OnceValue(func() string {
	if _, err := exec.LookPath("npm"); err != nil {
		return "npm is missing"
	}
	if _, err := os.Stat(filepath.Join("tsmls", "node_modules", "ts-mls")); err == nil {
		return ""
	}
	ci := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	ci.Dir = "tsmls"
	if out, err := ci.CombinedOutput(); err != nil {
		return fmt.Sprintf("npm ci: %v\n%s", err, out)
	}
	return ""
})

// startTSMLS runs the peer around ts-mls. Without npm the test is skipped, but
// not in CI.
func startTSMLS(t *testing.T) *process {
	t.Helper()
	if reason := tsmlsReady(); reason != "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no ts-mls: %s", reason)
		}
		t.Skipf("SKIPPED: no interop with ts-mls: %s (install Node.js 20 and npm)", reason)
	}
	return start(t, "node", filepath.Join("tsmls", "peer.js"))
}

// TestTSMLS puts ours and ts-mls into one group, each way round.
func TestTSMLS(t *testing.T) {
	for suite := 1; suite <= 3; suite++ {
		for _, weFound := range []bool{true, false} {
			t.Run(fmt.Sprintf("suite%d/weFound=%v", suite, weFound), func(t *testing.T) {
				t.Parallel()
				leaf := object{"cap_exts": []int{61604, 61605}, "leaf_exts": []object{{"type": 61604, "data": "beef"}}}
				us := &client{p: start(t, mlspeer), name: "us", suite: suite, leaf: leaf}
				they := &client{p: startTSMLS(t), name: "they", suite: suite, leaf: leaf}
				g := &mixed{t: t, us: us, they: they, others: [2]*client{
					{p: us.p, name: "us2", suite: suite, leaf: leaf}, {p: they.p, name: "they2", suite: suite, leaf: leaf},
				}}
				if weFound {
					g.all(us, they)
				} else {
					g.all(they, us)
				}
			})
		}
	}
}

// mixed is a group of ours and theirs; a hub of ours follows it.
type mixed struct {
	t        *testing.T
	us, they *client
	others   [2]*client
	in       []*client
	hub      *client
}

func (g *mixed) deliver(from *client, message any, hub bool) {
	g.t.Helper()
	for _, c := range g.in {
		if c != from {
			if a := c.ok("process", object{"message": message}); a["status"] == "removed" {
				g.in = slices.DeleteFunc(slices.Clone(g.in), func(o *client) bool { return o == c })
			}
		}
	}
	if hub {
		g.hub.ok("hub_process", object{"message": message})
		if diff := cmp.Diff(g.us.ok("info")["tree_hash"], g.hub.ok("hub_info")["tree_hash"]); diff != "" {
			g.t.Fatal("the hub has another tree")
		}
	}
	agree(g.t, g.in...)
}

func (g *mixed) commit(c *client, fields ...object) object {
	g.t.Helper()
	a := c.ok("commit", fields...)
	g.deliver(c, a["commit"], g.hub != nil)
	return a
}

func (g *mixed) all(a, b *client) {
	g.t.Helper()
	// Create, add, Welcome; extensions of leaf, GroupContext and GroupInfo.
	a.ok("create", object{"group_id": groupID, "gc_exts": []object{{"type": 61605, "data": "01"}}})
	g.in = []*client{a}
	added := g.commit(a, object{
		"add":     []any{b.ok("key_package", object{"kp_exts": []object{{"type": 61607, "data": "02"}}})["key_package"]},
		"gi_exts": []object{{"type": 61606, "data": "03"}}, "no_tree": a == g.us,
	})
	join := object{"welcome": added["welcome"]}
	if a == g.us {
		join["ratchet_tree"] = added["ratchet_tree"]
	}
	joined := b.ok("join", join)
	if diff := cmp.Diff([]any{map[string]any{"type": 61606.0, "data": "03"}}, joined["gi_exts"]); diff != "" {
		g.t.Fatal(diff)
	}
	g.in = []*client{a, b}
	agree(g.t, a, b)
	g.hub = &client{p: g.us.p, name: "hub"}
	info := a.ok("group_info")
	g.hub.ok("hub_create", object{"group_info": info["group_info"]})

	for _, c := range g.in { // Path commits both ways, with authenticated data.
		g.commit(c)
		g.commit(c, object{"aad": "abcd"})
	}
	for _, o := range g.others { // A larger tree, by both.
		by := g.us
		if o == g.others[0] {
			by = g.they
		}
		w := g.commit(by, object{"add": []any{o.ok("key_package")["key_package"]}})
		o.ok("join", object{"welcome": w["welcome"]})
		g.in = append(g.in, o)
		agree(g.t, g.in...)
		g.commit(o)
	}
	for _, c := range g.in {
		g.chat(c)
	}
	g.members()
	// An Update of ours, committed by them; GroupContext extensions by us.
	p := g.others[0].ok("propose", object{"update": true, "aad": "01"})
	g.deliver(g.others[0], p["message"], true)
	g.commit(g.they)
	g.commit(g.us, object{"gce": []object{{"type": 61605, "data": "77"}}})
	// Removes by value, by both; by reference, proposed by both.
	g.commit(g.they, object{"remove": []any{"us2"}})
	g.commit(g.us, object{"remove": []any{"they2"}})
	g.external()
	for _, by := range []*client{g.us, g.they} {
		other, out := g.they, "us2"
		if by == g.they {
			other, out = g.us, "they2"
		}
		p := by.ok("propose", object{"remove": out})
		g.deliver(by, p["message"], true)
		g.commit(other)
	}
	// PSKs and private handshakes, which no hub can follow.
	g.hub = nil
	for _, c := range g.in {
		c.ok("psk", object{"id": "01", "secret": "5ec4e7"})
	}
	for _, c := range g.in {
		g.commit(c, object{"psks": []string{"01"}})
		g.commit(c, object{"private": true})
	}
	// A lost race, and the end of a membership.
	for i, c := range g.in {
		c.ok("commit", object{"stage": true})
		g.commit(g.in[1-i])
	}
	g.commit(b, object{"remove": []any{a.name}})
	if len(g.in) != 1 || a.ok("info").str("status") != "removed" {
		g.t.Fatal("not removed")
	}
}

// chat sends messages of one member, read by all others out of order, and
// compares exporters.
func (g *mixed) chat(from *client) {
	g.t.Helper()
	var sent []any
	for i := range 20 {
		sent = append(sent, from.ok("send", object{"data": fmt.Sprintf("%02x", i), "aad": "0a"})["message"])
	}
	want := from.ok("export", object{"label": "label", "context": "c0", "length": 48})["secret"]
	for _, c := range g.in {
		if c == from {
			continue
		}
		if got := c.ok("export", object{"label": "label", "context": "c0", "length": 48})["secret"]; got != want {
			g.t.Fatalf("%s: another exporter", c.name)
		}
		for _, i := range []int{3, 1, 19, 0, 18, 2, 4, 17, 16, 5} {
			a := c.ok("process", object{"message": sent[i]})
			if a.str("data") != fmt.Sprintf("%02x", i) || a.str("aad") != "0a" {
				g.t.Fatalf("%s read %v", c.name, a)
			}
		}
		if a := c.p.call(c.request("process", object{"message": sent[3]})); a["ok"] != false {
			g.t.Fatalf("%s read a message twice", c.name)
		}
	}
}

// members compares what both say of every leaf.
func (g *mixed) members() {
	g.t.Helper()
	want := g.us.ok("info")
	for _, c := range g.in {
		got := c.ok("info")
		for _, f := range []string{"members", "gc_exts"} {
			if diff := cmp.Diff(want[f], got[f]); diff != "" {
				g.t.Fatalf("%s: %s: %s", c.name, f, diff)
			}
		}
	}
}

// external joins each side to the group by a GroupInfo of the other, with
// authenticated data, served by our hub.
func (g *mixed) external() {
	g.t.Helper()
	for i, helper := range []*client{g.they, g.us} {
		joiner := g.others[i]
		info := helper.ok("group_info", object{"gi_exts": []object{{"type": 61606, "data": "0e"}}})
		g.hub.ok("hub_group_info", object{"group_info": info["group_info"]})
		served := g.hub.ok("hub_group_info")
		a := joiner.ok("external_join", object{"group_info": served["group_info"], "ratchet_tree": served["ratchet_tree"], "aad": "ae"})
		for _, c := range g.in {
			if got := c.ok("process", object{"message": a["commit"]}); got.str("aad") != "ae" {
				g.t.Fatalf("%s: aad %v", c.name, got["aad"])
			}
		}
		g.hub.ok("hub_process", object{"message": a["commit"]})
		g.in = append(g.in, joiner)
		agree(g.t, g.in...)
		g.commit(joiner)
		g.chat(joiner)
		// Back after a loss of state.
		info = helper.ok("group_info")
		resync := joiner.ok("external_join", object{"group_info": info["group_info"], "resync": true})
		for _, c := range g.in {
			if c != joiner {
				c.ok("process", object{"message": resync["commit"]})
			}
		}
		g.hub.ok("hub_process", object{"message": resync["commit"]})
		agree(g.t, g.in...)
	}
}

// TestTSMLSDeviations holds what README.md says about ts-mls against a real
// one: if it fails because ts-mls has improved, the README and the peer can
// too. Ours stays with the RFC.
func TestTSMLSDeviations(t *testing.T) {
	us := &client{p: start(t, mlspeer), name: "us", suite: 1, leaf: object{"cap_exts": []int{61605}}}
	they := &client{p: startTSMLS(t), name: "they", suite: 1, leaf: object{"cap_exts": []int{61605}}}
	they.ok("create", object{"group_id": groupID})
	w := they.ok("commit", object{"add": []any{us.ok("key_package")["key_package"]}})
	us.ok("join", object{"welcome": w["welcome"]})

	// RFC 9420 §12.4: a commit of GroupContextExtensions needs a path.
	c := they.ok("commit", object{"gce": []object{{"type": 61605, "data": "01"}}, "stage": true})
	us.unchanged(func() {
		if a := us.refused("invalid", "process", object{"message": c["commit"]}); a["rule"] != "path-required" {
			t.Errorf("rule %v", a["rule"])
		}
	})
	they.ok("discard")

	// RFC 9420 §5.3: a credential of an unknown type is opaque.
	custom := &client{p: us.p, name: "custom", suite: 1, leaf: object{
		"credential_type": 61601, "credential_body": "cafe", "cap_creds": []int{61601},
	}}
	they.unchanged(func() {
		if a := they.p.call(they.request("commit", object{"add": []any{custom.ok("key_package")["key_package"]}})); a["ok"] != false {
			t.Error("ts-mls takes custom credentials now")
		}
	})
	agree(t, us, they)
}
