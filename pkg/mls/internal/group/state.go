package group

import (
	"errors"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// ErrNoRules is returned when Options lack Rules: there is no default, because
// the default would accept everybody.
var ErrNoRules = errors.New("mls: options without rules")

// State is the public state of a group in one epoch. It is immutable and may
// be used by many goroutines. What its methods return must not be modified.
type State struct {
	suite  *suite.Suite
	rules  Rules
	limits *wire.Limits

	context  *wire.GroupContext
	tree     *tree.Tree
	interim  []byte
	tag      []byte
	required *wire.RequiredCapabilities // nil without the extension
	senders  []wire.ExternalSender
	stored   []*Proposal
	info     *wire.GroupInfo // for external joiners; nil if nobody gave one
	closed   bool            // re-initialized: only refuses
	extra    []byte          // optional sections of the saved state that nobody here knows
}

// Suite returns the group's cipher suite.
func (s *State) Suite() *suite.Suite { return s.suite }

// Rules returns the application's rules.
func (s *State) Rules() Rules { return s.rules }

// Limits returns the limits, complete with defaults.
func (s *State) Limits() *wire.Limits { return s.limits }

// Context returns the group context.
func (s *State) Context() *wire.GroupContext { return s.context }

// Tree returns the ratchet tree.
func (s *State) Tree() *tree.Tree { return s.tree }

// Interim returns the interim transcript hash (RFC 9420 §8.2).
func (s *State) Interim() []byte { return s.interim }

// ConfirmationTag returns the tag of the commit that began the epoch.
func (s *State) ConfirmationTag() []byte { return s.tag }

// Closed reports whether the group was re-initialized.
func (s *State) Closed() bool { return s.closed }

// Stored returns the proposals stored in this epoch, oldest first.
func (s *State) Stored() []*Proposal { return s.stored }

// GroupInfo returns the GroupInfo for external joiners, or nil.
func (s *State) GroupInfo() *wire.GroupInfo { return s.info }

// ExternalSenders returns the group's external senders.
func (s *State) ExternalSenders() []wire.ExternalSender { return s.senders }

// Public returns the state as the application may see it.
func (s *State) Public() *Public { return &Public{s} }

// find returns the stored proposal with a reference, or nil.
func (s *State) find(ref []byte) *Proposal {
	i := slices.IndexFunc(s.stored, func(p *Proposal) bool { return string(p.Ref) == string(ref) })
	if i < 0 {
		return nil
	}
	return s.stored[i]
}

// setContext puts a context into a state under construction and reads the
// extensions that the engine itself obeys.
func (s *State) setContext(c *wire.GroupContext) error {
	s.context = c
	required, senders, err := knownExtensions(c.Extensions, s.limits)
	s.required, s.senders = required, senders
	return err
}

// knownExtensions reads required_capabilities and external_senders.
func knownExtensions(es []wire.Extension, l *wire.Limits) (*wire.RequiredCapabilities, []wire.ExternalSender, error) {
	// RFC 9420 §13.4: no list has two extensions of one type.
	if wire.DuplicateExtension(es) {
		return nil, nil, wire.Refuse(wire.RuleDuplicateExtension)
	}
	var required *wire.RequiredCapabilities
	var senders []wire.ExternalSender
	var err error
	if data, ok := wire.FindExtension(es, wire.ExtensionRequiredCapabilities); ok {
		if required, err = wire.ParseRequiredCapabilities(data, l); err != nil {
			return nil, nil, wire.Refuse(wire.RuleExtensionSyntax)
		}
	}
	if data, ok := wire.FindExtension(es, wire.ExtensionExternalSenders); ok {
		if senders, err = wire.ParseExternalSenders(data, l); err != nil {
			return nil, nil, wire.Refuse(wire.RuleExtensionSyntax)
		}
	}
	return required, senders, nil
}
