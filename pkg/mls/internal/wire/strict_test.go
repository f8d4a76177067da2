package wire_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

var defaults = (&wire.Limits{}).WithDefaults()

func refused(t *testing.T, what string, err error, class wire.Class) {
	t.Helper()
	var r *wire.Refusal
	if !errors.As(err, &r) || r.Class != class {
		t.Errorf("%s: got error %v, want class %v", what, err, class)
	}
}

// sample returns one message of each kind from the vectors.
func sample(tb testing.TB) map[string][]byte {
	tb.Helper()
	var entries []map[string]mlstest.Hex
	mlstest.Vectors(tb, "messages.json", &entries)
	m := map[string][]byte{}
	for _, kind := range []string{
		"mls_welcome", "mls_group_info", "mls_key_package",
		"public_message_application", "public_message_proposal", "public_message_commit", "private_message",
	} {
		m[kind] = entries[7][kind]
	}
	return m
}

// TestVectorEveryByteCounts: whatever byte of a message is changed, the result
// is refused or is another message that encodes to its own bytes.
func TestVectorEveryByteCounts(t *testing.T) {
	for kind, b := range sample(t) {
		for i := range b {
			for _, bit := range []byte{1, 0x40, 0x80} {
				bad := bytes.Clone(b)
				bad[i] ^= bit
				m, err := wire.ParseMessage(bad, nil)
				if err != nil {
					if m != nil {
						t.Fatalf("%s: a refused message has a value", kind)
					}
					continue
				}
				if !bytes.Equal(m.Rebuild().Encode(), bad) {
					t.Fatalf("%s: byte %d is read as something else", kind, i)
				}
			}
		}
		for n := range b {
			if _, err := wire.ParseMessage(b[:n], nil); err == nil {
				t.Fatalf("%s: %d of %d bytes are a message", kind, n, len(b))
			}
		}
		_, err := wire.ParseMessage(append(bytes.Clone(b), 0), nil)
		refused(t, kind+" with a byte more", err, wire.ClassDecode)
	}
}

func TestCodecStrict(t *testing.T) {
	proposal := func(b ...byte) error {
		_, err := wire.ParseProposal(b, defaults)
		return err
	}
	psk := func(b ...byte) error { return proposal(append([]byte{0, 4}, b...)...) }
	for what, err := range map[string]error{
		"PSK type 0":        psk(0, 0, 0),
		"PSK type 0, short": psk(0, 0),
		"PSK type 3":        psk(3, 0, 0),
		"PSK type 3, short": psk(3, 0),
		"PSK usage 0":       psk(append([]byte{2, 0, 0}, make([]byte, 9)...)...),
		"PSK usage 4":       psk(append([]byte{2, 4, 0}, make([]byte, 9)...)...),
		"header too long":   psk(1, 0x40, 1, 0xaa, 0),
		"header prefix 11":  psk(1, 0xc0, 0, 0, 0, 0, 0, 0, 1, 0xaa, 0),
		"trailing byte":     psk(1, 0, 0, 0),
		"missing byte":      psk(1, 0),
		"vector not filled": proposal(0, 7, 3, 0, 9, 1),
	} {
		refused(t, what, err, wire.ClassDecode)
	}
	refused(t, "proposal type reserved", proposal(0, 0, 0), wire.ClassUnsupported)
	if err := psk(1, 1, 0xaa, 0); err != nil {
		t.Errorf("a lawful PSK: %v", err)
	}
	for _, path := range []byte{2, 0xff} {
		_, err := wire.ParseCommit([]byte{0, path}, defaults)
		refused(t, "optional path", err, wire.ClassDecode)
	}
	for _, present := range []byte{2, 0x80, 0xff} {
		_, err := wire.ParseGroupSecrets([]byte{0, present, 0, 0}, defaults)
		refused(t, "optional path secret", err, wire.ClassDecode)
	}
	if _, err := wire.ParseGroupSecrets([]byte{0, 1, 0, 0}, defaults); err != nil {
		t.Errorf("a lawful optional: %v", err)
	}
	if _, err := wire.ParseRequiredCapabilities([]byte{1, 0, 0, 0}, defaults); err == nil {
		t.Error("half a uint16 was accepted")
	}
	for _, head := range [][]byte{{0, 0, 0, 1}, {0, 2, 0, 1}, {0, 1, 0, 0}, {0, 1, 0, 6}, {0, 1, 0xf0, 0}, {}} {
		_, err := wire.ParseMessage(append(head, make([]byte, 40)...), nil)
		refused(t, "message header", err, wire.ClassDecode)
	}
}

func TestCustomProposalRegistered(t *testing.T) {
	b := []byte{0xf1, 0x01, 2, 1, 2}
	_, err := wire.ParseProposal(b, defaults)
	refused(t, "not registered", err, wire.ClassUnsupported)
	l := (&wire.Limits{CustomProposals: []wire.ProposalType{0xf101}}).WithDefaults()
	p, err := wire.ParseProposal(b, l)
	if err != nil || !bytes.Equal(p.Custom, []byte{1, 2}) || !bytes.Equal(p.Rebuild().Raw(), b) {
		t.Errorf("registered: %v", err)
	}
}

// TestLengthBombs: what a header announces costs nothing until it is there.
func TestLengthBombs(t *testing.T) {
	bombs := map[string][]byte{
		"welcome":      {0, 1, 0, 3, 0, 1, 0xbf, 0xff, 0xff, 0xff},
		"group info":   {0, 1, 0, 4, 0, 1, 0, 1, 0xbf, 0xff, 0xff, 0xff},
		"key package":  {0, 1, 0, 5, 0, 1, 0, 1, 0xbf, 0xff, 0xff, 0xff},
		"public":       {0, 1, 0, 1, 0xbf, 0xff, 0xff, 0xff},
		"private":      {0, 1, 0, 2, 0xbf, 0xff, 0xff, 0xff},
		"ratchet tree": {0xbf, 0xff, 0xff, 0xff},
	}
	for what, b := range bombs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var err error
		if what == "ratchet tree" {
			_, err = wire.ParseRatchetTree(b, defaults)
		} else {
			_, err = wire.ParseMessage(b, nil)
		}
		runtime.ReadMemStats(&after)
		refused(t, what, err, wire.ClassDecode)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: %d bytes allocated", what, n)
		}
	}
	// Blank nodes are one byte each: more of them than leaves are allowed.
	blank := codec.AppendVector(nil, make([]byte, 2*16384+1))
	_, err := wire.ParseRatchetTree(blank, defaults)
	refused(t, "blank nodes", err, wire.ClassLimit)
}

func TestLimits(t *testing.T) {
	message := func(l wire.Limits, b []byte) error {
		_, err := wire.ParseMessage(b, &l)
		return err
	}
	private := func(aad, gid int) []byte {
		return (&wire.PrivateMessage{
			GroupID: make([]byte, gid), ContentType: wire.ContentApplication, AAD: make([]byte, aad), Ciphertext: make([]byte, 100),
		}).Message()
	}
	refused(t, "message", message(wire.Limits{Message: 100}, private(0, 0)), wire.ClassLimit)
	refused(t, "AAD", message(wire.Limits{AAD: 10}, private(11, 0)), wire.ClassLimit)
	refused(t, "group id", message(wire.Limits{}, private(0, 256)), wire.ClassLimit)
	if err := message(wire.Limits{AAD: 10}, private(10, 255)); err != nil {
		t.Errorf("at the limits: %v", err)
	}
	many := func(n int) []byte {
		p := &wire.Proposal{Type: wire.ProposalGroupContextExtensions}
		for i := range n {
			p.Extensions = append(p.Extensions, wire.Extension{Type: wire.ExtensionType(i)})
		}
		return p.Seal().Raw()
	}
	_, err := wire.ParseProposal(many(65), defaults)
	refused(t, "extensions", err, wire.ClassLimit)
	if _, err := wire.ParseProposal(many(64), defaults); err != nil {
		t.Errorf("64 extensions: %v", err)
	}
	long := (&wire.Proposal{Type: wire.ProposalGroupContextExtensions, Extensions: []wire.Extension{{Type: 9, Data: make([]byte, 64<<10+1)}}}).Seal()
	_, err = wire.ParseProposal(long.Raw(), defaults)
	refused(t, "extension", err, wire.ClassLimit)
	c := &wire.Commit{}
	for range 4097 {
		c.Proposals = append(c.Proposals, wire.ProposalOrRef{Reference: []byte{1}})
	}
	_, err = wire.ParseCommit(c.AppendTo(nil), defaults)
	refused(t, "proposals", err, wire.ClassLimit)
}

// TestVectorCopies: input buffers are copied, and copies are deep.
func TestVectorCopies(t *testing.T) {
	for kind, b := range sample(t) {
		in := bytes.Clone(b)
		m, err := wire.ParseMessage(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		clear(in)
		m.Raw()[0] ^= 1
		if !bytes.Equal(m.Raw(), b) || !bytes.Equal(m.Encode(), b) {
			t.Errorf("%s: the message aliases its input or its output", kind)
		}
		if m.KeyPackage != nil {
			leaf := m.KeyPackage.Leaf
			clone := leaf.Clone()
			if d := cmp.Diff(leaf.Rebuild().Raw(), clone.Rebuild().Raw()); d != "" {
				t.Error("a clone differs")
			}
			clear(clone.Raw())
			if !bytes.Equal(m.Encode(), b) {
				t.Errorf("%s: a clone aliases its original", kind)
			}
		}
	}
}

// TestParseIsLinear: parsing a commit of very many small elements allocates in
// proportion to its size.
func TestParseIsLinear(t *testing.T) {
	build := func(n int) []byte {
		c := &wire.Commit{}
		for i := range n {
			c.Proposals = append(c.Proposals, wire.ProposalOrRef{Proposal: (&wire.Proposal{Type: wire.ProposalRemove, Remove: wire.LeafIndex(i)}).Seal()})
		}
		return c.AppendTo(nil)
	}
	l := *defaults
	l.Proposals = 1 << 20
	cost := func(b []byte) (allocated uint64, allocs float64) {
		allocs = testing.AllocsPerRun(1, func() {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := wire.ParseCommit(b, &l); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			allocated = after.TotalAlloc - before.TotalAlloc
		})
		return allocated, allocs
	}
	small, large := build(1000), build(8000)
	smallBytes, smallAllocs := cost(small)
	largeBytes, largeAllocs := cost(large)
	if largeBytes > 12*smallBytes || largeAllocs > 12*smallAllocs {
		t.Errorf("8 times the input allocates %d bytes in place of %d, %v times in place of %v",
			largeBytes, smallBytes, largeAllocs, smallAllocs)
	}
	if largeBytes > 64*uint64(len(large)) {
		t.Errorf("%d bytes allocated for %d", largeBytes, len(large))
	}
}
