package mls

import (
	"crypto/rand"
	"slices"
)

// GreaseValue returns one of the fifteen values that RFC 9420 §13.5 reserves so
// that implementations stay used to values that they do not know, at random.
func GreaseValue() uint16 {
	var b [1]byte
	for {
		rand.Read(b[:]) // Never fails: it ends the program instead.
		if n := uint16(b[0] >> 4); n < 15 {
			return 0x0a0a + 0x1010*n
		}
	}
}

// GreaseExtension returns an extension that means nothing. It may stand in
// leaves whose capabilities list its type, in key packages and in GroupInfos;
// in a GroupContext it would bind every member (RFC 9420 §13.5).
func GreaseExtension() Extension {
	data := make([]byte, 8)
	rand.Read(data)
	return Extension{Type: ExtensionType(GreaseValue()), Data: data}
}

// GreaseCapabilities returns capabilities with a reserved value in each list
// that may have one: cipher suites, extensions, proposals and credentials, but
// not versions (RFC 9420 §13.5).
func GreaseCapabilities(c Capabilities) Capabilities {
	return Capabilities{
		Versions:    slices.Clone(c.Versions),
		Suites:      append(slices.Clone(c.Suites), CipherSuite(GreaseValue())),
		Extensions:  append(slices.Clone(c.Extensions), ExtensionType(GreaseValue())),
		Proposals:   append(slices.Clone(c.Proposals), ProposalType(GreaseValue())),
		Credentials: append(slices.Clone(c.Credentials), CredentialType(GreaseValue())),
	}
}
