package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Credential binds a signature key to an identity (RFC 9420 §5.3). Body is the
// identity of a basic credential and the opaque body of a type this package
// does not know; Certificates is the chain of an X.509 credential, end entity
// first, each in DER.
type Credential struct {
	Type         CredentialType
	Body         []byte
	Certificates [][]byte
}

// BasicCredential returns a credential that asserts an identity.
func BasicCredential(identity []byte) Credential {
	return Credential{Type: CredentialBasic, Body: identity}
}

// X509Credential returns a credential of DER certificates, end entity first.
func X509Credential(chain ...[]byte) Credential {
	return Credential{Type: CredentialX509, Certificates: chain}
}

// CustomCredential returns a credential of a type that RFC 9420 does not
// define, encoded as the type and body<V>.
func CustomCredential(t CredentialType, body []byte) Credential {
	return Credential{Type: t, Body: body}
}

// Equal reports whether two credentials are the same bytes.
func (c Credential) Equal(d Credential) bool {
	return bytes.Equal(c.AppendTo(nil), d.AppendTo(nil))
}

// AppendTo appends the encoding.
func (c Credential) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(c.Type))
	if c.Type != CredentialX509 {
		return codec.AppendVector(b, c.Body)
	}
	return appendList(b, c.Certificates, codec.AppendVector[[]byte])
}

func readCredential(r *reader) (c Credential) {
	c.Type = CredentialType(r.Uint16())
	switch c.Type {
	case 0: // RFC 9420 §17.5: reserved.
		r.malformed()
	case CredentialX509:
		c.Certificates = sized(r, r.l.Credential, r.l.Certificates, (*reader).opaque)
	default:
		c.Body = r.Vector(r.l.Credential)
	}
	return c
}

// ExternalSender is one of the external_senders (RFC 9420 §12.1.8.1).
type ExternalSender struct {
	SignatureKey []byte
	Credential   Credential
}

// AppendTo appends the encoding.
func (s ExternalSender) AppendTo(b []byte) []byte {
	return s.Credential.AppendTo(codec.AppendVector(b, s.SignatureKey))
}

// ParseExternalSenders reads the data of an external_senders extension.
func ParseExternalSenders(data []byte, l *Limits) ([]ExternalSender, error) {
	vs, err := parse(data, l.Extension, l, func(r *reader) *[]ExternalSender {
		vs := list(r, l.Capabilities, func(r *reader) ExternalSender {
			return ExternalSender{SignatureKey: r.opaque(), Credential: readCredential(r)}
		})
		return &vs
	})
	if err != nil {
		return nil, err
	}
	return *vs, nil
}

// ExternalSendersExtension returns the external_senders extension.
func ExternalSendersExtension(senders ...ExternalSender) Extension {
	return Extension{ExtensionExternalSenders, appendList(nil, senders, func(b []byte, s ExternalSender) []byte {
		return s.AppendTo(b)
	})}
}
