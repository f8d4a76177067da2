package member

import "errors"

// What callers branch on. Input that is refused gives a *mls.Refusal instead.
var (
	// ErrOwnCommit: the message is the commit that is staged; call Confirm.
	ErrOwnCommit = errors.New("member: own staged commit")
	// ErrPending: a commit is staged already; Confirm or Discard it first.
	ErrPending = errors.New("member: a commit is staged")
	// ErrNoPending: no commit is staged.
	ErrNoPending = errors.New("member: no commit is staged")
	// ErrJoining: the external join is not confirmed yet.
	ErrJoining = errors.New("member: not a member yet")
	// ErrRemoved: the member was removed from the group.
	ErrRemoved = errors.New("member: removed from the group")
	// ErrCommitFirst: proposals of this epoch wait for a commit, so that no
	// application message may be sent (RFC 9420 §12.4).
	ErrCommitFirst = errors.New("member: proposals wait for a commit")
	// ErrWiped: the value was retired or wiped.
	ErrWiped = errors.New("member: value was wiped")
	// ErrUnknownSigner: no Signer for the own leaf's signature key was given.
	ErrUnknownSigner = errors.New("member: no signer for the own leaf")
)
