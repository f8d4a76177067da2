package ciscomls

import (
	"bytes"
	"encoding/binary"
	"testing"

	syntax "github.com/cisco/go-tls-syntax"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

type sample struct {
	Short uint16
	Long  uint64
	Data  []byte  `tls:"head=varint"`
	Maybe *uint32 `tls:"optional"`
}

// TestDraft2020Codec compares encodings both ways, at the lengths around every
// change of the header's size.
func TestDraft2020Codec(t *testing.T) {
	number := uint32(0xdeadbeef)
	for _, n := range []int{0, 1, 63, 64, 65, 16383, 16384, 16385, 1 << 18} {
		for _, maybe := range []*uint32{nil, &number} {
			v := sample{0x0102, 0x0304050607080910, bytes.Repeat([]byte{0xa5}, n), maybe}
			theirs, err := syntax.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			ours := binary.BigEndian.AppendUint16(nil, v.Short)
			ours = binary.BigEndian.AppendUint64(ours, v.Long)
			ours = codec.AppendVector(ours, v.Data)
			ours = codec.AppendOptional(ours, maybe != nil)
			if maybe != nil {
				ours = binary.BigEndian.AppendUint32(ours, number)
			}
			if !bytes.Equal(ours, theirs) {
				t.Fatalf("length %d: other bytes", n)
			}
			r := codec.NewReader(theirs)
			if r.Uint16() != v.Short || r.Uint64() != v.Long || !bytes.Equal(r.Vector(1<<20), v.Data) ||
				r.Optional() != (maybe != nil) || maybe != nil && r.Uint32() != number || r.Done() != nil {
				t.Fatalf("length %d: ours reads theirs otherwise", n)
			}
			var back sample
			if used, err := syntax.Unmarshal(ours, &back); err != nil || used != len(ours) || !bytes.Equal(back.Data, v.Data) {
				t.Fatalf("length %d: theirs reads ours otherwise: %v", n, err)
			}
		}
	}
}
