// Package mls is an implementation of Messaging Layer Security (RFC 9420), as
// far as a server may know it: the wire format, the limits, every rule that
// can be checked without a secret, and PublicGroup, with which a server follows
// a group whose messages it cannot read. The members' half is package member;
// it calls the same rules, so that what the server accepts and a member refuses
// can only come from checks that take secrets.
//
//	g, err := mls.NewPublicGroup(groupInfo, tree, &mls.Options{Rules: rules})
//	…
//	next, event, err := g.Process(msg, time.Now())
//	// store next; then adopt it; then send what event says
//
// A step is a pure function: it returns the next state and leaves the old one
// as it was, also on success. States are immutable values, safe for use by
// many goroutines. Nothing here reads a clock, does I/O, logs, or starts a
// goroutine that outlives the call. No input makes a function panic. Errors
// for refused input are *Refusal: the violated rule and its class, and nothing
// of the input.
//
// What the application adds are Rules: which credentials it believes, which
// leaf may follow which, what a client is, and who may commit what. There is no
// default, because it would let everybody in; OpenRules is for tests.
//
// What a server cannot verify, because it takes secrets: membership and
// confirmation tags, whether path ciphertexts fit the path's keys, kem_output,
// PSKs, the external_pub of a GroupInfo, application messages, Welcomes. A
// malicious member can therefore lead the server into an epoch that honest members
// refuse; a stranger cannot. PublicGroup is immutable so that a server can keep
// the state before a commit until others have witnessed the new epoch, and
// Verify checks members' signed reports.
//
// Also not checked: lifetimes of leaves that are in a tree already, and
// certificates, which are Rules' part.
package mls
