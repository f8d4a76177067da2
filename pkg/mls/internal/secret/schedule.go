package secret

import (
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// Epoch holds the secrets that RFC 9420 §8 derives from an epoch_secret. Its
// secret tree grows from Encryption, which the tree takes over.
type Epoch struct {
	SenderData    suite.Secret
	Encryption    suite.Secret
	Exporter      suite.Secret
	External      suite.Secret
	Confirmation  suite.Secret
	Membership    suite.Secret
	Resumption    suite.Secret
	Authenticator suite.Secret
	Init          suite.Secret
}

// Joiner derives the joiner_secret of the epoch whose GroupContext is given.
// Without a path commit is suite.ZeroSecret.
func Joiner(s *suite.Suite, init, commit suite.Secret, groupContext []byte) suite.Secret {
	prk := s.Extract(init, commit)
	defer prk.Wipe()
	return s.DeriveHash(prk, "joiner", groupContext)
}

// Member combines the joiner_secret with the PSK secret; the result has no name
// in RFC 9420 §8, welcome_secret and epoch_secret come from it.
func Member(s *suite.Suite, joiner, psk suite.Secret) suite.Secret { return s.Extract(joiner, psk) }

// Welcome derives the welcome_secret.
func Welcome(s *suite.Suite, member suite.Secret) suite.Secret {
	return s.DeriveSecret(member, "welcome")
}

// NewEpoch derives the secrets of the epoch whose GroupContext is given.
func NewEpoch(s *suite.Suite, member suite.Secret, groupContext []byte) *Epoch {
	epoch := s.DeriveHash(member, "epoch", groupContext)
	defer epoch.Wipe()
	return expandEpoch(s, epoch)
}

// RandomEpoch starts a group: its epoch_secret is fresh random, never derived
// from zeros (RFC 9420 §11).
func RandomEpoch(s *suite.Suite) *Epoch {
	epoch := suite.RandomSecret(s.HashSize())
	defer epoch.Wipe()
	return expandEpoch(s, epoch)
}

func expandEpoch(s *suite.Suite, epoch suite.Secret) *Epoch {
	return &Epoch{
		SenderData:    s.DeriveSecret(epoch, "sender data"),
		Encryption:    s.DeriveSecret(epoch, "encryption"),
		Exporter:      s.DeriveSecret(epoch, "exporter"),
		External:      s.DeriveSecret(epoch, "external"),
		Confirmation:  s.DeriveSecret(epoch, "confirm"),
		Membership:    s.DeriveSecret(epoch, "membership"),
		Resumption:    s.DeriveSecret(epoch, "resumption"),
		Authenticator: s.DeriveSecret(epoch, "authentication"),
		Init:          s.DeriveSecret(epoch, "init"),
	}
}

// Export is MLS-Exporter (RFC 9420 §8.5). It fails with suite.ErrLength if n is
// negative or above 255 Nh.
func (e *Epoch) Export(s *suite.Suite, label string, context []byte, n int) (suite.Secret, error) {
	base := s.DeriveSecret(e.Exporter, label)
	defer base.Wipe()
	return s.ExpandWithLabel(base, "exported", s.Hash(context), n)
}

// ExternalKey returns the key pair of external joins (RFC 9420 §8).
func (e *Epoch) ExternalKey(s *suite.Suite) (public []byte, private suite.Secret, err error) {
	return s.DeriveKeyPair(e.External)
}

// AppendBinary appends the state of the secrets, without Encryption.
func (e *Epoch) AppendBinary(b []byte) []byte {
	for _, s := range e.stored() {
		b = AppendSecret(b, *s)
	}
	return b
}

// ReadEpoch reads what AppendBinary wrote.
func ReadEpoch(r *codec.Reader, s *suite.Suite) *Epoch {
	e := &Epoch{}
	for _, v := range e.stored() {
		*v = ReadSecret(r, s.HashSize())
	}
	return e
}

func (e *Epoch) stored() []*suite.Secret {
	return []*suite.Secret{
		&e.SenderData, &e.Exporter, &e.External, &e.Confirmation,
		&e.Membership, &e.Resumption, &e.Authenticator, &e.Init,
	}
}

// Secrets lists every secret held, for Retire and for tests that look for them.
func (e *Epoch) Secrets() []suite.Secret {
	return []suite.Secret{
		e.SenderData, e.Encryption, e.Exporter, e.External, e.Confirmation,
		e.Membership, e.Resumption, e.Authenticator, e.Init,
	}
}

// Wipe clears everything.
func (e *Epoch) Wipe() {
	for _, s := range e.Secrets() {
		s.Wipe()
	}
}
