package wire

import "github.com/mmrelay/mmrelay/pkg/mls/internal/suite"

// CipherSuite is a cipher suite's number (RFC 9420 §17.1).
type CipherSuite = suite.ID

// ProtocolVersion is the version of MLS; only MLS10 exists.
type ProtocolVersion uint16

// MLS10 is RFC 9420's protocol version.
const MLS10 ProtocolVersion = 1

// LeafIndex is the position of a leaf among all leaves of the tree, from 0.
type LeafIndex uint32

// Epoch counts the commits of a group.
type Epoch = uint64

// WireFormat says what an MLSMessage carries (RFC 9420 §17.2).
type WireFormat uint16

// The wire formats of RFC 9420.
const (
	FormatPublicMessage WireFormat = iota + 1
	FormatPrivateMessage
	FormatWelcome
	FormatGroupInfo
	FormatKeyPackage
)

// ContentType is the kind of a framed content (RFC 9420 §6).
type ContentType uint8

// The content types of RFC 9420.
const (
	ContentApplication ContentType = iota + 1
	ContentProposal
	ContentCommit
)

// SenderType says who signed a framed content (RFC 9420 §6).
type SenderType uint8

// The sender types of RFC 9420.
const (
	SenderMember SenderType = iota + 1
	SenderExternal
	SenderNewMemberProposal
	SenderNewMemberCommit
)

// Sender is the signer of a framed content. Index is the leaf index of a
// member or the position of an external sender; it is 0 for the other types.
type Sender struct {
	Type  SenderType
	Index uint32
}

// LeafNodeSource says how a leaf came into the tree (RFC 9420 §7.2).
type LeafNodeSource uint8

// The sources of RFC 9420 §7.2.
const (
	SourceKeyPackage LeafNodeSource = iota + 1
	SourceUpdate
	SourceCommit
)

// CredentialType is the type of a credential (RFC 9420 §17.5).
type CredentialType uint16

// The credential types of RFC 9420.
const (
	CredentialBasic CredentialType = 1
	CredentialX509  CredentialType = 2
)

// ExtensionType is the type of an extension (RFC 9420 §17.3).
type ExtensionType uint16

// The extension types of RFC 9420. They are default: nobody lists them in
// capabilities (RFC 9420 §7.2).
const (
	ExtensionApplicationID        ExtensionType = 1
	ExtensionRatchetTree          ExtensionType = 2
	ExtensionRequiredCapabilities ExtensionType = 3
	ExtensionExternalPub          ExtensionType = 4
	ExtensionExternalSenders      ExtensionType = 5
)

// Default reports whether t is one of the extension types that every client
// supports without listing them.
func (t ExtensionType) Default() bool {
	return t >= ExtensionApplicationID && t <= ExtensionExternalSenders
}

// ProposalType is the type of a proposal (RFC 9420 §17.4).
type ProposalType uint16

// The proposal types of RFC 9420. They are default: nobody lists them in
// capabilities (RFC 9420 §7.2).
const (
	ProposalAdd                    ProposalType = 1
	ProposalUpdate                 ProposalType = 2
	ProposalRemove                 ProposalType = 3
	ProposalPSK                    ProposalType = 4
	ProposalReInit                 ProposalType = 5
	ProposalExternalInit           ProposalType = 6
	ProposalGroupContextExtensions ProposalType = 7
)

// Default reports whether t is one of the proposal types that every client
// supports without listing them.
func (t ProposalType) Default() bool {
	return t >= ProposalAdd && t <= ProposalGroupContextExtensions
}

// PSKType says where a pre-shared key comes from (RFC 9420 §8.4).
type PSKType uint8

// The PSK types of RFC 9420 §8.4.
const (
	PSKExternal PSKType = iota + 1
	PSKResumption
)

// PSKUsage is the usage of a resumption PSK (RFC 9420 §8.4).
type PSKUsage uint8

// The usages of RFC 9420 §8.4.
const (
	UsageApplication PSKUsage = iota + 1
	UsageReInit
	UsageBranch
)
