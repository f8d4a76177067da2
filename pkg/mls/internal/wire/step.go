package wire

// Step is the part of processing to which a rule belongs, in the order in
// which Process takes them. A server maps it to its error codes.
type Step uint8

// The steps.
const (
	StepDecode    Step = iota + 1 // syntax and limits
	StepFraming                   // wire format, group, combination of sender and content
	StepEpoch                     // another epoch
	StepSignature                 // sender and its signature
	StepProposals                 // proposals by themselves and their list
	StepLeaf                      // leaves and key packages
	StepTree                      // path and tree
	StepPolicy                    // the application's Rules
	StepGroupInfo                 // GroupInfo
	StepSecret                    // what only members check
	StepState                     // saved state
)

// Step returns the step of a rule. A rule can be checked in several places; the
// step is that of its main one.
func (r Rule) Step() Step {
	switch r {
	case RuleMalformed, RuleLimit, RuleUnsupportedProposal, RuleUnsupportedSuite:
		return StepDecode
	case RuleWireFormat, RuleGroupID, RuleClosed, RuleSenderContent, RuleApplicationPublic, RuleExternalProposalType:
		return StepFraming
	case RuleEpoch:
		return StepEpoch
	case RuleSender, RuleSignature:
		return StepSignature
	case RulePolicy, RuleCredential, RuleSuccessor:
		return StepPolicy
	case RuleLeafSignature, RuleLeafSource, RuleLeafKey, RuleLeafKeyReused, RuleLeafVersion, RuleLeafExtensions,
		RuleLeafCapabilities, RuleCredentialTypes, RuleDuplicateSignatureKey, RuleDuplicateEncryption, RuleLifetime,
		RuleKeyPackageSuite, RuleKeyPackageSignature, RuleKeyPackageInitKey:
		return StepLeaf
	case RulePathRequired, RulePathShape, RulePathKey, RulePathParentHash, RuleTreeSize, RuleTreeNodeType,
		RuleTreeLastBlank, RuleTreeUnmerged, RuleTreeParentHash, RuleTreeHash, RuleTreeKey, RuleTreeMissing,
		RuleTreeContradicted, RuleTreeEmpty:
		return StepTree
	case RuleGroupInfoSigner, RuleGroupInfoSignature, RuleGroupInfoContext, RuleGroupInfoTag, RuleExternalPub:
		return StepGroupInfo
	case RuleMembershipTag, RuleConfirmationTag, RulePadding, RuleSenderData, RuleDecrypt, RuleGeneration,
		RulePathSecret, RulePSKUnknown, RuleWelcomeSuite, RuleWelcomeRecipient, RuleWelcomeDecrypt, RuleWelcomeLeaf,
		RuleWelcomePSK, RuleWelcomeGroupID, RuleWelcomePathSecret:
		return StepSecret
	case RuleState:
		return StepState
	}
	return StepProposals
}
