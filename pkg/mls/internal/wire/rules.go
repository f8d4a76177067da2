package wire

// Rule names a rule that input can violate. The values are stable, contain no
// data, and may be logged, counted and sent to other members.
type Rule string

// Syntax and limits.
const (
	RuleMalformed           Rule = "malformed"            // RFC 9420 §2.1: not exactly one well-formed structure
	RuleLimit               Rule = "limit"                // a limit of Limits
	RuleUnsupportedProposal Rule = "unsupported-proposal" // §12.1: proposal type nobody registered
	RuleUnsupportedSuite    Rule = "unsupported-suite"    // §5.1: unknown cipher suite
)

// Framing (RFC 9420 §6).
const (
	RuleWireFormat        Rule = "wire-format"        // §6: not a message of the expected kind
	RuleGroupID           Rule = "group-id"           // §12.4.2: another group
	RuleEpoch             Rule = "epoch"              // §12.4.2: another epoch
	RuleClosed            Rule = "closed"             // §12.4.2: the group was re-initialized
	RuleSender            Rule = "sender"             // §6.1: blank leaf or unknown external sender
	RuleSenderContent     Rule = "sender-content"     // §6.1: this kind of sender may not send this kind of content
	RuleApplicationPublic Rule = "application-public" // §6: application data in a PublicMessage
	RuleSignature         Rule = "signature"          // §6.1: FramedContentTBS
	RuleMembershipTag     Rule = "membership-tag"     // §6.2
	RuleConfirmationTag   Rule = "confirmation-tag"   // §6.1
	RulePadding           Rule = "padding"            // §6.3.1: padding is not zero
	RuleSenderData        Rule = "sender-data"        // §6.3.2: blank leaf, or undecryptable
	RuleDecrypt           Rule = "decrypt"            // §6.3.1: undecryptable content
	RuleGeneration        Rule = "generation"         // §9.1: used before, or outside the window
	RulePolicy            Rule = "policy"             // the application's Rules.Commit
)

// Leaves and key packages (RFC 9420 §5.3, §7.2, §7.3, §10.1).
const (
	RuleCredential            Rule = "credential"              // §5.3.1: refused by Rules.Credential
	RuleSuccessor             Rule = "successor"               // §5.3.1: refused by Rules.Successor
	RuleLeafSignature         Rule = "leaf-signature"          // §7.3
	RuleLeafSource            Rule = "leaf-source"             // §7.3
	RuleLeafKey               Rule = "leaf-key"                // §5.1.1: invalid encryption or signature key
	RuleLeafKeyReused         Rule = "leaf-key-reused"         // §7.3: new leaf with the old encryption key
	RuleLeafVersion           Rule = "leaf-version"            // §7.2: own version or suite not listed
	RuleLeafExtensions        Rule = "leaf-extensions"         // §7.3: extension not in capabilities
	RuleLeafCapabilities      Rule = "leaf-capabilities"       // §11.1, §13.4: lacks what the group requires
	RuleCredentialTypes       Rule = "credential-types"        // §7.3: types not supported both ways
	RuleDuplicateExtension    Rule = "duplicate-extension"     // §13.4
	RuleDuplicateSignatureKey Rule = "duplicate-signature-key" // §7.3
	RuleDuplicateEncryption   Rule = "duplicate-encryption"    // §7.3, §12.4.3.1: encryption key twice in the tree
	RuleLifetime              Rule = "lifetime"                // §7.2, §7.3
	RuleKeyPackageSuite       Rule = "key-package-suite"       // §10.1: other version or suite
	RuleKeyPackageSignature   Rule = "key-package-signature"   // §10.1
	RuleKeyPackageInitKey     Rule = "key-package-init-key"    // §10.1: equals the leaf's, or invalid
)

// Proposals (RFC 9420 §12.1, §12.2).
const (
	RuleRemoveBlank          Rule = "remove-blank"           // §12.1.3
	RuleRemoveCommitter      Rule = "remove-committer"       // §12.2
	RuleUpdateCommitter      Rule = "update-committer"       // §12.2: Update by the committer
	RuleUpdateByValue        Rule = "update-by-value"        // §12.2: an Update in its own commit
	RuleSameLeafTwice        Rule = "same-leaf-twice"        // §12.2
	RuleSameClient           Rule = "same-client"            // §12.2: Add of a present client, or twice
	RulePSKUsage             Rule = "psk-usage"              // §12.1.4
	RulePSKNonce             Rule = "psk-nonce"              // §12.1.4
	RulePSKTwice             Rule = "psk-twice"              // §12.2
	RulePSKUnknown           Rule = "psk-unknown"            // §12.4.2
	RuleTwoExtensions        Rule = "two-extensions"         // §12.2: two GroupContextExtensions
	RuleExtensionsSupport    Rule = "extensions-support"     // §12.1.7, §13.4: a member lacks support
	RuleExtensionSyntax      Rule = "extension-syntax"       // §11.1, §12.1.8.1: malformed known extension
	RuleReInitAlone          Rule = "reinit-alone"           // §12.2
	RuleReInitVersion        Rule = "reinit-version"         // §12.1.5
	RuleExternalInit         Rule = "external-init"          // §12.2: from a member, or not exactly one
	RuleCustomSupport        Rule = "custom-support"         // §12.2, §13.2
	RuleReferenceUnknown     Rule = "reference-unknown"      // §12.4: no such proposal in this epoch
	RuleReferenceTwice       Rule = "reference-twice"        // §12.4
	RuleExternalReference    Rule = "external-reference"     // §12.4.3.2: reference in an external commit
	RuleExternalProposals    Rule = "external-proposals"     // §12.2: not allowed in an external commit
	RuleExternalProposalType Rule = "external-proposal-type" // §12.1.8: type not allowed for the sender
	RuleStored               Rule = "stored"                 // too many stored proposals
	RuleDuplicateProposal    Rule = "duplicate-proposal"     // the same proposal message twice
)

// Tree and path (RFC 9420 §7).
const (
	RulePathRequired     Rule = "path-required"     // §12.4
	RulePathShape        Rule = "path-shape"        // §7.6
	RulePathKey          Rule = "path-key"          // §12.4.2: invalid, repeated or known public key
	RulePathParentHash   Rule = "path-parent-hash"  // §7.9.2
	RulePathSecret       Rule = "path-secret"       // §7.5: undecryptable, or derived keys differ
	RuleTreeSize         Rule = "tree-size"         // §12.4.3.3: too many leaves
	RuleTreeNodeType     Rule = "tree-node-type"    // §12.4.3.3: leaf at odd or parent at even position
	RuleTreeLastBlank    Rule = "tree-last-blank"   // §12.4.3.3
	RuleTreeUnmerged     Rule = "tree-unmerged"     // §12.4.3.1
	RuleTreeParentHash   Rule = "tree-parent-hash"  // §7.9.2
	RuleTreeHash         Rule = "tree-hash"         // §12.4.3.1: differs from the GroupContext
	RuleTreeKey          Rule = "tree-key"          // §5.1.1: invalid key in a parent
	RuleTreeMissing      Rule = "tree-missing"      // §12.4.3.1: no ratchet tree given
	RuleTreeContradicted Rule = "tree-contradicted" // two different ratchet trees given
	RuleTreeEmpty        Rule = "tree-empty"        // no member
)

// GroupInfo, Welcome and state.
const (
	RuleGroupInfoSigner    Rule = "group-info-signer"    // §12.4.3: blank leaf
	RuleGroupInfoSignature Rule = "group-info-signature" // §12.4.3
	RuleGroupInfoContext   Rule = "group-info-context"   // another group state
	RuleGroupInfoTag       Rule = "group-info-tag"       // another confirmation tag
	RuleExternalPub        Rule = "external-pub"         // §12.4.3.2: missing or malformed
	RuleWelcomeSuite       Rule = "welcome-suite"        // §12.4.3.1
	RuleWelcomeRecipient   Rule = "welcome-recipient"    // §12.4.3.1: not for any of our key packages
	RuleWelcomeDecrypt     Rule = "welcome-decrypt"      // §12.4.3.1
	RuleWelcomeLeaf        Rule = "welcome-leaf"         // §12.4.3.1: own leaf not in the tree
	RuleWelcomePSK         Rule = "welcome-psk"          // §12.4.3.1
	RuleWelcomeGroupID     Rule = "welcome-group-id"     // §12.4.3: group already joined
	RuleWelcomePathSecret  Rule = "welcome-path-secret"  // §12.4.3.1
	RuleState              Rule = "state"                // saved state that this version cannot have written
)
