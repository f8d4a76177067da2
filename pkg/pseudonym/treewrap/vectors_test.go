package treewrap_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

// hexBytes is a byte string that JSON files hold in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

type vectors struct {
	Sequences map[string][]struct {
		Set, Remove, Written, Gone []uint32
		Top                        uint32
	}
	Node struct {
		GroupID hexBytes `json:"group_id"`
		AEADKey hexBytes `json:"aead_key"`
		Epoch   uint64

		Nonce, R, K2, K3, Payload, Ciphertext hexBytes
	}
}

func loadVectors(tb testing.TB) vectors {
	tb.Helper()
	b, err := os.ReadFile("testdata/vectors/spec.json")
	if err != nil {
		tb.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func secret(tb testing.TB, b []byte) primitive.Secret {
	tb.Helper()
	s, err := primitive.ParseSecret(b)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestNodeVector(t *testing.T) {
	v := loadVectors(t).Node
	r := secret(t, v.R)
	k2 := treewrap.NodeKey(r, 2)
	if !bytes.Equal(k2.Bytes(), v.K2) || !bytes.Equal(treewrap.NodeKey(r, 3).Bytes(), v.K3) {
		t.Error("node keys differ")
	}
	if got := primitive.DeriveKey128(k2, "TreeWrap key", nil).Bytes(); !bytes.Equal(got, v.AEADKey) {
		t.Errorf("AEAD key %x", got)
	}
	n := treewrap.SealNodeAt(v.GroupID, v.Epoch, 2, k2, v.Payload, primitive.Nonce(v.Nonce))
	if !bytes.Equal(n.Ciphertext, v.Ciphertext) {
		t.Errorf("ciphertext %x", n.Ciphertext)
	}
	if pt, err := n.Open(v.GroupID, k2); err != nil || !bytes.Equal(pt, v.Payload) {
		t.Errorf("opens to %x, %v", pt, err)
	}
}

// TestStructuralVectors lets one writer go through the steps of SPEC.md §22; a
// second member follows the deltas, the hub checks them.
func TestStructuralVectors(t *testing.T) {
	for name, steps := range loadVectors(t).Sequences {
		gid := bytes.Repeat([]byte{0xc0}, 32)
		writer, reader := treewrap.New(gid), treewrap.New(gid)
		var hub *treewrap.State
		leaves := make([]treewrap.Leaf, 16)
		for i, step := range steps {
			epoch, r := uint64(i), primitive.NewSecret()
			known := map[uint32]primitive.Secret{}
			for _, l := range step.Set {
				leaves[l] = treewrap.Leaf{Present: true, Rule: pseudonym.KeyRequired, Hash: [32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i+1)))}
				known[l] = primitive.NewSecret()
			}
			for _, l := range step.Remove {
				leaves[l] = treewrap.Leaf{}
			}
			d, next, err := writer.Write(treewrap.Write{Epoch: epoch, R: r, Leaves: leaves, Known: known})
			if err != nil {
				t.Fatalf("%s %d: %v", name, i+1, err)
			}
			var written []uint32
			for _, n := range d.Nodes {
				written = append(written, n.Index)
			}
			top, _ := next.State().Top()
			if diff := cmp.Diff(step.Written, written, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s %d: written %s", name, i+1, diff)
			}
			if diff := cmp.Diff(step.Gone, d.Gone, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s %d: gone %s", name, i+1, diff)
			}
			if top != step.Top {
				t.Errorf("%s %d: top %d, want %d", name, i+1, top, step.Top)
			}
			if hub, err = hub.Commit(epoch, leaves, nil, d); err != nil {
				t.Fatalf("%s %d: hub: %v", name, i+1, err)
			}
			if reader, err = reader.Apply(r, leaves, nil, d); err != nil {
				t.Fatalf("%s %d: reader: %v", name, i+1, err)
			}
			fresh, err := treewrap.Read(gid, hub, r)
			if err != nil {
				t.Fatalf("%s %d: fresh reader: %v", name, i+1, err)
			}
			for _, v := range []*treewrap.View{reader, fresh} {
				if len(v.Payloads()) != len(hub.Occupied()) {
					t.Errorf("%s %d: %d payloads of %d", name, i+1, len(v.Payloads()), len(hub.Occupied()))
				}
				for l, p := range next.Payloads() {
					if got, ok := v.Payload(l); !ok || !got.Equal(p) {
						t.Errorf("%s %d: payload of leaf %d", name, i+1, l)
					}
				}
			}
			writer = next
		}
	}
}
