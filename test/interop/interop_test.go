package interop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const groupID = "726f6f6d"

var private = object{
	"cap_exts": []int{61604, 61605}, "cap_creds": []int{61601},
	"leaf_exts": []object{{"type": 61604, "data": "beef"}},
}

// pair founds a group of a and b by a Welcome from a.
func pair(tb testing.TB, a, b *client, fields ...object) {
	tb.Helper()
	a.ok("create", append(fields, object{"group_id": groupID})...)
	kp := b.ok("key_package")
	commit := a.ok("commit", object{"add": []any{kp["key_package"]}})
	b.ok("join", object{"welcome": commit["welcome"]})
	agree(tb, a, b)
}

// two returns a client in each of two processes.
func two(tb testing.TB, suite int) (a, b *client) {
	tb.Helper()
	p, q := start(tb, mlspeer), start(tb, mlspeer)
	return &client{p: p, name: "alice", suite: suite}, &client{p: q, name: "bob", suite: suite}
}

// TestEveryOp uses each op of the protocol, in every suite, between two
// processes.
func TestEveryOp(t *testing.T) {
	for suite := 1; suite <= 7; suite++ {
		t.Run(fmt.Sprint(suite), func(t *testing.T) {
			t.Parallel()
			a, b := two(t, suite)
			a.leaf, b.leaf = private, private
			pair(t, a, b, object{"gc_exts": []object{{"type": 61605, "data": "00"}}})
			messages(t, a, b)
			proposals(t, a, b)
			staging(t, a, b)
			psks(t, a, b)
			external(t, a, b)
			hub(t, a, b)
			removal(t, a, b)
		})
	}
}

func messages(t *testing.T, a, b *client) {
	t.Helper()
	var sent []any
	for i := range 33 {
		sent = append(sent, a.ok("send", object{"data": fmt.Sprintf("%02x", i), "aad": "aa"})["message"])
	}
	b.ok("reload")
	for i, s := range slices.Backward(sent) { // The newest first.
		if i == 5 {
			b.ok("reload")
		}
		got := b.ok("process", object{"message": s})
		if got.str("kind") != "application" || got.str("data") != fmt.Sprintf("%02x", i) || got.str("aad") != "aa" || got.num("sender") != 0 {
			t.Fatalf("message %d: %v", i, got)
		}
		b.unchanged(func() { b.refused("replay", "process", object{"message": s}) })
	}
	want := a.ok("export", object{"label": "x", "context": "01", "length": 77})["secret"]
	if got := b.ok("export", object{"label": "x", "context": "01", "length": 77})["secret"]; got != want {
		t.Fatal("exporters differ")
	}
	m := a.ok("send", object{"data": "00"}).str("message")
	for _, bad := range []string{m + "00", m[:len(m)-2], flip(m, len(m)-1), flip(m, 2*20)} {
		b.unchanged(func() {
			if r := b.p.call(b.request("process", object{"message": bad})); r["ok"] != false {
				t.Fatal("a changed message was taken")
			}
		})
	}
	b.ok("process", object{"message": m})
}

func flip(hex string, i int) string {
	c := byte('0')
	if hex[i] == '0' {
		c = '1'
	}
	return hex[:i] + string(c) + hex[i+1:]
}

func proposals(t *testing.T, a, b *client) {
	t.Helper()
	for _, private := range []bool{false, true} {
		late := b.ok("send", object{"data": "1a7e"})["message"]
		for _, p := range []object{
			{"update": true, "leaf_exts": []object{{"type": 61604, "data": "01"}}},
			{"gce": []object{{"type": 61605, "data": "02"}}},
		} {
			p["private"], p["aad"] = private, "0102"
			m := b.ok("propose", p)
			got := a.ok("process", object{"message": m["message"]})
			if got.str("kind") != "proposal" || got.str("aad") != "0102" || got.num("sender") != 1 {
				t.Fatalf("proposal: %v", got)
			}
		}
		a.refused("invalid", "send", object{"data": "00"})
		b.ok("reload")
		commit := a.ok("commit", object{"private": private, "aad": "c0"})
		got := b.ok("process", object{"message": commit["commit"]})
		if got.str("kind") != "commit" || got.str("aad") != "c0" {
			t.Fatalf("commit: %v", got)
		}
		agree(t, a, b)
		want := []any{map[string]any{"type": 61605.0, "data": "02"}}
		if diff := cmp.Diff(want, got["gc_exts"]); diff != "" {
			t.Fatal(diff)
		}
		for range 2 {
			c := b.ok("commit")
			a.ok("process", object{"message": c["commit"]})
		}
		a.ok("reload")
		a.ok("process", object{"message": late}) // Three epochs later.
	}
}

func staging(t *testing.T, a, b *client) {
	t.Helper()
	a.refused("no_pending", "confirm")
	a.refused("no_pending", "discard")
	before := a.ok("info")
	staged := a.ok("commit", object{"stage": true})
	if staged["pending"] != true || staged["epoch"] != before["epoch"] {
		t.Fatalf("staged: %v", staged)
	}
	a.ok("reload")
	a.refused("pending", "commit")
	b.ok("process", object{"message": a.ok("send", object{"data": "00"})["message"]})
	if diff := cmp.Diff(before, a.ok("discard")); diff != "" {
		t.Fatal(diff)
	}
	staged = a.ok("commit", object{"stage": true}) // A lost race.
	c := b.ok("commit")
	if got := a.ok("process", object{"message": c["commit"]}); got["pending"] != false {
		t.Fatal("still pending")
	}
	b.refused("stale", "process", object{"message": staged["commit"]})
	agree(t, a, b)
	staged = a.ok("commit", object{"stage": true}) // A won one.
	a.refused("invalid", "process", object{"message": staged["commit"]})
	b.ok("process", object{"message": staged["commit"]})
	a.ok("reload")
	a.ok("confirm")
	agree(t, a, b)
	b.refused("stale", "process", object{"message": staged["commit"]})
}

func psks(t *testing.T, a, b *client) {
	t.Helper()
	a.refused("invalid", "commit", object{"psks": []string{"01"}})
	a.ok("psk", object{"id": "01", "secret": "5ec4e7"})
	c := a.ok("commit", object{"psks": []string{"01"}})
	b.unchanged(func() { b.refused("invalid", "process", object{"message": c["commit"]}) })
	b.ok("psk", object{"id": "01", "secret": "5ec4e7"})
	b.ok("reload")
	b.ok("process", object{"message": c["commit"]})
	agree(t, a, b)
}

func external(t *testing.T, a, b *client) {
	t.Helper()
	carol := &client{p: b.p, name: "carol", suite: a.suite, leaf: object{
		"credential_type": 61601, "credential_body": "cafe", "cap_creds": []int{61601}, "cap_exts": []int{61604, 61605},
	}}
	info := a.ok("group_info", object{"no_tree": true, "gi_exts": []object{{"type": 61606, "data": "07"}}})
	carol.refused("invalid", "external_join", object{"group_info": info["group_info"]})
	carol.refused("no_group", "info")
	join := object{"group_info": info["group_info"], "ratchet_tree": info["ratchet_tree"], "aad": "e0", "stage": true}
	carol.ok("external_join", join)
	carol.refused("pending", "external_join", join)
	carol.ok("discard")
	staged := carol.ok("external_join", join)
	if !strings.Contains(fmt.Sprint(staged["gi_exts"]), "61606") {
		t.Fatal("extension of the GroupInfo is lost")
	}
	carol.ok("reload")
	for _, c := range []*client{a, b} {
		got := c.ok("process", object{"message": staged["commit"]})
		if got.str("aad") != "e0" || got["sender"] != nil {
			t.Fatalf("external commit: %v", got)
		}
	}
	carol.ok("confirm")
	agree(t, a, b, carol)

	info = b.ok("group_info")
	resync := carol.ok("external_join", object{"group_info": info["group_info"], "resync": true})
	for _, c := range []*client{a, b} {
		c.ok("process", object{"message": resync["commit"]})
	}
	agree(t, a, b, carol)

	late := carol.ok("send", object{"data": "60"})["message"]
	out := a.ok("commit", object{"remove": []any{"cafe"}})
	b.ok("process", object{"message": out["commit"]})
	got := carol.ok("process", object{"message": out["commit"]})
	if got.str("status") != "removed" {
		t.Fatalf("own removal: %v", got)
	}
	if carol.ok("info").str("status") != "removed" {
		t.Fatal("not removed")
	}
	carol.refused("no_group", "send", object{"data": "00"})
	// Its leaf is given to another client before the late message arrives.
	dave := &client{p: a.p, name: "dave", suite: a.suite, leaf: private}
	add := b.ok("commit", object{"add": []any{dave.ok("key_package")["key_package"]}, "no_tree": true})
	dave.unchanged(func() { dave.refused("invalid", "join", object{"welcome": add["welcome"]}) })
	dave.ok("join", object{"welcome": add["welcome"], "ratchet_tree": add["ratchet_tree"]})
	a.ok("process", object{"message": add["commit"]})
	agree(t, a, b, dave)
	if got := b.ok("process", object{"message": late}); got.str("data") != "60" {
		t.Fatalf("late message: %v", got)
	}
	p := a.ok("propose", object{"remove": "dave"})
	b.ok("process", object{"message": p["message"]})
	dave.ok("process", object{"message": p["message"]})
	c := b.ok("commit")
	a.ok("process", object{"message": c["commit"]})
	dave.ok("process", object{"message": c["commit"]})
	agree(t, a, b)
}

func hub(t *testing.T, a, b *client) {
	t.Helper()
	h := &client{p: a.p, name: "hub"}
	h.refused("no_group", "hub_info")
	info := a.ok("group_info", object{"no_tree": true})
	h.refused("invalid", "hub_create", object{"group_info": info["group_info"]})
	h.ok("hub_create", object{"group_info": info["group_info"], "ratchet_tree": info["ratchet_tree"]})
	h.ok("hub_group_info")
	h.refused("invalid", "hub_process", object{"message": a.ok("send", object{"data": "00"})["message"]})
	b.ok("reload")
	p := a.ok("propose", object{"update": true})
	b.ok("process", object{"message": p["message"]})
	if got := h.ok("hub_process", object{"message": p["message"]}); got.num("proposals") != 1 {
		t.Fatalf("hub: %v", got)
	}
	h.ok("hub_reload")
	c := b.ok("commit", object{"aad": "11"})
	got := h.ok("hub_process", object{"message": c["commit"]})
	h.refused("stale", "hub_process", object{"message": c["commit"]})
	a.ok("process", object{"message": c["commit"]})
	state := a.ok("info")
	for _, f := range []string{"epoch", "tree_hash", "confirmed_transcript_hash", "gc_exts", "members"} {
		if diff := cmp.Diff(state[f], got[f]); diff != "" {
			t.Fatalf("hub and member differ in %s: %s", f, diff)
		}
	}
	h.refused("no_group", "hub_group_info")
	h.refused("invalid", "hub_group_info", object{"group_info": info["group_info"]})
	h.ok("hub_group_info", object{"group_info": b.ok("group_info")["group_info"]})
	served := h.ok("hub_group_info")
	if served.str("ratchet_tree") == "" {
		t.Fatal("no tree")
	}
}

func removal(t *testing.T, a, b *client) {
	t.Helper()
	p := b.ok("propose", object{"remove": 1}) // Its own.
	a.ok("process", object{"message": p["message"]})
	c := a.ok("commit")
	if got := b.ok("process", object{"message": c["commit"]}); got.str("status") != "removed" {
		t.Fatalf("own removal: %v", got)
	}
	again := a.ok("commit", object{"add": []any{b.ok("key_package")["key_package"]}})
	b.ok("join", object{"welcome": again["welcome"]})
	agree(t, a, b)
}

// TestBadRequests sends what no client should, and finds the peer alive.
func TestBadRequests(t *testing.T) {
	p := start(t, mlspeer)
	for line, code := range map[string]string{
		``: "bad_request", `x`: "bad_request", `[]`: "bad_request", `null`: "bad_request", `{}`: "bad_request", `{"op":1}`: "bad_request",
		`{"op":"constructor"}`:                                                                "unsupported",
		`{"op":"key_package"}`:                                                                "bad_request",
		`{"op":"key_package","client":"a","suite":9}`:                                         "unsupported",
		`{"op":"key_package","client":"a","suite":"1"}`:                                       "bad_request",
		`{"op":"key_package","client":"a","suite":1.5}`:                                       "bad_request",
		`{"op":"create","client":"a"}`:                                                        "bad_request",
		`{"op":"create","client":"a","group_id":"AA"}`:                                        "bad_request",
		`{"op":"create","client":"a","group_id":"a"}`:                                         "bad_request",
		`{"op":"create","client":"a","group_id":"aa","gc_exts":[{}]}`:                         "bad_request",
		`{"op":"create","client":"a","group_id":"aa","leaf_exts":[{"type":61604,"data":""}]}`: "invalid",
		`{"op":"info","client":"a"}`:                                                          "no_group",
		`{"op":"commit","client":"a","add":"00"}`:                                             "bad_request",
		`{"op":"commit","client":"a"}`:                                                        "no_group",
		`{"op":"decode","message":""}`:                                                        "decode",
		`{"op":"decode","message":"0001"}`:                                                    "decode",
		`{"op":"hub_create","client":"h","group_info":"00"}`:                                  "decode",
		`{"op":"info","client":null}`:                                                         "bad_request",
		strings.Repeat("[", 1<<20):                                                            "bad_request",
	} {
		a := p.line([]byte(line))
		if a["code"] != code {
			t.Errorf("%.80s: code %v, want %s", line, a["code"], code)
		}
	}
	a := &client{p: p, name: "a", suite: 1}
	kp := a.ok("key_package", object{"unknown": []int{1}, "cap_exts": []int{61604}, "leaf_exts": []object{{"type": 61604, "data": ""}}})
	d := p.ok(object{"op": "decode", "message": kp["key_package"]})
	if d.str("wire_format") != "mls_key_package" || d["reencoded"] != kp["key_package"] {
		t.Fatalf("decode: %v", d)
	}
	a.refused("decode", "join", object{"welcome": kp["key_package"]})
	a.ok("create", object{"group_id": groupID})
	w := a.ok("commit", object{"add": []any{kp2(t, p)}})["welcome"]
	other := &client{p: p, name: "other", suite: 1}
	other.ok("key_package")
	other.refused("no_key_package", "join", object{"welcome": w})
	a.refused("decode", "process", object{"message": kp["key_package"]})
	a.refused("decode", "process", object{"message": "00"})
}

func kp2(tb testing.TB, p *process) any {
	tb.Helper()
	return (&client{p: p, name: "b", suite: 1}).ok("key_package")["key_package"]
}
