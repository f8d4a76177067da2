package main

import (
	"errors"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

// codeError is a refusal with a code of the protocol.
type codeError struct{ code, text string }

func (e *codeError) Error() string { return e.text }

func fail(code, text string) error { return &codeError{code, text} }

func badRequest(text string) error { return fail("bad_request", text) }

var errNoGroup = fail("no_group", "not in a group")

// failure turns an error into an answer. Texts come from constants of this
// program and of the engine, none of which holds input.
func failure(err error) answer {
	a := answer{"ok": false, "code": "invalid", "error": err.Error()}
	if refusal, ok := errors.AsType[*mls.Refusal](err); ok {
		a["code"] = refusal.Class.String()
		a["rule"] = string(refusal.Rule)
		if refusal.Rule == mls.RuleWelcomeRecipient {
			a["code"] = "no_key_package"
		}
		return a
	}
	if c, ok := errors.AsType[*codeError](err); ok {
		a["code"] = c.code
		return a
	}
	switch {
	case errors.Is(err, member.ErrPending):
		a["code"] = "pending"
	case errors.Is(err, member.ErrNoPending):
		a["code"] = "no_pending"
	case errors.Is(err, member.ErrJoining), errors.Is(err, member.ErrRemoved):
		a["code"] = "no_group"
	}
	return a
}
