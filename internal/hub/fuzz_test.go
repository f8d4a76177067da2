package hub

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// FuzzStored feeds every decoder of the hub's own records, as a damaged store
// would: what is accepted encodes to the same bytes, so that nothing can be
// slipped in, and what is refused gives nothing.
func FuzzStored(f *testing.F) {
	user, err := pseudonym.NewID("a.example", pseudonym.User)
	if err != nil {
		f.Fatal(err)
	}
	device, err := pseudonym.NewID("a.example", pseudonym.Client)
	if err != nil {
		f.Fatal(err)
	}
	l := &leaf{index: 3, signatureKey: []byte{1}, client: device, user: user, delivery: []byte{2}, domain: "a.example", sealed: []byte{3}, k: primitive.NewSecret(), joining: true}
	policy := &pseudonym.Room{
		Requirement: pseudonym.RequireAll, Scheme: pseudonym.SchemeStatic, JoinRule: pseudonym.JoinByLink, DefaultRole: pseudonym.Member,
		Roles: []pseudonym.RoleEntry{{User: user, Role: pseudonym.Admin}}, Limits: pseudonym.DefaultLimits(),
	}
	ro := &roster{suite: 1, policy: policy, leaves: []*leaf{l}, burned: []burn{{1}}, cached: [][]byte{{9}}}
	b, err := ro.marshal()
	if err != nil {
		f.Fatal(err)
	}
	rec := record{n: 7, month: 3, links: []linkRecord{{notAfter: 1, box: []byte{1}}}, head: []byte{4}}
	h := head{epoch: 1, seq: 2, roster: bigRow{"roster:x", 7}, removed: true}
	snap := snapshot{at: 7, seq: 4, waiting: []uint32{3}}
	f.Add(byte(0), b)
	f.Add(byte(1), rec.marshal())
	f.Add(byte(2), h.marshal())
	f.Add(byte(3), marshalEntries(map[uint32][]byte{1: {1}, 4: {2, 3}}))
	f.Add(byte(4), marshalRows([]outboxRow{newRow(l, []byte{5})}))
	f.Add(byte(5), snap.marshal())
	f.Add(byte(6), (&generation{suite: 1, first: 2, last: 9, leaves: []pastLeaf{{index: 1, signatureKey: []byte{7}, first: 2}}}).marshal())
	f.Add(byte(7), (&seals{recent: [][16]byte{{1}}, list: []oneTime{{1, []byte{2}}}}).marshal())
	f.Add(byte(8), (&waiting{epoch: 3, leaves: []uint32{1, 4}}).marshal())
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		var again []byte
		switch kind % 9 {
		case 0:
			v, err := parseRoster(b)
			if (err == nil) != (v != nil) {
				t.Fatal("roster and error, or neither")
			}
			if err != nil {
				return
			}
			if again, err = v.marshal(); err != nil {
				t.Fatal(err)
			}
		case 1:
			v, err := parseRecord(b)
			if err != nil {
				return
			}
			again = v.marshal()
		case 2:
			v, err := parseHead(b)
			if err != nil {
				return
			}
			again = v.marshal()
		case 3:
			v, err := parseEntries(b)
			if err != nil {
				return
			}
			again = marshalEntries(v)
		case 4:
			v, err := parseRows(b)
			if err != nil {
				return
			}
			again = marshalRows(v)
		case 5:
			v, err := parseSnapshot(b)
			if err != nil {
				return
			}
			again = v.marshal()
		case 6:
			v, err := parseGeneration(b)
			if err != nil {
				return
			}
			again = v.marshal()
		case 7:
			v, err := parseSeals(b)
			if err != nil {
				return
			}
			again = v.marshal()
		case 8:
			v, err := parseWaiting(b)
			if err != nil {
				return
			}
			again = v.marshal()
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("kind %d: %x re-encodes to %x", kind%9, b, again)
		}
	})
}
