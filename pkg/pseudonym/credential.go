package pseudonym

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TBS is PseudonymousCredentialTBS (SPEC.md §5): what the real key signs.
type TBS struct {
	Client ID     // fresh per credential
	User   ID     // one value for all leaves of a user in a room
	Key    []byte // the leaf's SignaturePublicKey
}

// Bytes returns the serialized structure.
func (t TBS) Bytes() []byte {
	b := codec.AppendVector(nil, t.Client.uri)
	b = codec.AppendVector(b, t.User.uri)
	return codec.AppendVector(b, t.Key)
}

// Hash returns tbs_hash, H of the serialized structure. It identifies the
// credential in the static scheme, TreeWrap and connections.
func (t TBS) Hash() [32]byte { return primitive.Hash(t.Bytes()) }

// Credential is PseudonymousCredential (SPEC.md §5).
type Credential struct {
	TBS
	Ciphertext []byte // identity_link_ciphertext
}

// AppendBinary appends the serialized structure: the body of a credential of
// type CredentialPseudonymous or the identity of one of type CredentialBasic
// (SPEC.md R-1). Neither TBS nor Hash depends on the encoding.
func (c Credential) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, c.Bytes()...)
	return codec.AppendVector(b, c.Ciphertext), nil
}

// ParseCredential reads a credential of a leaf: content is the body<V> of type
// CredentialPseudonymous or the identity<V> of type CredentialBasic, without
// its length. Another type, or content that is not completely the structure,
// is mmr/credential-type; pseudonyms that are none are mmr/pseudonym-shape
// (SPEC.md ). Slices alias content.
func ParseCredential(credentialType uint16, content []byte) (Credential, error) {
	if credentialType != CredentialPseudonymous && credentialType != CredentialBasic {
		return Credential{}, mmrerr.CredentialType
	}
	r := codec.NewReader(content)
	client, user := r.Vector(maxURI), r.Vector(maxURI)
	c := Credential{TBS: TBS{Key: r.Vector(maxKey)}}
	c.Ciphertext = r.Vector(maxChain)
	if r.Done() != nil {
		return Credential{}, mmrerr.CredentialType
	}
	var err1, err2 error
	c.Client, err1 = ParseID(string(client))
	c.User, err2 = ParseID(string(user))
	if err1 != nil || err2 != nil || c.Client.Kind() != Client || c.User.Kind() != User {
		return Credential{}, mmrerr.PseudonymShape
	}
	return c, nil
}

// Check runs the checks of SPEC.md that need nothing but the
// leaf, in their order: leafKey is LeafNode.signature_key, delivery the data of
// its mmr_delivery extension or nil if it has none. It returns the parsed
// extension. Whether the domain is a peer and the queue key one of its is the
// hub's to check.
func (c Credential) Check(leafKey, delivery []byte) (seal.Delivery, error) {
	if !bytes.Equal(c.Key, leafKey) {
		return seal.Delivery{}, mmrerr.KeyMismatch
	}
	if delivery == nil {
		return seal.Delivery{}, mmrerr.QueueMissing
	}
	d, err := seal.ParseDelivery(delivery)
	if err != nil {
		return seal.Delivery{}, err
	}
	if c.Client.Host() != d.ProviderDomain || c.User.Host() != d.ProviderDomain {
		return seal.Delivery{}, mmrerr.QueueDomain
	}
	if !validLinkSize(len(c.Ciphertext)) {
		return seal.Delivery{}, mmrerr.LinkCiphertextLength
	}
	return d, nil
}

func appendID(b []byte, id ID) []byte { return codec.AppendVector(b, id.uri) }

// readID reads an IdentifierUri that must be a pseudonym of a kind.
func readID(r *codec.Reader, kind Kind) ID {
	v := r.Vector(maxURI)
	if r.Err() != nil {
		return ID{}
	}
	id, err := ParseID(string(v))
	if err != nil || id.Kind() != kind {
		r.Fail(codec.ErrMalformed)
		return ID{}
	}
	return id
}

// readSecret copies a 32-byte secret out of a vector; an empty one is absent
// where optional.
func readSecret(r *codec.Reader, optional bool) primitive.Secret {
	v := r.Vector(primitive.SecretSize)
	if r.Err() != nil || len(v) == 0 && optional {
		return primitive.Secret{}
	}
	s, err := primitive.ParseSecret(v)
	if err != nil {
		r.Fail(codec.ErrMalformed)
	}
	return s
}

func appendSecret(b []byte, s primitive.Secret) []byte {
	if !s.Present() {
		return codec.AppendVector(b, "")
	}
	return codec.AppendVector(b, s.Bytes())
}

// readSecret32 copies a secret of fixed size out of the input.
func readSecret32(r *codec.Reader) primitive.Secret {
	v := r.Bytes(primitive.SecretSize)
	if v == nil {
		return primitive.Secret{}
	}
	s, err := primitive.ParseSecret(v)
	if err != nil {
		r.Fail(codec.ErrMalformed)
	}
	return s
}
