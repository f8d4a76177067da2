package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// PreSharedKeyID names a pre-shared key and its use in one epoch (RFC 9420
// §8.4). ID is set for type external; Usage, GroupID and Epoch for resumption.
type PreSharedKeyID struct {
	Type    PSKType
	ID      []byte
	Usage   PSKUsage
	GroupID []byte
	Epoch   Epoch
	Nonce   []byte
}

func readPSK(r *reader) (p PreSharedKeyID) {
	switch p.Type = PSKType(r.Uint8()); p.Type {
	case PSKExternal:
		p.ID = r.opaque()
	case PSKResumption:
		p.Usage = PSKUsage(r.Uint8())
		if p.Usage < UsageApplication || p.Usage > UsageBranch {
			r.malformed()
		}
		p.GroupID = r.opaque()
		p.Epoch = r.Uint64()
	default:
		r.malformed()
	}
	p.Nonce = r.opaque()
	return p
}

// AppendTo appends the encoding.
func (p PreSharedKeyID) AppendTo(b []byte) []byte {
	b = append(b, byte(p.Type))
	switch p.Type {
	case PSKExternal:
		b = codec.AppendVector(b, p.ID)
	case PSKResumption:
		b = append(b, byte(p.Usage))
		b = codec.AppendVector(b, p.GroupID)
		b = binary.BigEndian.AppendUint64(b, p.Epoch)
	}
	return codec.AppendVector(b, p.Nonce)
}

// Equal reports whether two identifiers are the same bytes, nonce included.
func (p PreSharedKeyID) Equal(q PreSharedKeyID) bool {
	return bytes.Equal(p.AppendTo(nil), q.AppendTo(nil))
}
