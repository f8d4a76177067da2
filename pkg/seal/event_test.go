package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// mlsMessages are real messages of the working group's vectors.
type mlsMessages struct {
	Commit, Add, Remove, Update, Private, Welcome, Application hexBytes

	GroupInfo  hexBytes `json:"group_info"`
	KeyPackage hexBytes `json:"key_package"`
}

func loadMLS(tb testing.TB) mlsMessages {
	tb.Helper()
	var m mlsMessages
	loadVectors(tb, "mls.json", &m)
	return m
}

// emptyDelta is a WrapDelta without nodes.
func emptyDelta() []byte { return append(make([]byte, 8+32), 0, 0, 0, 0) }

func testEvents(tb testing.TB) map[string]*seal.Event {
	tb.Helper()
	m := loadMLS(tb)
	head := seal.Event{
		GroupID: bytes.Repeat([]byte{0xc0}, 32), Epoch: 7, Seq: 300, Chain: [32]byte{1, 2, 3},
		AcceptedMS: 1_700_000_000_123, Receipt: bytes.Repeat([]byte{9}, 64),
	}
	event := func(b seal.EventBody) *seal.Event {
		e := head
		e.Body = b
		return &e
	}
	return map[string]*seal.Event{
		"commit": event(&seal.CommitEvent{Commit: m.Commit, ExternalPub: make([]byte, 32), EARID: []byte{}}),
		"rotating commit with delta and removes": event(&seal.CommitEvent{
			Commit: m.Commit, Delta: emptyDelta(), ExternalPub: make([]byte, 32), EARID: make([]byte, 16),
			HubProposals: [][]byte{m.Remove, m.Remove},
		}),
		"proposals": event(&seal.ProposalEvent{Proposals: [][]byte{m.Remove, m.Update}}),
		"message":   event(&seal.MessageEvent{Message: m.Private}),
		"franked message": event(&seal.MessageEvent{
			Message: m.Private, Frank: &seal.Frank{ServerFrank: [32]byte{4}, Suite: 1, Signature: make([]byte, 64)},
		}),
		"welcome":             event(&seal.WelcomeEvent{Welcome: m.Welcome, DeliverySecret: primitive.NewSecret(), EARKey: primitive.NewSecret()}),
		"welcome without key": event(&seal.WelcomeEvent{Welcome: m.Welcome, DeliverySecret: primitive.NewSecret()}),
		"wrap":                event(&seal.WrapEvent{Delta: emptyDelta()}),
		"notice":              event(&seal.NoticeEvent{Notice: seal.NoticeCommitReported, Detail: make([]byte, 44)}),
		"cover":               event(&seal.CoverEvent{}),
	}
}

func TestEventRoundTrip(t *testing.T) {
	for name, e := range testEvents(t) {
		b, err := e.AppendBinary([]byte("head"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := seal.ParseEvent(b[4:])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for _, bad := range [][]byte{b[4 : len(b)-1], append(bytes.Clone(b[4:]), 0)} {
			if got, err := seal.ParseEvent(bad); !errors.Is(err, mmrerr.Malformed) || got != nil {
				t.Errorf("%s, %d bytes: %v", name, len(bad), err)
			}
		}
	}
}

// TestEventCore checks that the core is the event without seq, chain and
// receipt, and that a log can make the event of it again.
func TestEventCore(t *testing.T) {
	for name, e := range testEvents(t) {
		core, err := e.Core()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		full, _ := e.AppendBinary(nil)
		// group_id<V> and epoch, then seq, chain; accepted_ms; receipt<V>; the rest.
		const head, receipt = 1 + 32 + 8, 2 + 64
		want := bytes.Clone(full[:head])
		want = append(want, full[head+8+32:head+8+32+8]...)
		want = append(want, full[head+8+32+8+receipt:]...)
		equal(t, name+": core", core, want)
		got, err := seal.ParseCore(core)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got.Seq, got.Chain, got.Receipt = e.Seq, e.Chain, e.Receipt
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEventRefusals(t *testing.T) {
	m := loadMLS(t)
	d := primitive.NewSecret()
	for name, body := range map[string]seal.EventBody{
		"no body":                 nil,
		"trailing byte":           &seal.CommitEvent{Commit: append(bytes.Clone(m.Commit), 0)},
		"truncated commit":        &seal.CommitEvent{Commit: m.Commit[:len(m.Commit)-1]},
		"two messages":            &seal.MessageEvent{Message: append(bytes.Clone(m.Private), m.Private...)},
		"no message":              &seal.MessageEvent{},
		"GroupInfo":               &seal.MessageEvent{Message: m.GroupInfo},
		"key package":             &seal.MessageEvent{Message: m.KeyPackage},
		"public application data": &seal.MessageEvent{Message: m.Application},
		"stand-alone Add":         &seal.ProposalEvent{Proposals: [][]byte{m.Add}},
		"short ear_id":            &seal.CommitEvent{Commit: m.Commit, EARID: make([]byte, 15)},
		"delta cut":               &seal.WrapEvent{Delta: emptyDelta()[:43]},
		"delta long":              &seal.WrapEvent{Delta: append(emptyDelta(), 0)},
		"bad hub proposal":        &seal.CommitEvent{Commit: m.Commit, HubProposals: [][]byte{{}}},
		"long external_pub":       &seal.CommitEvent{Commit: m.Commit, ExternalPub: make([]byte, 1217)},
		"long detail":             &seal.NoticeEvent{Detail: make([]byte, 1<<16+1)},
		"no delivery secret":      &seal.WelcomeEvent{Welcome: m.Welcome, EARKey: d},
	} {
		e := &seal.Event{GroupID: []byte("g"), Body: body}
		if b, err := e.AppendBinary([]byte("head")); !errors.Is(err, mmrerr.Malformed) || string(b) != "head" {
			t.Errorf("%s: %x, %v", name, b, err)
		}
		if b, err := e.Core(); !errors.Is(err, mmrerr.Malformed) || b != nil {
			t.Errorf("%s: core %x, %v", name, b, err)
		}
	}
	good, _ := testEvents(t)["cover"].AppendBinary(nil)
	for _, typ := range []byte{0, 8, 255} {
		bad := bytes.Clone(good)
		bad[len(bad)-1] = typ
		if e, err := seal.ParseEvent(bad); !errors.Is(err, mmrerr.Malformed) || e != nil {
			t.Errorf("type %d: %v", typ, err)
		}
	}
}

func TestReceipts(t *testing.T) {
	hub, _ := primitive.GenerateSigningKey(primitive.Ed25519)
	e := testEvents(t)["message"]
	core, err := e.Core()
	if err != nil {
		t.Fatal(err)
	}
	e.Chain = seal.ChainNext(seal.ChainStart(e.GroupID), e.Seq, core)
	receipt, err := e.Accepted().Sign(hub)
	if err != nil {
		t.Fatal(err)
	}
	e.Receipt = receipt
	if err := e.Accepted().Verify(hub.Public(), e.Receipt); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(a *seal.Accepted){
		"group": func(a *seal.Accepted) { a.GroupID = []byte("other") },
		"epoch": func(a *seal.Accepted) { a.Epoch++ },
		"seq":   func(a *seal.Accepted) { a.Seq++ },
		"chain": func(a *seal.Accepted) { a.Chain[31] ^= 1 },
		"time":  func(a *seal.Accepted) { a.AcceptedMS++ },
	} {
		a := e.Accepted()
		change(&a)
		if err := a.Verify(hub.Public(), receipt); !errors.Is(err, primitive.ErrVerify) {
			t.Errorf("other %s: %v", name, err)
		}
	}
	if seal.ChainNext(e.Chain, 1, core) == seal.ChainNext(e.Chain, 2, core) || seal.ChainNext(e.Chain, 1, core) == seal.ChainNext(e.Chain, 1, nil) {
		t.Error("the chain does not depend on seq or core")
	}
}

func TestFrank(t *testing.T) {
	hub, _ := primitive.GenerateSigningKey(primitive.ECDSAP256)
	frankKey := primitive.NewSecret()
	c := seal.FrankContext{SenderURI: "mimi://a.example/u/x", RoomURI: "mimi://h.example/r/y", AcceptedMS: 5}
	tag := seal.FrankingTag([16]byte{1}, []byte("data"))
	if tag == seal.FrankingTag([16]byte{2}, []byte("data")) || tag == seal.FrankingTag([16]byte{1}, []byte("date")) {
		t.Error("tag does not depend on salt or data")
	}
	f, err := seal.NewFrank(frankKey, hub, 2, tag, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Verify(hub.Public(), c), f.Recompute(frankKey, tag, c)); err != nil {
		t.Error(err)
	}
	b, _ := f.AppendBinary(nil)
	again, err := seal.ParseFrank(b)
	if err != nil || !cmp.Equal(f, again) {
		t.Errorf("round trip: %v", err)
	}
	other := c
	other.SenderURI = "mimi://a.example/u/z"
	badTag := tag
	badTag[0] ^= 1
	resigned := *f
	resigned.Suite = 1
	for name, err := range map[string]error{
		"context":           f.Verify(hub.Public(), other),
		"suite":             resigned.Verify(hub.Public(), c),
		"recompute context": f.Recompute(frankKey, tag, other),
		"recompute tag":     f.Recompute(frankKey, badTag, c),
		"recompute key":     f.Recompute(primitive.NewSecret(), tag, c),
	} {
		if !errors.Is(err, primitive.ErrVerify) {
			t.Errorf("other %s: %v", name, err)
		}
	}
}

func FuzzEventMalleability(f *testing.F) {
	for _, e := range testEvents(f) {
		b, err := e.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := seal.ParseEvent(b)
		if err != nil {
			if e != nil || !errors.Is(err, mmrerr.Malformed) {
				t.Errorf("result %v with error %v", e, err)
			}
			return
		}
		again, err := e.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}

func FuzzCoreMalleability(f *testing.F) {
	for _, e := range testEvents(f) {
		b, err := e.Core()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := seal.ParseCore(b)
		if err != nil {
			if e != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := e.Core(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}

func FuzzFrankMalleability(f *testing.F) {
	f.Add(codec.AppendVector(make([]byte, 34), make([]byte, 64)))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := seal.ParseFrank(b)
		if err != nil {
			if k != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := k.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}
