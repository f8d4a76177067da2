package member

import (
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
)

// Grease returns an identity whose leaves have values that mean nothing where
// RFC 9420 §13.5 lets them be: in the capabilities but for versions, and among
// the leaf's extensions. Key packages and GroupInfos take an
// mls.GreaseExtension in their options. The engine adds none by itself.
func (id *Identity) Grease() *Identity {
	n := *id
	n.Capabilities = mls.GreaseCapabilities(id.Capabilities)
	e := mls.GreaseExtension()
	if _, taken := mls.FindExtension(id.Extensions, e.Type); !taken {
		n.Extensions = append(slices.Clone(id.Extensions), e)
		n.Capabilities.Extensions = append(n.Capabilities.Extensions, e.Type)
	}
	return &n
}
