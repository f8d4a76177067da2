package pseudonym

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

const (
	labelCredential = "PseudonymousCredentialTBS"
	commitmentSize  = 32
	linkOverhead    = commitmentSize + primitive.NonceSize + primitive.TagSize // 60
)

// ErrUnverified is what a link that fails any check of SPEC.md R-4 ends as. The
// member keeps following the room and shows the leaf as unverified. The text
// says which check failed.
var ErrUnverified = errors.New("pseudonym: leaf is unverified")

// unverified is ErrUnverified with the name of the check.
type unverified string

func (u unverified) Error() string { return ErrUnverified.Error() + ": " + string(u) }
func (u unverified) Unwrap() error { return ErrUnverified }

// DeriveLinkKey returns the identity link key of a credential in a KeyPackage
// pool, which the holder of the pool's connection key can derive too (SPEC.md
// §4.2). Credentials that a client places itself get primitive.NewSecret
// instead (SPEC.md R-8).
func DeriveLinkKey(connectionKey primitive.Secret, t TBS) primitive.Secret {
	return primitive.DeriveSecret(connectionKey, "IdentityLinkKey", t.Bytes())
}

// RealIdentity is a client's own real credential and key. The chain is DER,
// end entity first, at most one intermediate, root omitted.
type RealIdentity struct {
	Chain [][]byte
	Key   primitive.Signer // of the end entity
}

// NewCredential signs t with the real key and seals signature and chain under
// the link key (SPEC.md ).
func NewCredential(t TBS, linkKey primitive.Secret, real RealIdentity) (Credential, error) {
	if t.Client.Kind() != Client || t.User.Kind() != User || len(real.Chain) < 1 || len(real.Chain) > 2 {
		return Credential{}, errors.New("pseudonym: incomplete credential")
	}
	sig, err := real.Key.SignWithLabel(labelCredential, t.Bytes())
	if err != nil {
		return Credential{}, err
	}
	tbe := codec.AppendVector(nil, sig)
	tbe = appendChain(tbe, real.Chain)
	c := Credential{TBS: t}
	c.Ciphertext, err = sealLink(t, linkKey, primitive.NewNonce(), tbe)
	return c, err
}

// sealLink is link_commitment || nonce || AEAD128(link key, nonce, TBS,
// Padded(TBE, n)) of SPEC.md R-5.
func sealLink(t TBS, linkKey primitive.Secret, nonce primitive.Nonce, tbe []byte) ([]byte, error) {
	for _, n := range linkSizes {
		padded, ok := primitive.AppendPadded(nil, tbe, n)
		if !ok {
			continue
		}
		tbs := t.Bytes()
		commitment := primitive.DeriveSecret(linkKey, "mmr link commit", tbs)
		key := primitive.DeriveKey128(linkKey, "mmr link key", nil)
		defer key.Wipe()
		b := make([]byte, 0, n+linkOverhead)
		b = append(b, commitment.Bytes()...)
		b = append(b, nonce[:]...)
		return primitive.AppendAES128(b, key, nonce, tbs, padded), nil
	}
	return nil, errors.New("pseudonym: certificates do not fit")
}

// linkSizes are the plaintext sizes n of SPEC.md R-6.
var linkSizes = [...]int{1024, 2048, 4096}

func validLinkSize(n int) bool {
	for _, s := range linkSizes {
		if n == s+linkOverhead {
			return true
		}
	}
	return false
}

// Link is an opened identity link, IdentityLinkTBE: claims that are not
// verified yet.
type Link struct {
	Signature []byte   // pseudonymous_credential_signature
	Chain     [][]byte // client_credential, DER certificates
}

// Open checks the commitment in constant time and decrypts the link (SPEC.md
// R-5), or returns ErrUnverified.
func (c Credential) Open(linkKey primitive.Secret) (Link, error) {
	tbe, err := c.openLink(linkKey)
	if err != nil {
		return Link{}, err
	}
	r := codec.NewReader(tbe)
	l := Link{Signature: r.Vector(maxSignature), Chain: readChain(r)}
	if r.Done() != nil {
		return Link{}, unverified("link does not parse")
	}
	return l, nil
}

func (c Credential) openLink(linkKey primitive.Secret) ([]byte, error) {
	if !validLinkSize(len(c.Ciphertext)) || !linkKey.Present() {
		return nil, unverified("no link")
	}
	tbs := c.Bytes()
	commitment := primitive.DeriveSecret(linkKey, "mmr link commit", tbs)
	if subtle.ConstantTimeCompare(commitment.Bytes(), c.Ciphertext[:commitmentSize]) != 1 {
		return nil, unverified("link key is not the committed one")
	}
	key := primitive.DeriveKey128(linkKey, "mmr link key", nil)
	defer key.Wipe()
	padded, err := primitive.OpenAES128(key, tbs, c.Ciphertext[commitmentSize:])
	if err != nil {
		return nil, unverified("link does not open")
	}
	tbe, err := primitive.ParsePadded(padded)
	if err != nil {
		return nil, unverified("link is not padded")
	}
	return tbe, nil
}

// appendChain appends an MLS Credential of type x509 (RFC 9420 §5.3).
func appendChain(b []byte, chain [][]byte) []byte {
	b = binary.BigEndian.AppendUint16(b, CredentialX509)
	return AppendCertificates(b, chain)
}

// AppendCertificates appends the content of an MLS Credential of type x509:
// Certificate certificates<V>, each opaque cert_data<V>.
func AppendCertificates(b []byte, chain [][]byte) []byte {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, c := range chain {
			b = codec.AppendVector(b, c)
		}
		return b
	})
}

// readChain reads an MLS Credential that must be of type x509 with one or two
// certificates.
func readChain(r *codec.Reader) [][]byte {
	if r.Uint16() != CredentialX509 {
		r.Fail(codec.ErrMalformed)
		return nil
	}
	return ReadCertificates(r)
}

// ReadCertificates reads what AppendCertificates wrote: one or two
// certificates. Failures are r's.
func ReadCertificates(r *codec.Reader) [][]byte {
	sub := r.Sub(maxChain)
	var chain [][]byte
	for !sub.Empty() {
		chain = append(chain, sub.Vector(maxChain))
	}
	r.Join(sub)
	if len(chain) < 1 || len(chain) > 2 {
		r.Fail(codec.ErrMalformed)
	}
	if r.Err() != nil {
		return nil
	}
	return chain
}
