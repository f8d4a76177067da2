// Package secret holds what only members of a group know: the key schedule of
// an epoch (RFC 9420 §8), the PSK secret (§8.4), the secret tree with its
// ratchets (§9), the protection of private messages (§6.3), the secrets of an
// update path (§7.4) and of a Welcome (§12.4.3.1).
//
// Programs that follow a group without being in it must not import it, which a
// test holds for the server.
//
//	init_secret[n-1] ─┐
//	commit_secret ────┴─> joiner_secret ─┐
//	psk_secret ──────────────────────────┴─> member ─> welcome_secret
//	                                              └──> epoch_secret ─> Epoch
//
// Values are immutable: taking a key out of a Tree returns the next Tree and
// leaves the old one as it was, so that a message that turns out to be forged
// consumes nothing. The price is that the old value still holds the key, until
// Retire tells which of two values has been adopted and wipes what only the
// other one holds (§9.2).
//
// What is not checked here: signatures, tags and every rule about the public
// state.
package secret
