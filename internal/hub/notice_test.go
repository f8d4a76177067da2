package hub_test

import (
	"encoding/binary"
	"testing"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func (p *party) report(epoch uint64, hash []byte) error {
	p.w.t.Helper()
	_, err := do(p.w, p.call(seal.MethodReportCommit), &hubv1.ReportCommitRequest{Epoch: epoch, CommitHash: hash}, new(hubv1.ReportCommitResponse))
	return err
}

// noticesOf are the counts in the notices that a member can read, in order.
func (p *party) noticesOf(from, epoch uint64, hash [32]byte) (counts []uint32) {
	p.w.t.Helper()
	es, err := p.catchUp(from)
	if err != nil {
		p.w.t.Fatal(err)
	}
	for _, e := range es {
		n, ok := e.Body.(*seal.NoticeEvent)
		if !ok {
			continue
		}
		if n.Notice != seal.NoticeCommitReported || len(n.Detail) != 44 || binary.BigEndian.Uint64(n.Detail) != epoch || [32]byte(n.Detail[8:40]) != hash {
			p.w.t.Errorf("notice %d %x", n.Notice, n.Detail)
			continue
		}
		counts = append(counts, binary.BigEndian.Uint32(n.Detail[40:]))
	}
	return counts
}

func counts(t *testing.T, got []uint32, want ...uint32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("notices with counts %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("notices with counts %v, want %v", got, want)
		}
	}
}

// TestReportCommit: a notice per user who cannot process a commit, and nothing
// else (SPEC.md R-140).
func TestReportCommit(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	carol := alice.add("b.example")
	device := w.identity(leafSpec{user: alice.tbs.User})
	second, err := alice.tryAdd(device, commit{})
	if err != nil {
		t.Fatal(err)
	}
	epoch := alice.g.Epoch()
	s, err := alice.commit(commit{})
	if err != nil {
		t.Fatal(err)
	}
	hash := primitive.Hash(s.req.GetCommit())
	before := w.dump()
	w.wantCode(bob.report(epoch, hash[:31]), mmrerr.Malformed)
	w.wantCode(bob.report(epoch, make([]byte, 32)), mmrerr.LogTruncated)
	w.wantCode(bob.report(epoch+1, hash[:]), mmrerr.LogTruncated)
	w.wantCode(bob.report(epoch-1, hash[:]), mmrerr.LogTruncated)
	w.unchanged(before)
	for _, p := range []*party{bob, carol, carol, second, bob, alice} { // second is alice's
		if err := p.report(epoch, hash[:]); err != nil {
			t.Fatal(err)
		}
	}
	counts(t, alice.noticesOf(0, epoch, hash), 1, 2, 3)
	if _, err := alice.submit(alice.message("life goes on")); err != nil {
		t.Error(err)
	}
}

// TestReportRotatingCommit: who cannot process the commit that replaced the key
// at rest has the old one only; its report waits for somebody with the new one.
func TestReportRotatingCommit(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	carol := alice.add("b.example")
	mallory := alice.add("b.example")
	epoch := alice.g.Epoch()
	s, err := alice.commit(commit{proposals: removal(3)})
	if err != nil {
		t.Fatal(err)
	}
	hash := primitive.Hash(s.req.GetCommit())
	w.wantCode(bob.report(epoch, make([]byte, 32)), mmrerr.LogTruncated)
	for _, p := range []*party{bob, carol, bob} {
		if err := p.report(epoch, hash[:]); err != nil {
			t.Fatal(err)
		}
	}
	w.wantCode(mallory.report(epoch, hash[:]), mmrerr.NoRoom)
	counts(t, alice.noticesOf(s.res.GetAccepted().GetSeq()+1, epoch, hash))
	w.h.ForgetRooms()
	if _, err := alice.submit(alice.message("hello")); err != nil {
		t.Fatal(err)
	}
	counts(t, alice.noticesOf(s.res.GetAccepted().GetSeq()+1, epoch, hash), 2)
	w.h.ForgetRooms()
	if _, err := alice.submit(alice.message("again")); err != nil {
		t.Fatal(err)
	}
	counts(t, alice.noticesOf(s.res.GetAccepted().GetSeq()+1, epoch, hash), 2)
}
