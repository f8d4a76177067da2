package seal

import (
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// An Event contains MLSMessages without a length of their own, as RFC 9420
// structures are (SPEC.md R-73). This file finds where one ends. It follows the
// framing only: what is inside a vector is the MLS engine's business, and so is
// every other rule. Messages that the profile does not have (SPEC.md R-115) do
// not frame.

// RFC 9420 §17.2, §6, §12 code points.
const (
	mlsVersion10 = 1

	wirePublicMessage  = 1
	wirePrivateMessage = 2
	wireWelcome        = 3

	senderMember            = 1
	senderExternal          = 2
	senderNewMemberProposal = 3
	senderNewMemberCommit   = 4

	contentProposal = 2
	contentCommit   = 3

	proposalUpdate = 2
	proposalRemove = 3

	credentialBasic        = 1
	credentialX509         = 2
	credentialPseudonymous = 0xF0A1

	leafSourceUpdate = 2
	leafSourceCommit = 3
)

// readMLSMessage reads one MLSMessage and returns its bytes, which alias the
// input. Failures are r's.
func readMLSMessage(r *codec.Reader) []byte {
	start := r.Rest()
	if r.Uint16() != mlsVersion10 {
		r.Fail(codec.ErrMalformed)
	}
	switch r.Uint16() {
	case wirePublicMessage:
		skipPublicMessage(r)
	case wirePrivateMessage:
		r.Vector(maxMessage) // group_id
		r.Uint64()           // epoch
		r.Uint8()            // content_type
		r.Vector(maxMessage) // authenticated_data
		r.Vector(maxMessage) // encrypted_sender_data
		r.Vector(maxMessage) // ciphertext
	case wireWelcome:
		r.Uint16()           // cipher_suite
		r.Vector(maxMessage) // secrets
		r.Vector(maxMessage) // encrypted_group_info
	default:
		r.Fail(codec.ErrMalformed)
	}
	if r.Err() != nil {
		return nil
	}
	return start[: len(start)-len(r.Rest()) : len(start)-len(r.Rest())]
}

// checkMLSMessage refuses bytes that are not exactly one MLSMessage, which
// would make an Event nobody can read.
func checkMLSMessage(b []byte) error {
	r := codec.NewReader(b)
	readMLSMessage(r)
	if r.Done() != nil {
		return mmrerr.Malformed
	}
	return nil
}

func skipPublicMessage(r *codec.Reader) {
	r.Vector(maxMessage) // group_id
	r.Uint64()           // epoch
	sender := r.Uint8()
	switch sender {
	case senderMember, senderExternal:
		r.Uint32()
	case senderNewMemberProposal, senderNewMemberCommit:
	default:
		r.Fail(codec.ErrMalformed)
	}
	r.Vector(maxMessage) // authenticated_data
	content := r.Uint8()
	switch content {
	case contentProposal:
		skipProposal(r)
	case contentCommit:
		r.Vector(maxMessage) // proposals
		if r.Optional() {    // path
			skipLeafNode(r)
			r.Vector(maxMessage) // nodes
		}
	default: // application data is never public
		r.Fail(codec.ErrMalformed)
	}
	r.Vector(maxMessage) // signature
	if content == contentCommit {
		r.Vector(maxMessage) // confirmation_tag
	}
	if sender == senderMember {
		r.Vector(maxMessage) // membership_tag
	}
}

// skipProposal knows the stand-alone proposals of SPEC.md R-115.
func skipProposal(r *codec.Reader) {
	switch r.Uint16() {
	case proposalUpdate:
		skipLeafNode(r)
	case proposalRemove:
		r.Uint32()
	default:
		r.Fail(codec.ErrMalformed)
	}
}

func skipLeafNode(r *codec.Reader) {
	r.Vector(maxMessage) // encryption_key
	r.Vector(maxMessage) // signature_key
	switch r.Uint16() {
	case credentialBasic, credentialX509, credentialPseudonymous:
		r.Vector(maxMessage)
	default:
		r.Fail(codec.ErrMalformed)
	}
	for range 5 { // capabilities
		r.Vector(maxMessage)
	}
	switch r.Uint8() {
	case leafSourceUpdate:
	case leafSourceCommit:
		r.Vector(maxMessage) // parent_hash
	default: // a key package's leaf is in no path and no Update
		r.Fail(codec.ErrMalformed)
	}
	r.Vector(maxMessage) // extensions
	r.Vector(maxMessage) // signature
}
