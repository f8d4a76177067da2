// Package group is the public state of an MLS group and every rule of RFC 9420
// that can be checked without a secret. The server uses it alone through Public;
// a member calls the same functions and adds its secrets between Prepare and
// Finish, so that the two can only differ where a secret decides.
//
//	message ─▶ CheckContent ─▶ proposal ─▶ AddProposal ─▶ new State
//	           group, epoch,   commit ───▶ Prepare ─▶ Provisional ─▶ Finish(tag)
//	           framing,                    list rules, apply, leaves,  new State
//	           signature                   path, new GroupContext
//
// A State is an immutable value; a step returns a new State or an error, never
// both, and leaves the old one as it was. What the application adds are the
// hooks of Rules, which are asked in a fixed order (see Phase).
//
// Not checked here, because it takes secrets: membership and confirmation
// tags, path ciphertexts, kem_output, availability of PSKs, external_pub, and
// everything inside a PrivateMessage. Not checked at all: lifetimes of leaves
// that are already in a tree, certificates (Rules.Credential does), and
// whether a GroupInfo is the newest one.
package group
