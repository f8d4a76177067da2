// Package seal holds everything of the profile mmr-r/1 that is sealed to a
// service or to a client on its way (SPEC.md §9, §11, §18): who can open what is
// decided here, so hub and relay cannot disagree with the client about a byte.
//
//		client ── Encapsulate ──▶ relay (opaque) ──▶ gateway: Encapsulated.Open
//		client ◀── ResponseOpener ── relay (opaque) ◀── ResponseSealer.Seal
//
//		hub ── {sealed address, envelope} ──▶ relay: OpenQueue   ──▶ mailbox
//		       SealQueue by the client         which mailbox only
//		       SealEnvelope, SealFirst by the hub ─────────────────▶ client: OpenEnvelope, OpenFirst
//
//	  - Delivery and QueueConfig: the sealed queue id in a leaf.
//	  - DeliveryKey: the ratchet both ends turn with every commit, and the
//	    envelopes sealed under it.
//	  - Event: what an envelope contains; Chain and Receipt make a hub's
//	    forks provable.
//	  - Request, Response, Encapsulate: requests the relay cannot open (R-62,
//	    R-63); KeyConfig: the keys they are sealed to.
//	  - EARKey: rows of a room under the key that its members send.
//	  - Frank: proof of what was said, for reports.
//
// What it hides and what not: the relay sees domains, buckets, times, a sealed
// address that is constant until it is renewed, and the form byte of an
// envelope. A bucket is a member of B (package primitive); nothing has another
// length on a wire.
//
// Everything is bytes in, bytes out: time is a parameter, randomness comes from
// crypto/rand. Parsed structures alias their input. Parsers are strict and
// return a mmrerr.Code, mmr/malformed unless a requirement names another; what
// does not open is primitive.ErrOpen, what does not verify primitive.ErrVerify.
package seal

import (
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// Limits of variable-size fields in bytes.
const (
	maxAudience  = 512
	maxMethod    = 64
	maxToken     = 1024
	maxDetail    = 64 << 10
	maxMessage   = 1 << 20
	maxSignature = 1024
	maxGroupID   = 255
)

// done turns any failure of r into mmr/malformed.
func done(r *codec.Reader) error {
	if r.Done() != nil {
		return mmrerr.Malformed
	}
	return nil
}
