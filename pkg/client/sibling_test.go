package client

import (
	"encoding/json"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// TestSiblingsMistakes: what another device tells is taken over only if it can be
// used: no endless window of pseudonyms, no keys of other lengths, no more than
// there is room for.
func TestSiblingsMistakes(t *testing.T) {
	good := func() *connectionState {
		return &connectionState{
			Peer: "mimi://b.example/u/bob", Complete: true, OwnKey: random(32), OwnToken: random(32), UploadKey: random(32), PoolSeed: random(32),
			PoolNext: 7, PeerKey: random(32), PeerToken: random(32), PeerProvider: "b.example", Settle: true, Joining: true, Unwanted: []uint32{1},
		}
	}
	for name, spoil := range map[string]func(*connectionState){
		"":                     func(*connectionState) {},
		"no user":              func(s *connectionState) { s.Peer = "bob" },
		"a device":             func(s *connectionState) { s.Peer = "mimi://b.example/d/bob-phone" },
		"not complete":         func(s *connectionState) { s.Complete = false },
		"a window without end": func(s *connectionState) { s.PoolNext = 1 << 62 },
		"a short key":          func(s *connectionState) { s.UploadKey = s.UploadKey[:31] },
		"no peer's key":        func(s *connectionState) { s.PeerKey = nil },
		"no provider":          func(s *connectionState) { s.PeerProvider = "..." },
	} {
		c := &Client{
			opts: newOptions(nil), inbox: make(map[uint64]*Event), wake: make(chan struct{}, 1), conns: make(map[string]*connectionState),
			connKeys: make(map[string]*connKeyState), packages: make(map[string]*packageState), rooms: make(map[string]*room),
		}
		s := good()
		spoil(s)
		keys := map[string]*connKeyState{"nil": nil, "short": {Key: random(31)}}
		for range 2 * maxPackages {
			keys[b64(random(32))] = &connKeyState{Key: random(32)}
		}
		data, err := json.Marshal(&deviceMessage{Connections: []*connectionState{nil, s}, ConnKeys: keys})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.deviceEvent(data, make(batch)); err != nil {
			t.Fatal(err)
		}
		if taken := len(c.conns) == 1; taken != (name == "") {
			t.Errorf("%q: taken over: %v", name, taken)
		}
		if conn := c.conns[s.Peer]; conn != nil && (conn.Settle || conn.Joining || conn.Unwanted != nil) {
			t.Errorf("%q: with what is the other device's to do", name)
		}
		if n := len(c.connKeys); n != maxPackages || c.connKeys["nil"] != nil || c.connKeys["short"] != nil {
			t.Errorf("%q: %d keys of connection packages", name, n)
		}
		c.packages["ref"] = &packageState{Peer: s.Peer}
		if data, err = json.Marshal(&deviceMessage{Gone: s.Peer}); err != nil {
			t.Fatal(err)
		}
		if err := c.deviceEvent(data, make(batch)); err != nil || len(c.conns) != 0 || name == "" && len(c.packages) != 0 {
			t.Errorf("%q: after the end of the connection: %d left with %d packages, %v", name, len(c.conns), len(c.packages), err)
		}
	}
}

// TestLostDeviceIsOut: a lost device has no slot in a pool that anybody of this
// user looks after, whatever another device says of it.
func TestLostDeviceIsOut(t *testing.T) {
	c := &Client{account: accountState{Device: "phone", SlotID: random(16), Ousted: []string{"laptop"}}}
	got := c.slotsOf(&connectionState{Slots: map[string][]byte{"laptop": random(16), "tablet": random(16)}})
	if len(got) != 2 || got["laptop"] != nil || got["phone"] == nil {
		t.Errorf("slots %v", got)
	}
	for device, want := range map[string]bool{"mimi://a.example/d/laptop": true, "mimi://a.example/d/phone": false} {
		h, err := pseudonym.ParseHandle(device)
		if err != nil {
			t.Fatal(err)
		}
		if c.lost(h) != want {
			t.Errorf("%s is lost: %v", device, !want)
		}
	}
}
