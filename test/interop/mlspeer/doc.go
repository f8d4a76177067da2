// Mlspeer speaks the MLS peer protocol, version 1 (mlspeer/1), over stdin and
// stdout: one JSON request a line, one JSON answer a line, in order. It puts
// the engine of pkg/mls and pkg/mls/member into one group with other
// implementations of RFC 9420, driven by a program that knows none of them.
//
// It uses the engine's exported API only: what the protocol can say and this
// program cannot do is missing there. A process serves many clients and hubs.
// A client has one signature key, unused key packages, at most one group and
// at most one staged commit; a hub follows a group by its public messages.
//
// A request that is answered with ok false has changed nothing: every op
// computes the next state first and adopts it last.
//
// The policy: every credential is acceptable, a member's new leaf keeps the
// credential of the old one, leaves with one signature key are one client, and
// a lifetime must hold now, for at most 120 days, when a client itself adds.
package main
