package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Peek decrypts a Welcome as far as the GroupContext, for clients that must
// know which group it is before they can fetch its ratchet tree. Only that the
// sender knew the key package is certain: the GroupInfo's signature and
// everything else is verified by Join.
func Peek(welcome []byte, find func(ref []byte) *KeyPackage, o Options) (*mls.GroupContext, error) {
	l := o.Limits.WithDefaults()
	m, err := wire.ParseMessage(welcome, l)
	if err != nil {
		return nil, err
	}
	if m.Welcome == nil {
		return nil, wire.RefuseAs(wire.RuleWireFormat, wire.ClassDecode)
	}
	k, entry := recipient(m.Welcome, find)
	switch {
	case k == nil:
		return nil, wire.Refuse(wire.RuleWelcomeRecipient)
	case !k.init.IsSet():
		return nil, ErrWiped
	case m.Welcome.Suite != k.suite.ID():
		return nil, wire.Refuse(wire.RuleWelcomeSuite)
	}
	secrets, err := openGroupSecrets(k, m.Welcome, entry, l)
	if err != nil {
		return nil, err
	}
	defer secrets.wipe()
	info, member, err := secrets.openGroupInfo(k.suite, m.Welcome, &o, l)
	if err != nil {
		return nil, err
	}
	member.Wipe()
	return info.Context, nil
}

// Signer returns the signer of the key package's leaf.
func (k *KeyPackage) Signer() Signer { return k.signer }
