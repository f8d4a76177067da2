package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Extension is a type and opaque data (RFC 9420 §7.2).
type Extension struct {
	Type ExtensionType
	Data []byte
}

// AppendTo appends the encoding.
func (e Extension) AppendTo(b []byte) []byte {
	return codec.AppendVector(binary.BigEndian.AppendUint16(b, uint16(e.Type)), e.Data)
}

func readExtension(r *reader) (e Extension) {
	e.Type = ExtensionType(r.Uint16())
	limit := r.l.Extension
	if e.Type == ExtensionRatchetTree {
		limit = r.l.Tree
	}
	e.Data = r.Vector(limit)
	return e
}

func readExtensions(r *reader) []Extension { return list(r, r.l.Extensions, readExtension) }

// AppendExtensions appends a vector of extensions in the order given.
func AppendExtensions(b []byte, es []Extension) []byte {
	return appendList(b, es, func(b []byte, e Extension) []byte { return e.AppendTo(b) })
}

// ParseExtensions reads a vector of extensions.
func ParseExtensions(b []byte, l *Limits) ([]Extension, error) {
	vs, err := parse(b, l.Message+l.Tree, l, func(r *reader) *[]Extension {
		vs := readExtensions(r)
		return &vs
	})
	if err != nil {
		return nil, err
	}
	return *vs, nil
}

// FindExtension returns the data of the first extension of a type.
func FindExtension(es []Extension, t ExtensionType) (data []byte, ok bool) {
	for _, e := range es {
		if e.Type == t {
			return e.Data, true
		}
	}
	return nil, false
}

// DuplicateExtension reports whether a type occurs twice (RFC 9420 §13.4).
func DuplicateExtension(es []Extension) bool {
	for i, e := range es {
		if _, ok := FindExtension(es[:i], e.Type); ok {
			return true
		}
	}
	return false
}

// RequiredCapabilities is what every member must list (RFC 9420 §11.1).
type RequiredCapabilities struct {
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

// ParseRequiredCapabilities reads the data of a required_capabilities
// extension.
func ParseRequiredCapabilities(data []byte, l *Limits) (*RequiredCapabilities, error) {
	return parse(data, l.Extension, l, func(r *reader) *RequiredCapabilities {
		return &RequiredCapabilities{
			Extensions:  uint16s[ExtensionType](r, l.Capabilities),
			Proposals:   uint16s[ProposalType](r, l.Capabilities),
			Credentials: uint16s[CredentialType](r, l.Capabilities),
		}
	})
}

// Extension returns the required_capabilities extension.
func (c RequiredCapabilities) Extension() Extension {
	b := appendUint16s(nil, c.Extensions)
	b = appendUint16s(b, c.Proposals)
	return Extension{ExtensionRequiredCapabilities, appendUint16s(b, c.Credentials)}
}

// ParseExternalPub reads the data of an external_pub extension, which is
// opaque external_pub<V> (RFC 9420 §12.4.3.2).
func ParseExternalPub(data []byte, l *Limits) ([]byte, error) {
	v, err := parse(data, l.Extension, l, func(r *reader) *[]byte {
		v := r.opaque()
		return &v
	})
	if err != nil {
		return nil, err
	}
	return *v, nil
}

// ExternalPubExtension returns the external_pub extension for a public key.
func ExternalPubExtension(key []byte) Extension {
	return Extension{ExtensionExternalPub, codec.AppendVector(nil, key)}
}
