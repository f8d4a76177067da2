// Package mmrerr is the list of error codes that cross the wire in
// MmrResponse.code (SPEC.md §19), as a type of its own so that no number is
// written twice.
//
// A Code is an error: functions that enforce a requirement return the code that
// the requirement names, and callers ask with errors.Is or Of.
//
//	if err := room.Admit(leaf); errors.Is(err, mmrerr.Leaving) { … }
//
// Error adds the detail that a few requirements name, for instance the current
// epoch with mmr/wrong-epoch (SPEC.md R-121). Detail is for the other end of
// the request only: Error's text is the code's name and nothing else, so that
// it can be logged.
//
// The package imports nothing of the project, and holds nothing else.
package mmrerr

import (
	"errors"
	"fmt"
)

// Code is a value of MmrResponse.code. Values without a constant are valid
// Codes that somebody else's software may send; their name is "mmr/" and the
// number.
type Code uint16 //nolint:errname // a value on the wire that may be returned as an error

// Error is a Code with a detail for the peer.
type Error struct {
	Code   Code
	Detail []byte // as the requirement that names the code says
}

// New returns an *Error as error, or nil for OK.
func New(c Code, detail []byte) error {
	if c == OK {
		return nil
	}
	return &Error{Code: c, Detail: detail}
}

// Error returns the name of the code; the detail never shows.
func (e *Error) Error() string { return e.Code.String() }

// Unwrap returns the Code, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.Code }

// Error returns the name of the code. OK is a Code, but never a valid error.
func (c Code) Error() string { return c.String() }

// String returns the name of the code, such as "mmr/no-room", or "mmr/ok".
func (c Code) String() string {
	if n, ok := names[c]; ok {
		return n
	}
	return fmt.Sprintf("mmr/%d", uint16(c))
}

// Known reports whether the profile defines c.
func (c Code) Known() bool {
	_, ok := names[c]
	return ok
}

// Of returns the code of the first Code or *Error in err's tree; OK for nil and
// false if there is none.
func Of(err error) (Code, bool) {
	if err == nil {
		return OK, true
	}
	if c, ok := errors.AsType[Code](err); ok {
		return c, true
	}
	return OK, false
}

// Detail returns the detail of the first *Error in err's tree, else nil.
func Detail(err error) []byte {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail
	}
	return nil
}
