package leafcheck

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Rules are the mls.Rules that hub and members share: how to read a
// pseudonymous credential, which leaf may follow which, and that every commit
// the engine accepts is acceptable. The hub adds its judgement (SPEC.md R-121),
// members check what they can see.
type Rules struct{ mls.OpenRules }

// Credential accepts what parses as a PseudonymousCredential, and x509
// credentials where they can be an external sender's, whose owner is compared
// with the hub elsewhere; Check refuses them in leaves.
func (Rules) Credential(c mls.Credential, _ []byte, at mls.Place) error {
	switch at {
	case mls.PlaceTree, mls.PlaceNewExternalSender, mls.PlaceChangedExternalSender:
		if c.Type == mls.CredentialX509 {
			return nil
		}
	}
	_, err := pseudonym.ParseCredential(uint16(c.Type), c.Body)
	return err
}

// Successor accepts an unchanged credential, or another one of the same user
// with a new key and a new client pseudonym (SPEC.md ).
func (Rules) Successor(old, next *mls.LeafNode) error {
	if old.Credential.Equal(next.Credential) && bytes.Equal(old.SignatureKey, next.SignatureKey) {
		return nil
	}
	a, err := pseudonym.ParseCredential(uint16(old.Credential.Type), old.Credential.Body)
	if err != nil {
		return err
	}
	b, err := pseudonym.ParseCredential(uint16(next.Credential.Type), next.Credential.Body)
	if err != nil {
		return err
	}
	if a.User != b.User || a.Client == b.Client || bytes.Equal(old.SignatureKey, next.SignatureKey) {
		return mmrerr.ParticipantMismatch
	}
	return nil
}
