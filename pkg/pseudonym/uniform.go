package pseudonym

import (
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// LeafShape is what SPEC.md R-134 fixes of a leaf and its key package, so that
// two of them differ only in random-looking fields and the day.
type LeafShape struct {
	Versions, CipherSuites, Extensions, Proposals, Credentials []uint16 // Capabilities, in order
	LeafExtensions                                             []uint16 // types, in order
}

// UniformLeaf returns the shape of every pseudonymous leaf in a room of that
// MLS cipher suite.
func UniformLeaf(suite uint16) LeafShape {
	return LeafShape{
		Versions:       []uint16{versionMLS10},
		CipherSuites:   []uint16{suite},
		Extensions:     CapabilityExtensions(),
		Credentials:    CapabilityCredentials(),
		LeafExtensions: []uint16{ExtensionDelivery},
	}
}

// CheckLeafShape returns mmr/uniformity unless s is the shape of R-134.
func CheckLeafShape(s LeafShape, suite uint16) error {
	u := UniformLeaf(suite)
	if slices.Equal(s.Versions, u.Versions) && slices.Equal(s.CipherSuites, u.CipherSuites) &&
		slices.Equal(s.Extensions, u.Extensions) && len(s.Proposals) == 0 &&
		slices.Equal(s.Credentials, u.Credentials) && slices.Equal(s.LeafExtensions, u.LeafExtensions) {
		return nil
	}
	return mmrerr.Uniformity
}

// CheckPackageShape returns mmr/uniformity unless a key package's lifetime
// begins at midnight UTC and lasts LifetimeSeconds, and its extensions are none
// or last_resort (SPEC.md R-134). lastResort says which.
func CheckPackageShape(notBefore, notAfter uint64, extensions []uint16) (lastResort bool, err error) {
	if notBefore%86400 != 0 || notAfter < notBefore || notAfter-notBefore != LifetimeSeconds {
		return false, mmrerr.Uniformity
	}
	switch {
	case len(extensions) == 0:
		return false, nil
	case slices.Equal(extensions, []uint16{ExtensionLastResort}):
		return true, nil
	}
	return false, mmrerr.Uniformity
}

// Lifetime returns not_before and not_after for a key package made at now.
func Lifetime(now time.Time) (notBefore, notAfter uint64) {
	s := uint64(max(now.Unix(), 0))
	notBefore = s - s%86400
	return notBefore, notBefore + LifetimeSeconds
}
