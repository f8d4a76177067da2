package hub_test

import (
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// TestSuites: a room has a suite whose signatures the hub can make: it is the
// external sender, and signs receipts, with a key of that scheme (SPEC.md §3).
func TestSuites(t *testing.T) {
	w := newWorld(t)
	if p, err := w.keys.Published(time.Now()); err != nil || len(p.GetExternalSenders()) != 1 {
		t.Error("the hub does not publish its further identity")
	}
	senders := func(alg primitive.Algorithm) func([]mls.Extension) []mls.Extension {
		return func(es []mls.Extension) []mls.Extension {
			key, chain, ok := w.keys.IdentityFor(alg)
			if !ok {
				t.Fatal("the hub has no such identity")
			}
			es[1] = mls.ExternalSendersExtension(mls.ExternalSender{SignatureKey: key.Public().Bytes(), Credential: mls.X509Credential(chain...)})
			return es
		}
	}
	for s, c := range map[mls.CipherSuite]struct {
		right, wrong primitive.Algorithm
	}{1: {primitive.Ed25519, primitive.ECDSAP256}, 2: {primitive.ECDSAP256, primitive.Ed25519}, 3: {primitive.Ed25519, primitive.ECDSAP256}} {
		_, err := w.create(creation{id: w.identity(leafSpec{suite: s}), extensions: senders(c.wrong)})
		w.wantCode(err, mmrerr.PolicyChange)
		alice, err := w.create(creation{id: w.identity(leafSpec{suite: s}), extensions: senders(c.right)})
		if err != nil {
			t.Errorf("suite %d: %v", s, err)
			continue
		}
		if _, err := alice.submit(alice.message("hello")); err != nil {
			t.Errorf("suite %d: %v", s, err)
		}
		es, err := alice.catchUp(0)
		key, _, _ := w.keys.IdentityFor(c.right)
		if err != nil || len(es) != 1 || es[0].Accepted().Verify(key.Public(), es[0].Receipt) != nil {
			t.Errorf("suite %d: no receipt of the room's external sender, %v", s, err)
		}
	}
}
