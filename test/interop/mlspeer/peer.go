package main

import (
	"runtime/debug"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
)

// features are all that the protocol knows.
var features = []string{
	"aad", "custom_credential", "leaf_exts", "kp_exts", "gi_exts", "gc_exts", "private_handshake",
	"propose_add", "propose_remove", "propose_update", "propose_gce", "race", "stage", "stage_external",
	"external_join", "resync", "tree_outside", "out_of_order", "old_epochs", "late_removed", "removed",
	"reload", "reload_pending", "export", "psk", "decode", "strict", "codes", "hub",
}

// Defaults of the engine's limits, as hello reports them.
const (
	outOfOrder = 64
	pastEpochs = 3
	forward    = 1024
)

// peer is the program's state.
type peer struct {
	clients map[string]*client
	hubs    map[string]*mls.PublicGroup
}

func newPeer() *peer {
	return &peer{clients: map[string]*client{}, hubs: map[string]*mls.PublicGroup{}}
}

// Ops of clients that exist or come into being, of clients in a group, of hubs.
var (
	makers = map[string]func(*client, request) (answer, error){
		"key_package": (*client).keyPackage, "create": (*client).create, "psk": (*client).psk, "external_join": (*client).externalJoin,
	}
	existing = map[string]func(*client, request) (answer, error){
		"commit": (*client).commit, "confirm": (*client).confirm, "discard": (*client).discard, "propose": (*client).propose,
		"join": (*client).join, "group_info": (*client).groupInfo, "process": (*client).process, "send": (*client).send,
		"export": (*client).export, "info": (*client).info, "reload": (*client).reload,
	}
	hubOps = map[string]func(*peer, string, request) (answer, error){
		"hub_create": (*peer).hubCreate, "hub_process": (*peer).hubProcess, "hub_group_info": (*peer).hubGroupInfo,
		"hub_info": (*peer).hubInfo, "hub_reload": (*peer).hubReload,
	}
)

// handle answers one line.
func (p *peer) handle(line []byte) answer {
	r, err := parse(line)
	if err != nil {
		return failure(err)
	}
	a, err := p.dispatch(r)
	if err != nil {
		return failure(err)
	}
	if a == nil {
		a = answer{}
	}
	a["ok"] = true
	return a
}

func (p *peer) dispatch(r request) (answer, error) {
	op, name := r.str("op"), r.str("client")
	switch op {
	case "hello":
		return hello(), nil
	case "decode":
		return decode(r)
	}
	maker, old, hub := makers[op], existing[op], hubOps[op]
	if maker == nil && old == nil && hub == nil {
		return nil, fail("unsupported", "unknown op")
	}
	if err := r.need("client"); err != nil {
		return nil, err
	}
	c := p.clients[name]
	switch {
	case hub != nil:
		return hub(p, name, r)
	case old != nil:
		if c == nil {
			return nil, fail("no_group", "no such client")
		}
		return old(c, r)
	case c != nil:
		return maker(c, r)
	}
	c, err := newClient(name, r)
	if err != nil {
		return nil, err
	}
	a, err := maker(c, r)
	if err == nil { // A refused request leaves no client behind.
		p.clients[name] = c
	}
	return a, err
}

func hello() answer {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return answer{
		"protocol": 1, "name": "mmrelay", "version": version,
		"suites": []int{1, 2, 3, 4, 5, 6, 7}, "features": features,
		"limits": answer{"out_of_order": outOfOrder, "past_epochs": pastEpochs, "forward": forward},
	}
}

var formats = map[mls.WireFormat]string{
	mls.FormatPublicMessage:  "mls_public_message",
	mls.FormatPrivateMessage: "mls_private_message",
	mls.FormatWelcome:        "mls_welcome",
	mls.FormatGroupInfo:      "mls_group_info",
	mls.FormatKeyPackage:     "mls_key_package",
}

func decode(r request) (answer, error) {
	if err := r.need("message"); err != nil {
		return nil, err
	}
	m, err := mls.ParseMessage(r.bytes("message"), nil)
	if err != nil {
		return nil, err
	}
	a := answer{"wire_format": formats[m.Format]}
	a.set("reencoded", m.Encode())
	return a, nil
}

// parseAs reads a message of one of the expected formats.
func parseAs(b []byte, expected ...mls.WireFormat) (*mls.Message, error) {
	m, err := mls.ParseMessage(b, nil)
	if err != nil {
		return nil, err
	}
	if slices.Contains(expected, m.Format) {
		return m, nil
	}
	return nil, fail("decode", "message of another kind")
}
