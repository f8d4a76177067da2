package wire

import "slices"

// Capabilities is what a client supports (RFC 9420 §7.2). Unknown values are
// kept and ignored.
type Capabilities struct {
	Versions    []ProtocolVersion
	Suites      []CipherSuite
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

// AppendTo appends the encoding.
func (c *Capabilities) AppendTo(b []byte) []byte {
	b = appendUint16s(b, c.Versions)
	b = appendUint16s(b, c.Suites)
	b = appendUint16s(b, c.Extensions)
	b = appendUint16s(b, c.Proposals)
	return appendUint16s(b, c.Credentials)
}

func readCapabilities(r *reader) Capabilities {
	n := r.l.Capabilities
	return Capabilities{
		Versions:    uint16s[ProtocolVersion](r, n),
		Suites:      uint16s[CipherSuite](r, n),
		Extensions:  uint16s[ExtensionType](r, n),
		Proposals:   uint16s[ProposalType](r, n),
		Credentials: uint16s[CredentialType](r, n),
	}
}

// SupportsExtension reports whether the client supports an extension type:
// it is a default one or listed.
func (c *Capabilities) SupportsExtension(t ExtensionType) bool {
	return t.Default() || slices.Contains(c.Extensions, t)
}

// SupportsProposal reports whether the client supports a proposal type.
func (c *Capabilities) SupportsProposal(t ProposalType) bool {
	return t.Default() || slices.Contains(c.Proposals, t)
}

// SupportsCredential reports whether the client lists a credential type; no
// type is a default one (RFC 9420 §7.2).
func (c *Capabilities) SupportsCredential(t CredentialType) bool {
	return slices.Contains(c.Credentials, t)
}

// Satisfies reports whether the client supports everything required.
func (c *Capabilities) Satisfies(req *RequiredCapabilities) bool {
	for _, t := range req.Extensions {
		if !c.SupportsExtension(t) {
			return false
		}
	}
	for _, t := range req.Proposals {
		if !c.SupportsProposal(t) {
			return false
		}
	}
	for _, t := range req.Credentials {
		if !c.SupportsCredential(t) {
			return false
		}
	}
	return true
}
