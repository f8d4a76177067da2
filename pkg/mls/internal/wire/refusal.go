package wire

import (
	"errors"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Class sorts refusals by what the receiver of the error can do about it. Its
// text is the error code of the peer protocol.
type Class uint8

// The classes.
const (
	ClassInvalid     Class = iota + 1 // well-formed, but refused by a rule, signature, tag or policy
	ClassDecode                       // not exactly one well-formed structure
	ClassLimit                        // a size or count limit was exceeded
	ClassStale                        // another epoch's handshake, or keys no longer held
	ClassReplay                       // generation used before, or too far behind
	ClassTooFar                       // generation too far ahead
	ClassUnsupported                  // cipher suite or proposal type this engine or application does not know
)

// String returns the peer protocol's name of the class.
func (c Class) String() string {
	switch c {
	case ClassInvalid:
		return "invalid"
	case ClassDecode:
		return "decode"
	case ClassLimit:
		return "limit"
	case ClassStale:
		return "stale"
	case ClassReplay:
		return "replay"
	case ClassTooFar:
		return "too_far"
	case ClassUnsupported:
		return "unsupported"
	}
	return "unknown"
}

// Refusal is the error for input that was refused. Its text names the rule and
// nothing of the input.
type Refusal struct { //nolint:errname // The API of the engine names it so.
	Rule  Rule
	Class Class
	Cause error // what the application's Rules returned; not part of the text
}

// Error names the violated rule.
func (r *Refusal) Error() string { return "mls: refused: " + string(r.Rule) }

// Unwrap returns the application's error, if there is one.
func (r *Refusal) Unwrap() error { return r.Cause }

// Is reports whether target is a Refusal of the same rule.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Rule == r.Rule
}

// Refuse returns the refusal of class invalid for a rule.
func Refuse(rule Rule) error { return &Refusal{Rule: rule, Class: ClassInvalid} }

// RefuseAs returns the refusal of another class for a rule.
func RefuseAs(rule Rule, class Class) error { return &Refusal{Rule: rule, Class: class} }

// RefusePolicy wraps an error of the application's Rules.
func RefusePolicy(rule Rule, cause error) error {
	return &Refusal{Rule: rule, Class: ClassInvalid, Cause: cause}
}

// parseError turns a codec error into a refusal; refusals pass unchanged.
func parseError(err error) error {
	var r *Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return err
	case errors.Is(err, codec.ErrLimit):
		return RefuseAs(RuleLimit, ClassLimit)
	default:
		return RefuseAs(RuleMalformed, ClassDecode)
	}
}
