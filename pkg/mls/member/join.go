package member

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// labelWelcome is the label of encrypted group secrets (RFC 9420 §12.4.3.1).
const labelWelcome = "Welcome"

// JoinOptions configures a join by Welcome.
type JoinOptions struct {
	Options

	// Tree is the ratchet tree (the body of the extension) if the Welcome does
	// not hold it. If both are there they must be equal.
	Tree []byte
	// Joined reports whether the client is in a group already; nil: in none.
	Joined func(groupID []byte) bool
}

// JoinInfo is what a Welcome told beside the group's state.
type JoinInfo struct {
	Signer     mls.LeafIndex   // the member that added us
	Extensions []mls.Extension // of the GroupInfo, without the ratchet tree
	KeyPackage *KeyPackage     // the one used: Wipe it once the Group is stored
}

// Join enters a group by a Welcome, an MLSMessage (RFC 9420 §12.4.3.1). find
// returns our unused key package with a KeyPackageRef, or nil. A Welcome that
// is refused uses nothing up.
func Join(welcome []byte, find func(ref []byte) *KeyPackage, o JoinOptions) (*Group, *JoinInfo, error) {
	l := o.Limits.WithDefaults()
	m, err := wire.ParseMessage(welcome, l)
	if err != nil {
		return nil, nil, err
	}
	if m.Welcome == nil {
		return nil, nil, wire.RefuseAs(wire.RuleWireFormat, wire.ClassDecode)
	}
	w := m.Welcome
	k, entry := recipient(w, find)
	if k == nil {
		return nil, nil, wire.Refuse(wire.RuleWelcomeRecipient)
	}
	if !k.init.IsSet() {
		return nil, nil, ErrWiped
	}
	if w.Suite != k.suite.ID() {
		return nil, nil, wire.Refuse(wire.RuleWelcomeSuite)
	}
	secrets, err := openGroupSecrets(k, w, entry, l)
	if err != nil {
		return nil, nil, err
	}
	defer secrets.wipe()
	info, member, err := secrets.openGroupInfo(k.suite, w, &o.Options, l)
	if err != nil {
		return nil, nil, err
	}
	defer member.Wipe()
	if info.Context.Suite != k.suite.ID() {
		return nil, nil, wire.Refuse(wire.RuleWelcomeSuite)
	}
	if o.Joined != nil && o.Joined(bytes.Clone(info.Context.GroupID)) {
		return nil, nil, wire.Refuse(wire.RuleWelcomeGroupID)
	}
	state, err := group.FromGroupInfo(info, o.Tree, &o.Options.Options)
	if err != nil {
		return nil, nil, err
	}
	e, err := secrets.enter(k, state, info, member)
	if err != nil {
		return nil, nil, err
	}
	return newGroup(&o.Options, e), &JoinInfo{
		Signer: info.Signer, Extensions: publicExtensions(info), KeyPackage: k,
	}, nil
}

// recipient finds the first entry of a Welcome that is for one of our key
// packages.
func recipient(w *wire.Welcome, find func(ref []byte) *KeyPackage) (*KeyPackage, *wire.EncryptedGroupSecrets) {
	for i := range w.Secrets {
		ref := w.Secrets[i].NewMember
		// The name is checked, whatever find did with it.
		if k := find(bytes.Clone(ref)); k != nil && bytes.Equal(k.Ref(), ref) {
			return k, &w.Secrets[i]
		}
	}
	return nil, nil
}

// groupSecrets is a decrypted GroupSecrets.
type groupSecrets struct {
	joiner suite.Secret
	path   suite.Secret // not set if absent
	psks   []wire.PreSharedKeyID
}

func (g *groupSecrets) wipe() {
	g.joiner.Wipe()
	g.path.Wipe()
}

func openGroupSecrets(k *KeyPackage, w *wire.Welcome, entry *wire.EncryptedGroupSecrets, l *wire.Limits) (*groupSecrets, error) {
	plaintext, err := k.suite.DecryptWithLabel(k.init, labelWelcome, w.EncryptedGroupInfo, entry.Secrets.KEMOutput, entry.Secrets.Ciphertext)
	if err != nil {
		return nil, wire.Refuse(wire.RuleWelcomeDecrypt)
	}
	defer plaintext.Wipe()
	parsed, err := wire.ParseGroupSecrets(plaintext.Bytes(), l)
	if err != nil {
		return nil, err
	}
	if len(parsed.JoinerSecret) != k.suite.HashSize() {
		return nil, wire.Refuse(wire.RuleWelcomeDecrypt)
	}
	g := &groupSecrets{joiner: suite.TakeSecret(parsed.JoinerSecret), psks: parsed.PSKs}
	if parsed.PathSecret != nil {
		g.path = suite.TakeSecret(parsed.PathSecret)
	}
	return g, nil
}

// openGroupInfo decrypts the GroupInfo and returns it with the secret that the
// epoch's secrets come from.
func (g *groupSecrets) openGroupInfo(s *suite.Suite, w *wire.Welcome, o *Options, l *wire.Limits) (*wire.GroupInfo, suite.Secret, error) {
	for _, id := range g.psks {
		// RFC 9420 §12.4.3.1: reinit and branch need the old group's state,
		// which joins of this engine do not offer.
		if id.Type == wire.PSKResumption {
			return nil, suite.Secret{}, wire.Refuse(wire.RuleWelcomePSK)
		}
		if len(id.Nonce) != s.HashSize() {
			return nil, suite.Secret{}, wire.Refuse(wire.RulePSKNonce)
		}
	}
	psk, err := pskSecret(s, g.psks, o.psk, wire.RuleWelcomePSK)
	if err != nil {
		return nil, suite.Secret{}, err
	}
	defer psk.Wipe()
	member := secret.Member(s, g.joiner, psk)
	welcome := secret.Welcome(s, member)
	defer welcome.Wipe()
	key, nonce := secret.WelcomeKey(s, welcome)
	defer key.Wipe()
	defer nonce.Wipe()
	plaintext, err := s.Open(key, nonce, nil, w.EncryptedGroupInfo)
	if err != nil {
		member.Wipe()
		return nil, suite.Secret{}, wire.Refuse(wire.RuleWelcomeDecrypt)
	}
	info, err := wire.ParseGroupInfo(plaintext, l)
	if err != nil {
		member.Wipe()
		return nil, suite.Secret{}, err
	}
	return info, member, nil
}

// enter finds the own leaf and derives the epoch's secrets.
func (g *groupSecrets) enter(k *KeyPackage, state *group.State, info *wire.GroupInfo, member suite.Secret) (*epoch, error) {
	s, e := k.suite, &epoch{pub: state, signer: k.signer}
	found := false
	for i, leaf := range state.Tree().Leaves() {
		if bytes.Equal(leaf.Raw(), k.public.Leaf.Raw()) {
			e.own, found = i, true
			break
		}
	}
	// RFC 9420 §12.4.3.1: our leaf is there as it was, and somebody else added it.
	if !found || e.own == info.Signer {
		return nil, wire.Refuse(wire.RuleWelcomeLeaf)
	}
	e.keys = (*secret.Keys)(nil).With(tree.Leaf(e.own), k.public.Leaf.EncryptionKey, k.leaf.Clone())
	if g.path.IsSet() {
		keys, err := e.keys.Join(state.Tree(), info.Signer, e.own, g.path)
		if err != nil {
			return nil, wire.Refuse(wire.RuleWelcomePathSecret)
		}
		e.keys = keys
	}
	e.begin(s, secret.NewEpoch(s, member, state.Context().Raw()), state.Tree().Width(), state.Limits())
	if !s.VerifyMAC(e.secrets.Confirmation, state.Context().ConfirmedTranscriptHash, info.ConfirmationTag) {
		e.wipe()
		return nil, wire.Refuse(wire.RuleConfirmationTag)
	}
	return e, nil
}

// publicExtensions returns copies of a GroupInfo's extensions without the tree.
func publicExtensions(info *wire.GroupInfo) []wire.Extension {
	var es []wire.Extension
	for _, e := range info.Extensions {
		if e.Type != wire.ExtensionRatchetTree {
			es = append(es, wire.Extension{Type: e.Type, Data: bytes.Clone(e.Data)})
		}
	}
	return es
}
