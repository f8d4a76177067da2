// Package mlstest is support for tests of the MLS engine and of what is built
// on it. It must not be linked into a program.
//
// Vectors loads the official RFC 9420 test vectors and Count makes sure that a
// test ran as many of them as there are. A missing file is skipped loudly, and
// a failure when CI is set.
//
// World is a group of clients with a server that follows it. It delivers what its
// clients make, checks that all agree, that a step leaves the old state as it
// was, and that every state survives a store and load.
//
//	w := mlstest.NewWorld(t, 1, 5)
//	w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient())
//	w.Say(w.Clients[1], member.SendOptions{})
//
// Lawless is a member, or a stranger, that obeys no rule. It makes messages
// that are right in everything but what the test asks for, so that only the
// rule in question can refuse them; Refused checks that all do.
package mlstest
