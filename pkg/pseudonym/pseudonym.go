// Package pseudonym is the identity layer of the profile mmr-r/1 (SPEC.md §4 to
// §8, §13 to §15): who a member is for the hub, who for the other members, and
// what each may do.
//
//	            hub and relays see                     members with the link key see
//	leaf ──▶ Credential{client, user pseudonym, key,    ──▶ Link{signature, X.509 chain}
//	                    identity_link_ciphertext}            ──▶ Real{user, client handle}
//
// A Credential is fresh for each room and names two random pseudonyms. The real
// X.509 credential is inside it, encrypted under an identity link key. Members
// share link keys through the room, under a static wrapper key or the key tree
// of TreeWrap; the hub stores both without being able to open them.
//
//   - ID, Handle: pseudonyms and real identifiers, which never mix.
//   - TBS, Credential, Link, Real: the credential, its link and the checks a
//     member makes.
//   - CA: how a provider issues real credentials, all of one size.
//   - Room, RoomLink: the policy in the GroupContext; the role table and
//     the rules for changing it as pure functions, which hub and members
//     both call.
//   - AAD, AddAAD: what goes into authenticated data (§4.4, R-13).
//   - JoinLink, SiblingProof: ways in.
//   - ConnectionPackage, SignedRequest, SignedResponse: how two users meet (§14).
//   - PoolID, UserPseudonym: KeyPackage pools.
//
// What it does not hide: the provider domain of a pseudonym, the size class of
// its credential, and that two leaves carry one user pseudonym.
//
// Everything is bytes in, bytes out; time is a parameter. Parsers are strict
// and return a mmrerr.Code, mmr/malformed unless a requirement names another.
// Parsed structures may alias their input.
package pseudonym

import (
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// Limits of variable-size fields in bytes.
const (
	maxURI       = 512
	maxKey       = 256 // SignaturePublicKey
	maxSignature = 1024
	maxGroupID   = 255
	maxChain     = 8192
)

// done turns any failure of r into mmr/malformed.
func done(r *codec.Reader) error {
	if r.Done() != nil {
		return mmrerr.Malformed
	}
	return nil
}
