package client

import (
	"context"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestKindsOfMessages: a hub that hands out an MLS message as something that it
// is not neither gets a commit past the audit, nor stops the client (SPEC.md
//
func TestKindsOfMessages(t *testing.T) {
	w := newAuditWorld(t)
	_, message, err := w.bob.Send([]byte("hi"), member.SendOptions{AAD: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	_, proposal, err := w.bob.Propose(mls.RemoveProposal(w.bob.OwnLeaf()), member.SendOptions{AAD: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	_, staged, err := w.bob.Stage(member.CommitOptions{AAD: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	made := map[mls.ContentType][]byte{mls.ContentApplication: message, mls.ContentProposal: proposal, mls.ContentCommit: staged.Commit()}
	for is, raw := range made {
		for as := range made {
			c := &Client{opts: newOptions(nil), inbox: make(map[uint64]*Event), wake: make(chan struct{}, 1), peers: make(map[string]*peerState)}
			r := &room{g: w.alice, st: roomState{Hub: "hub.example", Suite: uint16(Suite), GroupID: w.alice.Public().GroupID(), K: random(32), LinkKeys: make(map[uint32][]byte)}}
			if _, _, err := r.process(raw, as); (err == nil) != (is == as) || err != nil && !errors.Is(err, mmrerr.WireFormat) {
				t.Errorf("content type %d as %d: %v", is, as, err)
			}
			if is == as {
				continue // the audit world's are not complete events
			}
			e := &seal.Event{GroupID: r.st.GroupID, Epoch: r.g.Epoch(), Seq: 1}
			switch as {
			case mls.ContentCommit:
				err = c.commitEvent(context.Background(), r, e, &seal.CommitEvent{Commit: raw}, make(batch))
				if r.st.Stuck == nil {
					t.Errorf("content type %d as a commit: the room is not stuck", is)
				}
			case mls.ContentApplication:
				err = c.messageEvent(r, e, &seal.MessageEvent{Message: raw}, make(batch))
			default:
				r.propose(raw)
			}
			if err != nil || r.g != w.alice {
				t.Errorf("content type %d as %d changed the group, or stopped the client: %v", is, as, err)
			}
		}
	}
}
