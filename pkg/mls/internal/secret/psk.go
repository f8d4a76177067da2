package secret

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// PSK is a pre-shared key with the encoded PreSharedKeyID it goes by.
type PSK struct {
	ID  []byte
	Key suite.Secret
}

// PSKSecret chains PSKs in the order of the list (RFC 9420 §8.4); it is all
// zeros for an empty list only. At most 65,535 PSKs fit, Limits allow fewer.
func PSKSecret(s *suite.Suite, psks []PSK) suite.Secret {
	result := s.ZeroSecret()
	for i, psk := range psks {
		zero := s.ZeroSecret()
		extracted := s.Extract(zero, psk.Key)
		label := binary.BigEndian.AppendUint16(append([]byte(nil), psk.ID...), uint16(i))
		label = binary.BigEndian.AppendUint16(label, uint16(len(psks)))
		input := s.DeriveHash(extracted, "derived psk", label)
		next := s.Extract(input, result)
		extracted.Wipe()
		input.Wipe()
		result.Wipe()
		result = next
	}
	return result
}
