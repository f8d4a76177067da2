package mls

import (
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// EncryptWithLabel seals plaintext to an HPKE public key of a suite (RFC 9420
// §5.1.3), such as the external_pub of a GroupInfo: all members of its epoch
// can open it with member.Group.DecryptExternal.
func EncryptWithLabel(id CipherSuite, public []byte, label string, context, plaintext []byte) (kemOutput, ciphertext []byte, err error) {
	s := suite.Get(id)
	if s == nil {
		return nil, nil, wire.RefuseAs(wire.RuleUnsupportedSuite, wire.ClassUnsupported)
	}
	return s.EncryptWithLabel(public, label, context, plaintext)
}
