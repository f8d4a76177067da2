package member

import (
	"fmt"
	"io"
	"log/slog" //nolint:depguard // LogValue, so that secrets refuse to be logged

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Signer signs with a member's signature key, which may live outside of the
// process. Its methods may be called by many goroutines.
type Signer = mls.Signer

// SigningKey is a Signer that holds its private key in memory. It prints
// itself as "[redacted]".
type SigningKey struct {
	suite   *suite.Suite
	public  []byte
	private suite.Secret
}

// GenerateSigner returns a Signer with a fresh key.
func GenerateSigner(s mls.CipherSuite) (*SigningKey, error) {
	st, err := suiteOf(s)
	if err != nil {
		return nil, err
	}
	public, private, err := st.GenerateSignatureKey()
	if err != nil {
		return nil, fmt.Errorf("member: generating a signature key: %w", err)
	}
	return &SigningKey{st, public, private}, nil
}

// NewSigner returns a Signer for a private key: the seed of an Ed25519 or Ed448
// key, or the scalar of a NIST key. It keeps a copy.
func NewSigner(s mls.CipherSuite, private []byte) (*SigningKey, error) {
	st, err := suiteOf(s)
	if err != nil {
		return nil, err
	}
	key, err := st.ImportSignatureKey(private)
	if err != nil {
		return nil, fmt.Errorf("member: reading a signature key: %w", err)
	}
	public, err := st.SignaturePublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("member: reading a signature key: %w", err)
	}
	return &SigningKey{st, public, key}, nil
}

// Public returns a copy of the public key.
func (k *SigningKey) Public() []byte { return append([]byte(nil), k.public...) }

// Sign signs an encoded SignContent.
func (k *SigningKey) Sign(content []byte) ([]byte, error) { return k.suite.Sign(k.private, content) }

// Private returns a copy of the private key, for the caller's own storage.
func (k *SigningKey) Private() []byte { return append([]byte(nil), k.private.Bytes()...) }

// Wipe clears the private key; signing fails afterwards.
func (k *SigningKey) Wipe() { k.private.Wipe() }

// String returns a constant.
func (k *SigningKey) String() string { return k.private.String() }

// GoString returns a constant.
func (k *SigningKey) GoString() string { return k.private.String() }

// Format writes a constant, whatever the verb.
func (k *SigningKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.private.String()) }

// LogValue returns a constant.
func (k *SigningKey) LogValue() slog.Value { return k.private.LogValue() }

// MarshalText returns a constant; the key leaves through Private only.
func (k *SigningKey) MarshalText() ([]byte, error) { return k.private.MarshalText() }

// Signers returns a lookup for ParseGroup over a fixed set of signers.
func Signers(signers ...Signer) func(publicKey []byte) Signer {
	return func(publicKey []byte) Signer {
		for _, s := range signers {
			if string(s.Public()) == string(publicKey) {
				return s
			}
		}
		return nil
	}
}

// sign is SignWithLabel with an error that says where it comes from.
// The content is the concatenation of parts.
func sign(s Signer, label string, parts ...[]byte) ([]byte, error) {
	sig, err := s.Sign(suite.SignContent(label, parts...))
	if err != nil {
		return nil, fmt.Errorf("member: signing: %w", err)
	}
	return sig, nil
}

func suiteOf(id mls.CipherSuite) (*suite.Suite, error) {
	s := suite.Get(id)
	if s == nil {
		return nil, wire.RefuseAs(wire.RuleUnsupportedSuite, wire.ClassUnsupported)
	}
	return s, nil
}
