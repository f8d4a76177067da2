package mls

import (
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// PublicGroup is the public state of a group in one epoch: an immutable value,
// safe for use by many goroutines, whose methods return copies.
//
//	Process(msg, now) (*PublicGroup, *Event, error)  one proposal or commit
//	WithGroupInfo(msg) (*PublicGroup, error)         a member's GroupInfo for this state
//	GroupInfo() (msg, ok)                            the same, for external joiners
//	TreeBytes() []byte                               the ratchet tree beside it
//	Suite, GroupID, Epoch, Context, Extension, ConfirmationTag,
//	InterimTranscriptHash, Closed                    what the state says
//	Leaf(i), Members(), Len(), Width()               who is in it
//	Proposals(), Without(drop)                       stored proposals, and policy
//	Verify(i, label, content, signature) error       signatures by members
//	WithRules(rules) *PublicGroup                    other rules for what follows
//	AppendBinary(b) ([]byte, error)                  saved state; see ParsePublicGroup
type PublicGroup = group.Public

// Event says what a processed message was. Kind is its content.
type (
	Event = group.Event
	Kind  = group.Kind
)

// Proposal is a proposal with its author and, if it was stored, its reference.
type Proposal = group.Proposal

// CommitView is a commit as the application judges it: committer, proposals in
// order, who is removed, updated and added, the states before and after.
type CommitView = group.CommitView

// Options are the Rules, which are required, and the Limits of a group.
type Options = group.Options

// Rules is what an application adds to RFC 9420. Methods must be pure and may
// run concurrently.
//
//	Credential(c, signatureKey, at) error  §5.3.1, asked at every Place
//	Successor(old, next) error             new leaf of a member: Update, path, resync
//	SameClient(a, b) bool                  §12.2; at least equal signature keys
//	Commit(v) error                        asked once in each Phase of a commit
type Rules = group.Rules

// OpenRules accepts everybody, and is to be embedded by rules that do not: a
// member keeps its credential, a client is its signature key.
type OpenRules = group.OpenRules

// Place says where a credential appeared (RFC 9420 §5.3.1), Phase how far a
// commit has been checked.
type (
	Place = group.Place
	Phase = group.Phase
)

// Limits bounds what is parsed and what a group holds; zero fields are the
// defaults.
type Limits = wire.Limits

// Refusal is the error for refused input: the Rule that it violates, its Class,
// and, if the application refused, the application's error as Cause.
type (
	Refusal = wire.Refusal //nolint:errname // The API of the engine names it so.
	Rule    = wire.Rule
	Class   = wire.Class
)

// ErrNoRules is returned when Options lack Rules.
var ErrNoRules = group.ErrNoRules

// The places at which Rules.Credential is asked (RFC 9420 §5.3.1).
const (
	PlaceKeyPackage            = group.PlaceKeyPackage
	PlaceTree                  = group.PlaceTree
	PlaceAdd                   = group.PlaceAdd
	PlaceUpdate                = group.PlaceUpdate
	PlaceCommit                = group.PlaceCommit
	PlaceNewExternalSender     = group.PlaceNewExternalSender
	PlaceChangedExternalSender = group.PlaceChangedExternalSender
	PlaceOwn                   = group.PlaceOwn
)

// The phases in which Rules.Commit is asked.
const (
	PhaseSigned    = group.PhaseSigned
	PhaseProposals = group.PhaseProposals
	PhaseApplied   = group.PhaseApplied
	PhaseComplete  = group.PhaseComplete
)

// The kinds of an Event.
const (
	KindApplication = wire.ContentApplication
	KindProposal    = wire.ContentProposal
	KindCommit      = wire.ContentCommit
)

// NewPublicGroup starts to follow a group from a GroupInfo (an MLSMessage) and
// the ratchet tree (the body of the extension), nil if the GroupInfo holds it.
// Everything that RFC 9420 §12.4.3 and §12.4.3.1 let a client check without
// secrets is checked, and Rules.Credential is asked for each leaf. The
// GroupInfo is kept for external joiners if it has an external_pub.
func NewPublicGroup(groupInfo, tree []byte, o *Options) (*PublicGroup, error) {
	return group.NewPublic(groupInfo, tree, o)
}

// ParsePublicGroup reads what PublicGroup.AppendBinary wrote. Structure and
// hashes are checked as strictly as in a message; signatures are not verified
// again, so that the caller must keep the bytes from being changed.
func ParsePublicGroup(b []byte, o *Options) (*PublicGroup, error) {
	return group.ParsePublic(b, o)
}

// ParseMessage reads exactly one MLSMessage and keeps its own copy. l may be
// nil. What it returns must not be modified, and nothing in it is verified.
func ParseMessage(b []byte, l *Limits) (*Message, error) { return wire.ParseMessage(b, l) }

// ParseKeyPackage reads a key package from its MLSMessage. Verify it with
// VerifyKeyPackage. l may be nil.
func ParseKeyPackage(b []byte, l *Limits) (*KeyPackage, error) {
	m, err := wire.ParseMessage(b, l)
	if err != nil {
		return nil, err
	}
	if m.KeyPackage == nil {
		return nil, wire.Refuse(wire.RuleWireFormat)
	}
	return m.KeyPackage, nil
}

// VerifyKeyPackage checks a key package by itself (RFC 9420 §10.1): version
// and suite, signatures, keys, extensions against capabilities, and, unless now
// is zero, that now is in its lifetime and the lifetime at most
// Limits.MaxLifetime. It does not ask Rules. l may be nil.
func VerifyKeyPackage(p *KeyPackage, now time.Time, l *Limits) error {
	s := suite.Get(p.Suite)
	if s == nil {
		return wire.RefuseAs(wire.RuleUnsupportedSuite, wire.ClassUnsupported)
	}
	return group.CheckKeyPackage(s, p, now, l.WithDefaults())
}

// KeyPackageRef returns the hash by which Welcomes name a key package (RFC
// 9420 §5.2), nil if its suite is unknown.
func KeyPackageRef(p *KeyPackage) []byte {
	s := suite.Get(p.Suite)
	if s == nil {
		return nil
	}
	return s.KeyPackageRef(p.Raw())
}

// WelcomeRefs returns the KeyPackageRefs that a Welcome (an MLSMessage) is for,
// in its order. l may be nil.
func WelcomeRefs(welcome []byte, l *Limits) ([][]byte, error) {
	m, err := wire.ParseMessage(welcome, l)
	if err != nil {
		return nil, err
	}
	if m.Welcome == nil {
		return nil, wire.Refuse(wire.RuleWireFormat)
	}
	refs := make([][]byte, len(m.Welcome.Secrets))
	for i, s := range m.Welcome.Secrets {
		refs[i] = s.NewMember
	}
	return refs, nil
}

// VerifyWithLabel checks a signature over content with a label (RFC 9420
// §5.1.2) by a key of a suite's signature scheme.
func VerifyWithLabel(id CipherSuite, publicKey []byte, label string, content, signature []byte) error {
	s := suite.Get(id)
	if s == nil {
		return wire.RefuseAs(wire.RuleUnsupportedSuite, wire.ClassUnsupported)
	}
	if !s.VerifyWithLabel(publicKey, label, content, signature) {
		return wire.Refuse(wire.RuleSignature)
	}
	return nil
}

// Signer signs for a member or an external sender. It may live outside the
// process.
type Signer interface {
	// Public returns the signature key as RFC 9420 §5.1.1 encodes it.
	Public() []byte
	// Sign signs the content as it is: labels are applied already. ECDSA
	// signatures are DER.
	Sign(content []byte) ([]byte, error)
}

// SignWithLabel signs content with a label (RFC 9420 §5.1.2).
func SignWithLabel(signer Signer, label string, content []byte) ([]byte, error) {
	return signer.Sign(suite.SignContent(label, content))
}

// NewExternalProposal returns the MLSMessage with which external sender number
// index proposes something to the group in its current epoch (RFC 9420
// §12.1.8). The proposal is not checked: let g process the message.
func NewExternalProposal(g *PublicGroup, index uint32, body *ProposalBody, aad []byte, signer Signer) ([]byte, error) {
	c := (&wire.FramedContent{
		GroupID:     g.GroupID(),
		Epoch:       g.Epoch(),
		Sender:      wire.Sender{Type: wire.SenderExternal, Index: index},
		AAD:         aad,
		ContentType: wire.ContentProposal,
		Proposal:    body,
	}).Seal()
	signature, err := SignWithLabel(signer, "FramedContentTBS", c.TBS(wire.FormatPublicMessage, nil))
	if err != nil {
		return nil, err
	}
	return (&wire.PublicMessage{Content: c, Auth: wire.AuthData{Signature: signature}}).Message(), nil
}

// RemoveProposal returns the proposal to remove a member.
func RemoveProposal(i LeafIndex) *ProposalBody {
	return (&wire.Proposal{Type: wire.ProposalRemove, Remove: i}).Seal()
}

// AddProposal returns the proposal to add a client.
func AddProposal(p *KeyPackage) *ProposalBody {
	return (&wire.Proposal{Type: wire.ProposalAdd, Add: p}).Seal()
}

// ExtensionsProposal returns the proposal to replace the GroupContext's
// extensions.
func ExtensionsProposal(es []Extension) *ProposalBody {
	return (&wire.Proposal{Type: wire.ProposalGroupContextExtensions, Extensions: es}).Seal()
}

// PSKProposal returns the proposal to inject a pre-shared key.
func PSKProposal(id PreSharedKeyID) *ProposalBody {
	return (&wire.Proposal{Type: wire.ProposalPSK, PSK: &id}).Seal()
}

// ReInitProposal returns the proposal to re-initialize the group.
func ReInitProposal(r ReInit) *ProposalBody {
	return (&wire.Proposal{Type: wire.ProposalReInit, ReInit: &r}).Seal()
}

// CustomProposal returns a proposal of a type beyond RFC 9420.
func CustomProposal(t ProposalType, body []byte) *ProposalBody {
	return (&wire.Proposal{Type: t, Custom: body}).Seal()
}

// Step is the part of processing to which a Rule belongs (Rule.Step), for a
// server's error codes.
type Step = wire.Step

// The steps, in the order in which PublicGroup.Process takes them.
const (
	StepDecode    = wire.StepDecode
	StepFraming   = wire.StepFraming
	StepEpoch     = wire.StepEpoch
	StepSignature = wire.StepSignature
	StepProposals = wire.StepProposals
	StepLeaf      = wire.StepLeaf
	StepTree      = wire.StepTree
	StepPolicy    = wire.StepPolicy
	StepGroupInfo = wire.StepGroupInfo
	StepSecret    = wire.StepSecret
	StepState     = wire.StepState
)
