package pseudonym

import "github.com/mmrelay/mmrelay/pkg/primitive"

// Doors for the test vectors, which fix nonces.
var (
	SealLinkAt   = sealLink
	WrapStaticAt = wrapStatic
	StaticKey    = staticKey
)

// OpenTBE opens a link without parsing what is in it.
func (c Credential) OpenTBE(linkKey primitive.Secret) ([]byte, error) { return c.openLink(linkKey) }
