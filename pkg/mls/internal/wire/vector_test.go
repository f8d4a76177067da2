package wire_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

func TestVectorMessages(t *testing.T) {
	var entries []map[string]mlstest.Hex
	mlstest.Vectors(t, "messages.json", &entries)
	l := (&wire.Limits{}).WithDefaults()
	message := func(b []byte) ([]byte, error) {
		m, err := wire.ParseMessage(b, nil)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(m.Raw(), b) || !bytes.Equal(m.Encode(), b) {
			t.Error("Raw or Encode differs from the input")
		}
		return m.Rebuild().Encode(), nil
	}
	// A proposal's body stands alone in the file: put the type before it, and
	// take it off again.
	proposal := func(typ wire.ProposalType) func([]byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) {
			p, err := wire.ParseProposal(append(binary.BigEndian.AppendUint16(nil, uint16(typ)), b...), l)
			if err != nil {
				return nil, err
			}
			return p.Rebuild().Raw()[2:], nil
		}
	}
	kinds := map[string]func([]byte) ([]byte, error){
		"mls_welcome":     message,
		"mls_group_info":  message,
		"mls_key_package": message,
		"ratchet_tree": func(b []byte) ([]byte, error) {
			nodes, err := wire.ParseRatchetTree(b, l)
			if err != nil {
				return nil, err
			}
			for i, n := range nodes {
				if n.Leaf != nil {
					nodes[i].Leaf = n.Leaf.Rebuild()
				}
			}
			return wire.AppendRatchetTree(nil, nodes), nil
		},
		"group_secrets": func(b []byte) ([]byte, error) {
			s, err := wire.ParseGroupSecrets(b, l)
			if err != nil {
				return nil, err
			}
			return s.AppendTo(nil), nil
		},
		"add_proposal":                      proposal(wire.ProposalAdd),
		"update_proposal":                   proposal(wire.ProposalUpdate),
		"remove_proposal":                   proposal(wire.ProposalRemove),
		"pre_shared_key_proposal":           proposal(wire.ProposalPSK),
		"re_init_proposal":                  proposal(wire.ProposalReInit),
		"external_init_proposal":            proposal(wire.ProposalExternalInit),
		"group_context_extensions_proposal": proposal(wire.ProposalGroupContextExtensions),
		"commit": func(b []byte) ([]byte, error) {
			c, err := wire.ParseCommit(b, l)
			if err != nil {
				return nil, err
			}
			return c.Rebuild().AppendTo(nil), nil
		},
		"public_message_application": message,
		"public_message_proposal":    message,
		"public_message_commit":      message,
		"private_message":            message,
	}
	n := 0
	for i, e := range entries {
		for name, b := range e {
			again, ok := kinds[name]
			if !ok {
				t.Fatalf("entry %d: unknown kind %s", i, name)
			}
			got, err := again(b)
			if err != nil {
				t.Fatalf("entry %d, %s: %v", i, name, err)
			}
			if !bytes.Equal(got, b) {
				t.Fatalf("entry %d, %s: encodes to other bytes", i, name)
			}
			mlstest.Ran(t, "messages.json", wire.CipherSuite(0))
			n++
		}
	}
	mlstest.Count(t, "messages", n, 5100)
}

func TestVectorDeserialization(t *testing.T) {
	var entries []struct {
		Header mlstest.Hex `json:"vlbytes_header"`
		Length int         `json:"length"`
	}
	mlstest.Vectors(t, "deserialization.json", &entries)
	for i, e := range entries {
		if got := codec.AppendLength(nil, e.Length); !bytes.Equal(got, e.Header) {
			t.Errorf("entry %d: header of %d encodes to other bytes", i, e.Length)
		}
		if e.Length <= 1<<20 { // Length wants to see the bytes behind the header.
			r := codec.NewReader(append(bytes.Clone(e.Header), make([]byte, e.Length)...))
			if n := r.Length(); n != e.Length || r.Err() != nil {
				t.Errorf("entry %d: length %d, want %d", i, n, e.Length)
			}
		}
		mlstest.Ran(t, "deserialization.json", wire.CipherSuite(0))
	}
	mlstest.Count(t, "deserialization", len(entries), 14)
}
