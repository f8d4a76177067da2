package member_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// FuzzMemberState: accepted means written again as the same bytes, refused means
// no result.
func FuzzMemberState(f *testing.F) {
	for _, name := range goldenStates {
		public, private := golden(f, name)
		f.Add(public, private)
	}
	f.Fuzz(func(t *testing.T, public, private []byte) {
		var g *member.Group
		var err error
		mlstest.Bounded(t, len(public)+len(private), func() { g, err = load(public, private) })
		if err != nil {
			if g != nil {
				t.Fatal("a group beside an error")
			}
			return
		}
		public2, private2 := mlstest.State(t, g)
		if !bytes.Equal(public, public2) || !bytes.Equal(private, private2) {
			t.Fatal("state re-encodes differently")
		}
	})
}
