package mls

import "github.com/mmrelay/mmrelay/pkg/mls/internal/wire"

// The structures of RFC 9420. Values that were parsed must not be modified.
type (
	Message              = wire.Message
	KeyPackage           = wire.KeyPackage
	LeafNode             = wire.LeafNode
	Lifetime             = wire.Lifetime
	Capabilities         = wire.Capabilities
	RequiredCapabilities = wire.RequiredCapabilities
	Credential           = wire.Credential
	Extension            = wire.Extension
	ExternalSender       = wire.ExternalSender
	GroupContext         = wire.GroupContext
	GroupInfo            = wire.GroupInfo
	ProposalBody         = wire.Proposal
	PreSharedKeyID       = wire.PreSharedKeyID
	ReInit               = wire.ReInit
	Sender               = wire.Sender
)

// Numbers of RFC 9420.
type (
	CipherSuite     = wire.CipherSuite
	ProtocolVersion = wire.ProtocolVersion
	LeafIndex       = wire.LeafIndex
	Epoch           = wire.Epoch
	WireFormat      = wire.WireFormat
	ContentType     = wire.ContentType
	SenderType      = wire.SenderType
	LeafNodeSource  = wire.LeafNodeSource
	CredentialType  = wire.CredentialType
	ExtensionType   = wire.ExtensionType
	ProposalType    = wire.ProposalType
	PSKType         = wire.PSKType
	PSKUsage        = wire.PSKUsage
)

// MLS10 is RFC 9420's protocol version.
const MLS10 = wire.MLS10

// Wire formats (RFC 9420 §17.2).
const (
	FormatPublicMessage  = wire.FormatPublicMessage
	FormatPrivateMessage = wire.FormatPrivateMessage
	FormatWelcome        = wire.FormatWelcome
	FormatGroupInfo      = wire.FormatGroupInfo
	FormatKeyPackage     = wire.FormatKeyPackage
)

// Content types (RFC 9420 §6).
const (
	ContentApplication = wire.ContentApplication
	ContentProposal    = wire.ContentProposal
	ContentCommit      = wire.ContentCommit
)

// Sender types (RFC 9420 §6).
const (
	SenderMember            = wire.SenderMember
	SenderExternal          = wire.SenderExternal
	SenderNewMemberProposal = wire.SenderNewMemberProposal
	SenderNewMemberCommit   = wire.SenderNewMemberCommit
)

// Leaf node sources (RFC 9420 §7.2).
const (
	SourceKeyPackage = wire.SourceKeyPackage
	SourceUpdate     = wire.SourceUpdate
	SourceCommit     = wire.SourceCommit
)

// Credential types (RFC 9420 §17.5).
const (
	CredentialBasic = wire.CredentialBasic
	CredentialX509  = wire.CredentialX509
)

// Extension types (RFC 9420 §17.3).
const (
	ExtensionApplicationID        = wire.ExtensionApplicationID
	ExtensionRatchetTree          = wire.ExtensionRatchetTree
	ExtensionRequiredCapabilities = wire.ExtensionRequiredCapabilities
	ExtensionExternalPub          = wire.ExtensionExternalPub
	ExtensionExternalSenders      = wire.ExtensionExternalSenders
)

// Proposal types (RFC 9420 §17.4).
const (
	ProposalAdd                    = wire.ProposalAdd
	ProposalUpdate                 = wire.ProposalUpdate
	ProposalRemove                 = wire.ProposalRemove
	ProposalPSK                    = wire.ProposalPSK
	ProposalReInit                 = wire.ProposalReInit
	ProposalExternalInit           = wire.ProposalExternalInit
	ProposalGroupContextExtensions = wire.ProposalGroupContextExtensions
)

// PSK types and usages (RFC 9420 §8.4).
const (
	PSKExternal      = wire.PSKExternal
	PSKResumption    = wire.PSKResumption
	UsageApplication = wire.UsageApplication
	UsageReInit      = wire.UsageReInit
	UsageBranch      = wire.UsageBranch
)

// Classes of refusals.
const (
	ClassInvalid     = wire.ClassInvalid
	ClassDecode      = wire.ClassDecode
	ClassLimit       = wire.ClassLimit
	ClassStale       = wire.ClassStale
	ClassReplay      = wire.ClassReplay
	ClassTooFar      = wire.ClassTooFar
	ClassUnsupported = wire.ClassUnsupported
)

// BasicCredential returns a credential that asserts an identity (§5.3).
func BasicCredential(identity []byte) Credential { return wire.BasicCredential(identity) }

// X509Credential returns a credential of DER certificates, end entity first.
func X509Credential(chain ...[]byte) Credential { return wire.X509Credential(chain...) }

// CustomCredential returns a credential of a type that RFC 9420 does not
// define; it is encoded as the type and body<V>.
func CustomCredential(t CredentialType, body []byte) Credential {
	return wire.CustomCredential(t, body)
}

// FindExtension returns the data of the first extension of a type.
func FindExtension(es []Extension, t ExtensionType) (data []byte, ok bool) {
	return wire.FindExtension(es, t)
}

// ParseRequiredCapabilities reads the data of a required_capabilities
// extension (§11.1); RequiredCapabilities.Extension makes one. l may be nil.
func ParseRequiredCapabilities(data []byte, l *Limits) (*RequiredCapabilities, error) {
	return wire.ParseRequiredCapabilities(data, l.WithDefaults())
}

// ParseExternalSenders reads the data of an external_senders extension
// (§12.1.8.1). l may be nil.
func ParseExternalSenders(data []byte, l *Limits) ([]ExternalSender, error) {
	return wire.ParseExternalSenders(data, l.WithDefaults())
}

// ExternalSendersExtension returns the external_senders extension.
func ExternalSendersExtension(senders ...ExternalSender) Extension {
	return wire.ExternalSendersExtension(senders...)
}

// ParseExternalPub reads the data of an external_pub extension (§12.4.3.2).
// l may be nil.
func ParseExternalPub(data []byte, l *Limits) ([]byte, error) {
	return wire.ParseExternalPub(data, l.WithDefaults())
}
