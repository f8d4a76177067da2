// Package primitive holds the cryptographic primitives that the profile
// mmr-r/1 fixes for everything it defines, whatever MLS cipher suite a room
// uses (SPEC.md §1): one hash, one MAC, one KDF, two AEADs, two signature
// algorithms, two KEMs. The seal, token and pseudonym packages, the hub and the
// client build on it, so that there is one implementation and one set of
// vectors. There is no negotiation and nothing to configure.
//
//	H, HMAC     Hash, HMAC                    SHA-256
//	EWL         ExpandWithLabel, Derive...    RFC 9420 §8 over HKDF-SHA256
//	AEAD128     SealAES128, OpenAES128        AES-128-GCM, 12-byte nonce, 16-byte tag
//	AEAD256     SealAES256, OpenAES256        AES-256-GCM, the same sizes
//	SWL         Signer, PublicKey             RFC 9420 §5.1.2, Ed25519 or ECDSA P-256
//	HPKE-L      KEMPublicKey, KEMPrivateKey   RFC 9420 §5.1.3, X25519 or X-Wing
//	Padded, B   AppendPadded, Bucket          SPEC.md §1
//
// # Secrets
//
// Secret (32 bytes) and Key128 (16 bytes) own their bytes, refuse to print
// themselves and are compared in constant time. Copies share the bytes, so that
// Wipe on one clears all. Wiping is best effort: the runtime and the libraries
// below may have made copies that nobody can reach, such as expanded AES keys.
//
// # Nonces
//
// A nonce is 12 bytes from the system's generator, drawn by NewNonce or by the
// functions that take none. There are no counters, so that neither a restart
// nor a restored backup can repeat one (SPEC.md §4.2). The functions that take
// a nonce exist for formats that carry other fields between nonce and
// ciphertext; their callers pass a fresh one each time.
//
// # Errors
//
// Failed openings, verifications and parses are ErrOpen, ErrVerify and
// ErrMalformed; none says anything about key or input.
package primitive

import "errors"

var (
	// ErrOpen reports that an AEAD or HPKE ciphertext did not open: wrong key,
	// wrong context or altered bytes, which nobody can tell apart.
	ErrOpen = errors.New("primitive: ciphertext does not open")
	// ErrVerify reports a signature that is not by this key over this content.
	ErrVerify = errors.New("primitive: signature does not verify")
	// ErrMalformed reports bytes that are no key, secret or padded value.
	ErrMalformed = errors.New("primitive: malformed input")
)
