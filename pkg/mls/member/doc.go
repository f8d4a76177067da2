// Package member is a client in an MLS group (RFC 9420): founding and joining
// groups, proposals and commits, application messages, exported secrets, and
// the state of all that in bytes.
//
// It stands on the public state of package mls, which a server runs alone, and adds
// the secrets. Every message goes through the server's checks first; a member
// refuses more than a server only where a secret decides: membership and
// confirmation tags, encrypted path secrets, kem_output, PSKs, private
// messages, Welcomes.
//
//	           Create ──┐
//	Welcome ─▶ Join ────┼─▶ Group ─ Process, Propose, Send ─▶ next Group
//	GroupInfo ▶ JoinExternal ▶ Joining ─ Confirm ─▶│
//	                        Group ─ Stage ─▶ Group + Staged ─ Confirm ─▶ next epoch
//	                                                        └ Discard ─▶ as before
//
// A Group is an immutable value. A step returns the next Group, or an error and
// nothing. The order for a caller is: compute, store AppendPublic and
// AppendPrivate of the next Group in one transaction, adopt it, then send or
// deliver, then Retire the old one. Whoever sends before storing can use a
// message key twice after a crash.
//
// A staged commit is part of the state: after a crash it is still there to be
// confirmed or discarded. Until then the current epoch goes on as before.
//
// Deleted as soon as possible (RFC 9420 §9.2): message keys with their message,
// nodes of the secret tree with the first use below them, path and joiner
// secrets within the step, an epoch's init_secret when the next epoch is
// adopted, private keys of nodes that were replaced, the keys of past epochs
// when they leave the window of Limits.PastEpochs. Clearing memory is best
// effort and happens in Retire.
//
// Not checked here: lifetimes of leaves that others add, certificates
// (Rules.Credential does), and whether a saved state is the newest one (Counter
// helps). Re-initialization and branching are understood and refused.
package member
