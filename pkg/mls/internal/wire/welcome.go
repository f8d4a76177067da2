package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Welcome lets the members added by a commit join (RFC 9420 §12.4.3.1).
type Welcome struct {
	Suite              CipherSuite
	Secrets            []EncryptedGroupSecrets
	EncryptedGroupInfo []byte
}

// EncryptedGroupSecrets is a GroupSecrets, encrypted to one key package.
type EncryptedGroupSecrets struct {
	NewMember []byte // KeyPackageRef
	Secrets   HPKECiphertext
}

// GroupSecrets is what a new member needs to open the rest of a Welcome. It
// holds secrets: it never leaves the member's packages.
type GroupSecrets struct {
	JoinerSecret []byte
	PathSecret   []byte // nil if absent
	PSKs         []PreSharedKeyID
}

// ParseWelcome reads exactly one Welcome structure, without the MLSMessage
// around it.
func ParseWelcome(b []byte, l *Limits) (*Welcome, error) {
	return parse(b, l.Message+l.Tree, l, readWelcome)
}

func readWelcome(r *reader) *Welcome {
	return &Welcome{
		Suite: CipherSuite(r.Uint16()),
		Secrets: list(r, r.l.Leaves, func(r *reader) EncryptedGroupSecrets {
			return EncryptedGroupSecrets{NewMember: r.opaque(), Secrets: readHPKECiphertext(r)}
		}),
		EncryptedGroupInfo: r.opaque(),
	}
}

// AppendTo appends the encoding, without the MLSMessage around it.
func (w *Welcome) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(w.Suite))
	b = appendList(b, w.Secrets, func(b []byte, s EncryptedGroupSecrets) []byte {
		return s.Secrets.AppendTo(codec.AppendVector(b, s.NewMember))
	})
	return codec.AppendVector(b, w.EncryptedGroupInfo)
}

// Message returns the MLSMessage.
func (w *Welcome) Message() []byte { return w.AppendTo(appendMessageHeader(nil, FormatWelcome)) }

// ParseGroupSecrets reads exactly one GroupSecrets structure. The result holds
// its own copy; the caller wipes both.
func ParseGroupSecrets(b []byte, l *Limits) (*GroupSecrets, error) {
	return parse(b, l.Message, l, func(r *reader) *GroupSecrets {
		s := &GroupSecrets{JoinerSecret: r.opaque()}
		if r.Optional() {
			s.PathSecret = r.opaque()
		}
		s.PSKs = list(r, r.l.PSKs, readPSK)
		return s
	})
}

// AppendTo appends the encoding.
func (s *GroupSecrets) AppendTo(b []byte) []byte {
	b = codec.AppendVector(b, s.JoinerSecret)
	b = codec.AppendOptional(b, s.PathSecret != nil)
	if s.PathSecret != nil {
		b = codec.AppendVector(b, s.PathSecret)
	}
	return appendList(b, s.PSKs, func(b []byte, p PreSharedKeyID) []byte { return p.AppendTo(b) })
}
