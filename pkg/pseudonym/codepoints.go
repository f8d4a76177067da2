package pseudonym

// The code points of SPEC.md §4.1, all in the private-use ranges of RFC 9420
// §17.
const (
	CredentialBasic        uint16 = 0x0001 // RFC 9420: carries a Credential as its identity
	CredentialX509         uint16 = 0x0002 // RFC 9420: real credentials and hub identities
	CredentialPseudonymous uint16 = 0xF0A1 // carries a Credential as opaque body<V>

	ExtensionIdentityLinkWrapper uint16 = 0xF0A2 // GroupInfo, only inside a Welcome, static scheme
	ExtensionDelivery            uint16 = 0xF0A4 // LeafNode, seal.Delivery
	ExtensionRoom                uint16 = 0xF0A5 // GroupContext, Room
	ExtensionWrapDelta           uint16 = 0xF0A6 // GroupInfo given to the hub, treewrap scheme
	ExtensionLastResort          uint16 = 0xF0A7 // KeyPackage, empty

	AADAddAAD             uint16 = 0x8A01 // AddAAD
	AADConnectionResponse uint16 = 0x8A03 // HPKECiphertext of a SignedResponse
	AADJoinerLink         uint16 = 0x8A07 // HPKECiphertext of a link key
	AADSiblingProof       uint16 = 0x8A09 // SiblingProof
	AADFrank              uint16 = 0x8A0A // franking_tag, 32 bytes
)

// RFC 9420 code points that the profile names.
const (
	versionMLS10 uint16 = 1

	ExtensionRequiredCapabilities uint16 = 0x0003 // GroupContext
	ExtensionExternalSenders      uint16 = 0x0005 // GroupContext
)

// RequiredExtensions returns the extension types of required_capabilities in
// every room (SPEC.md §4.1). There are no proposal types; the credential types
// are one or both of CredentialBasic and CredentialPseudonymous.
func RequiredExtensions() []uint16 { return []uint16{ExtensionDelivery, ExtensionRoom} }

// CapabilityExtensions returns the extensions in the capabilities of every
// pseudonymous leaf, in order (SPEC.md R-134).
func CapabilityExtensions() []uint16 {
	return []uint16{ExtensionIdentityLinkWrapper, ExtensionDelivery, ExtensionRoom, ExtensionWrapDelta, ExtensionLastResort}
}

// CapabilityCredentials returns the credential types in the capabilities of
// every pseudonymous leaf, in order (SPEC.md R-134).
func CapabilityCredentials() []uint16 { return []uint16{CredentialBasic, CredentialPseudonymous} }

// LifetimeSeconds is how long every key package is valid, from a midnight UTC
// on (SPEC.md R-134).
const LifetimeSeconds = 2_592_000
