package token

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"slices"

	"github.com/cloudflare/circl/blindsign/blindrsa"
)

// Request is one token in the making. The client keeps it until the issuer has
// answered; it cannot be stored.
type Request struct {
	key     *PublicKey
	token   Token // without authenticator
	client  blindrsa.Client
	state   blindrsa.State
	blinded []byte
}

// NewRequest starts a token for a challenge under the issuer's key.
func NewRequest(key *PublicKey, c Challenge) (*Request, error) {
	digest, err := c.Digest()
	if err != nil {
		return nil, err
	}
	var nonce [NonceSize]byte
	_, _ = rand.Read(nonce[:])
	return newRequest(rand.Reader, key, digest, nonce)
}

// newRequest takes its randomness from random, for the test vectors.
func newRequest(random io.Reader, key *PublicKey, digest [32]byte, nonce [NonceSize]byte) (*Request, error) {
	client, err := blindrsa.NewClient(blindrsa.SHA384PSSDeterministic, key.rsa)
	if err != nil {
		return nil, ErrMalformed
	}
	q := &Request{key: key, client: client, token: Token{Nonce: nonce, ChallengeDigest: digest, KeyID: key.id}}
	// RFC 9474 §4.2 refuses messages that share a factor with the modulus; with
	// an honest key none does.
	q.blinded, q.state, err = client.Blind(random, q.token.input())
	if err != nil {
		return nil, ErrMalformed
	}
	return q, nil
}

// KeyID returns the id of the key that the request is for.
func (q *Request) KeyID() KeyID { return q.key.id }

// Blinded returns the blinded message, 256 bytes.
func (q *Request) Blinded() []byte { return slices.Clone(q.blinded) }

// AppendBinary appends the TokenRequest of RFC 9578 §6.1, 259 bytes.
func (q *Request) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint16(b, tokenType)
	b = append(b, q.key.id.Truncated())
	return append(b, q.blinded...), nil
}

// Finalize makes the token of the issuer's answer, a blind signature of 256
// bytes, or returns ErrSignature.
func (q *Request) Finalize(blindSignature []byte) (Token, error) {
	sig, err := q.client.Finalize(q.state, blindSignature)
	if err != nil || len(sig) != SignatureSize {
		return Token{}, ErrSignature
	}
	t := q.token
	t.Authenticator = [SignatureSize]byte(sig)
	return t, nil
}

// PublishedKey is one public key of an issuer as it is published (SPEC.md
//
type PublishedKey struct {
	Epoch Epoch
	Key   *PublicKey
}

// Consistent checks before redemption that the key the client's tokens are
// under is the one that the issuer publishes for the epoch and that the
// redeemer accepts, or returns ErrInconsistent. A key of its own for one
// account would undo unlinkability (SPEC.md R-83).
func Consistent(key PublishedKey, published []PublishedKey, accepted []KeyID) error {
	found := false
	for _, p := range published {
		if p.Epoch != key.Epoch {
			continue
		}
		if p.Key.id != key.Key.id {
			return ErrInconsistent
		}
		found = true
	}
	if !found || !slices.Contains(accepted, key.Key.id) {
		return ErrInconsistent
	}
	return nil
}
