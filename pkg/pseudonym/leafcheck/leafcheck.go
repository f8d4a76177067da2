// Package leafcheck is what a hub checks of every leaf and a provider of every
// KeyPackage, without opening anything: SPEC.md.
package leafcheck

import (
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Leaf is a leaf that passed.
type Leaf struct {
	Credential pseudonym.Credential
	Delivery   seal.Delivery
}

// Check runs on a leaf, in that order. admitted are the
// credential types of the room, or those a provider accepts; queueKey reports
// whether a domain is a configured peer that publishes a queue key of an id.
func Check(l *mls.LeafNode, suite mls.CipherSuite, admitted []mls.CredentialType, queueKey func(domain string, id uint8) bool) (Leaf, error) {
	if !slices.Contains(admitted, l.Credential.Type) {
		return Leaf{}, mmrerr.CredentialType
	}
	c, err := pseudonym.ParseCredential(uint16(l.Credential.Type), l.Credential.Body)
	if err != nil {
		return Leaf{}, err
	}
	delivery, ok := mls.FindExtension(l.Extensions, mls.ExtensionType(pseudonym.ExtensionDelivery))
	if !ok {
		delivery = nil
	}
	d, err := c.Check(l.SignatureKey, delivery)
	if err != nil {
		return Leaf{}, err
	}
	if !queueKey(d.ProviderDomain, d.KeyID) {
		return Leaf{}, mmrerr.QueueDomain
	}
	if uint16(l.Credential.Type) == pseudonym.CredentialPseudonymous {
		if err := uniform(l, suite); err != nil {
			return Leaf{}, err
		}
	}
	return Leaf{c, d}, nil
}

// uniform is SPEC.md R-134 for a leaf.
func uniform(l *mls.LeafNode, suite mls.CipherSuite) error {
	return pseudonym.CheckLeafShape(pseudonym.LeafShape{
		Versions:       numbers(l.Capabilities.Versions),
		CipherSuites:   numbers(l.Capabilities.Suites),
		Extensions:     numbers(l.Capabilities.Extensions),
		Proposals:      numbers(l.Capabilities.Proposals),
		Credentials:    numbers(l.Capabilities.Credentials),
		LeafExtensions: types(l.Extensions),
	}, uint16(suite))
}

// Package checks what R-134 fixes of a KeyPackage and reports whether it is a
// last-resort one.
func Package(p *mls.KeyPackage) (lastResort bool, err error) {
	return pseudonym.CheckPackageShape(p.Leaf.Lifetime.NotBefore, p.Leaf.Lifetime.NotAfter, types(p.Extensions))
}

func numbers[T ~uint16](xs []T) []uint16 {
	ns := make([]uint16, len(xs))
	for i, x := range xs {
		ns[i] = uint16(x)
	}
	return ns
}

func types(es []mls.Extension) []uint16 {
	ts := make([]uint16, len(es))
	for i, e := range es {
		ts[i] = uint16(e.Type)
	}
	return ts
}
