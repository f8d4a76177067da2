package group

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Place says where a credential appeared (RFC 9420 §5.3.1).
type Place uint8

// The places at which Rules.Credential is asked.
const (
	PlaceKeyPackage            Place = iota + 1 // key package that we are about to add
	PlaceTree                                   // leaf of a group that we join or start to follow
	PlaceAdd                                    // Add proposal that was received
	PlaceUpdate                                 // Update proposal
	PlaceCommit                                 // update path of a commit, external ones included
	PlaceNewExternalSender                      // external_senders that was added
	PlaceChangedExternalSender                  // external_senders that was changed
	PlaceOwn                                    // our own leaf on creation
)

// Rules is what an application adds to RFC 9420. The methods must be pure
// functions of their arguments, must not modify or keep them, and may be
// called by several goroutines at once. An error refuses the message; it can
// be found again with errors.As in the error the engine returns.
type Rules interface {
	// Credential accepts a credential for a signature key (§5.3.1).
	Credential(c wire.Credential, signatureKey []byte, at Place) error
	// Successor accepts the new leaf of a member in an Update, in a commit's
	// path, or in an external commit that removes the old leaf (§5.3.1, §12.2).
	Successor(old, next *wire.LeafNode) error
	// SameClient reports whether two leaves are one client, which may be in
	// the group once (§12.2). It is at least true for equal signature keys.
	SameClient(a, b *wire.LeafNode) bool
	// Commit accepts a commit. It is asked once in each Phase, in order.
	Commit(v *CommitView) error
}

// Phase says how far a commit has been checked when Rules.Commit is asked.
type Phase uint8

// The phases, in order. What a later phase may use includes the earlier.
const (
	// PhaseSigned: group, epoch, framing and signature are right. Sender, AAD
	// and Old are set.
	PhaseSigned Phase = iota + 1
	// PhaseProposals: references are resolved and the list obeys §12.2.
	// Proposals, Unused, Removed and Updated are set.
	PhaseProposals
	// PhaseApplied: proposals are applied. Added is set, and New shows the tree
	// and extensions before the path. Leaves that the commit brings are not
	// validated yet, except for those of stored proposals.
	PhaseApplied
	// PhaseComplete: leaves, tree and path are valid. New is the new epoch
	// without its confirmation tag.
	PhaseComplete
)

// OpenRules accepts every credential and every commit; a member's new leaf
// keeps the credential of the old one byte for byte; leaves with the same
// signature key are the same client. It authenticates nobody: embed it and
// replace what the application must decide.
type OpenRules struct{}

// Credential accepts.
func (OpenRules) Credential(wire.Credential, []byte, Place) error { return nil }

// Successor requires an unchanged credential.
func (OpenRules) Successor(old, next *wire.LeafNode) error {
	if !old.Credential.Equal(next.Credential) {
		return wire.Refuse(wire.RuleSuccessor)
	}
	return nil
}

// SameClient compares signature keys.
func (OpenRules) SameClient(a, b *wire.LeafNode) bool {
	return bytes.Equal(a.SignatureKey, b.SignatureKey)
}

// Commit accepts.
func (OpenRules) Commit(*CommitView) error { return nil }

var _ Rules = OpenRules{}

// Options configures a group.
type Options struct {
	Rules  Rules       // required
	Limits wire.Limits // zero fields are the defaults
}

// prepare returns the rules and complete limits; o must not be nil.
func (o *Options) prepare() (Rules, *wire.Limits, error) {
	if o == nil || o.Rules == nil {
		return nil, nil, ErrNoRules
	}
	return o.Rules, o.Limits.WithDefaults(), nil
}
