package wire_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// seeds adds some vectors of a kind, if the vectors are there; the committed
// corpus has one of each.
func seeds(f *testing.F, kinds ...string) {
	f.Helper()
	f.Add([]byte{0, 1, 0, 3, 0, 1, 0, 0})
	var entries []map[string]mlstest.Hex
	if !mlstest.HasVectors(f, "messages.json", &entries) {
		return
	}
	for _, e := range entries[:8] {
		for _, k := range kinds {
			f.Add([]byte(e[k]))
		}
	}
}

// malleability requires of a parser that what it accepts encodes, from its
// fields, to the same bytes, and that it returns no value with an error.
func malleability[T any](t *testing.T, b []byte, parse func([]byte) (*T, error), encode func(*T) []byte) {
	t.Helper()
	var v *T
	var err error
	mlstest.Bounded(t, len(b), func() { v, err = parse(b) })
	if err != nil {
		if v != nil {
			t.Fatal("a value with an error")
		}
		return
	}
	if !bytes.Equal(encode(v), b) {
		t.Fatal("encodes to other bytes")
	}
}

func FuzzMessage(f *testing.F) {
	seeds(f, "mls_welcome", "mls_group_info", "mls_key_package", "public_message_application",
		"public_message_proposal", "public_message_commit", "private_message")
	l := &wire.Limits{CustomProposals: []wire.ProposalType{0xf101}}
	f.Fuzz(func(t *testing.T, b []byte) {
		malleability(t, b, func(b []byte) (*wire.Message, error) { return wire.ParseMessage(b, l) },
			func(m *wire.Message) []byte {
				if !bytes.Equal(m.Raw(), m.Encode()) {
					t.Fatal("Raw and Encode differ")
				}
				return m.Rebuild().Encode()
			})
	})
}

func FuzzKeyPackage(f *testing.F) {
	seeds(f, "add_proposal")
	f.Fuzz(func(t *testing.T, b []byte) {
		malleability(t, b, func(b []byte) (*wire.KeyPackage, error) { return wire.ParseKeyPackage(b, defaults) },
			func(p *wire.KeyPackage) []byte { return p.Rebuild().Raw() })
	})
}

func FuzzGroupInfo(f *testing.F) {
	seeds(f, "mls_group_info")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4 { // the seeds are messages
			b = b[4:]
		}
		malleability(t, b, func(b []byte) (*wire.GroupInfo, error) { return wire.ParseGroupInfo(b, defaults) },
			func(g *wire.GroupInfo) []byte { return g.Rebuild().Raw() })
	})
}

func FuzzWelcome(f *testing.F) {
	seeds(f, "mls_welcome", "group_secrets")
	f.Fuzz(func(t *testing.T, b []byte) {
		malleability(t, b, func(b []byte) (*wire.GroupSecrets, error) { return wire.ParseGroupSecrets(b, defaults) },
			func(s *wire.GroupSecrets) []byte { return s.AppendTo(nil) })
		if len(b) > 4 {
			b = b[4:]
		}
		malleability(t, b, func(b []byte) (*wire.Welcome, error) { return wire.ParseWelcome(b, defaults) },
			func(w *wire.Welcome) []byte { return w.AppendTo(nil) })
	})
}
