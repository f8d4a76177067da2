package member

import (
	"bytes"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// loader reads the sections of a saved state.
type loader struct {
	state  *group.State
	signer func([]byte) mls.Signer
	opts   *Options
}

// head reads privateHead and makes sure that the two blobs belong together.
func (l *loader) head(b []byte, g *Group) (status Status, resumptions int, err error) {
	r := codec.NewReader(b)
	status = Status(r.Uint8())
	g.counter = r.Uint64()
	resumptions = int(r.Uint16())
	tag := r.Vector(codec.MaxVector)
	if r.Done() != nil || status < Active || status > Removed || !bytes.Equal(tag, l.state.ConfirmationTag()) {
		return 0, 0, errState
	}
	return status, resumptions, nil
}

func (l *loader) current(b []byte, g *Group) error {
	r := codec.NewReader(b)
	e, err := l.epoch(r, l.state)
	if err != nil {
		return err
	}
	if r.Done() != nil {
		return errState
	}
	g.cur = e
	return nil
}

// epoch reads what epoch.append wrote, for a public state, and checks that the
// secrets belong to it.
func (l *loader) epoch(r *codec.Reader, pub *group.State) (*epoch, error) {
	s, t := pub.Suite(), pub.Tree()
	e := &epoch{pub: pub, own: wire.LeafIndex(r.Uint32())}
	e.secrets = secret.ReadEpoch(r, s)
	e.keys = secret.ReadKeys(r, t)
	updates := r.Sub(codec.MaxVector)
	var signers [][]byte
	for !updates.Empty() {
		u := update{public: updates.Vector(codec.MaxVector)}
		private := updates.Vector(codec.MaxVector)
		signers = append(signers, updates.Vector(codec.MaxVector))
		var err error
		if u.private, err = importFor(s, private, u.public); err != nil {
			updates.Fail(codec.ErrMalformed)
		}
		e.updates = append(e.updates, u)
	}
	r.Join(updates)
	e.tree = secret.ReadTree(r, s, t.Width(), treeLimits(pub.Limits()))
	leaf := t.Leaf(e.own)
	if r.Err() != nil || leaf == nil {
		return nil, errState
	}
	_, ok := e.keys.Private(tree.Leaf(e.own), leaf.EncryptionKey)
	if !ok || !s.VerifyMAC(e.secrets.Confirmation, pub.Context().ConfirmedTranscriptHash, pub.ConfirmationTag()) {
		return nil, errState
	}
	var err error
	if e.signer, err = l.find(leaf.SignatureKey); err != nil {
		return nil, err
	}
	for i := range e.updates {
		if e.updates[i].signer, err = l.find(signers[i]); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (l *loader) find(public []byte) (mls.Signer, error) {
	if s := l.signer(bytes.Clone(public)); s != nil && bytes.Equal(s.Public(), public) {
		return s, nil
	}
	return nil, ErrUnknownSigner
}

// history reads past epochs, which count down from the current one, and
// resumption secrets. Limits that became narrower hold from the next epoch on.
func (l *loader) history(public, private, resumptions []byte, g *Group) error {
	s, limits := l.state.Suite(), l.state.Limits()
	current := l.state.Context().Epoch
	pub, priv := codec.NewReader(public), codec.NewReader(private)
	for !pub.Empty() {
		p, err := l.pastPublic(pub)
		n := uint64(len(g.past)) + 1
		if err != nil || n > current || p.context.Epoch != current-n {
			return errState
		}
		p.senderData = secret.ReadSecret(priv, s.HashSize())
		if p.tree = secret.ReadTree(priv, s, 0, treeLimits(limits)); p.tree == nil {
			return errState
		}
		g.past = append(g.past, p)
	}
	if priv.Done() != nil || public != nil && len(public) == 0 {
		return errState
	}
	r := codec.NewReader(resumptions)
	for !r.Empty() {
		v := resumption{epoch: r.Uint64(), secret: secret.ReadSecret(r, s.HashSize())}
		n := uint64(len(g.resumption)) + 1
		if n > current || v.epoch != current-n {
			return errState
		}
		g.resumption = append(g.resumption, v)
	}
	if r.Done() != nil || resumptions != nil && len(resumptions) == 0 {
		return errState
	}
	return nil
}

func (l *loader) pastPublic(r *codec.Reader) (*past, error) {
	limits := l.state.Limits()
	p := &past{leaves: map[wire.LeafIndex]*wire.LeafNode{}}
	var err error
	if p.context, err = wire.ParseGroupContext(r.Vector(codec.MaxVector), limits); err != nil {
		return nil, errState
	}
	if !bytes.Equal(p.context.GroupID, l.state.Context().GroupID) || p.context.Suite != l.state.Suite().ID() {
		return nil, errState
	}
	changes := r.Sub(codec.MaxVector)
	for last := int64(-1); !changes.Empty(); {
		i := wire.LeafIndex(changes.Uint32())
		var leaf *wire.LeafNode
		if changes.Optional() {
			if leaf, err = wire.ParseLeafNode(changes.Vector(codec.MaxVector), limits); err != nil {
				return nil, errState
			}
		}
		if int64(i) <= last {
			return nil, errState
		}
		last, p.leaves[i] = int64(i), leaf
	}
	r.Join(changes)
	if r.Err() != nil {
		return nil, errState
	}
	return p, nil
}

// pending reads the staged commit. The public state of its epoch is computed
// again from the commit, so that the tree is stored once.
func (l *loader) pending(public, private []byte, g *Group) error {
	r := codec.NewReader(public)
	raw, commit, welcome := r.Vector(codec.MaxVector), r.Vector(codec.MaxVector), r.Vector(codec.MaxVector)
	if r.Done() != nil {
		return errState
	}
	a, err := wire.ParseAuthenticatedContent(raw, l.state.Limits())
	if err != nil || a.Content.Commit == nil || l.state.CheckContent(a) != nil {
		return errState
	}
	// Only an external join starts from outside.
	if (a.Content.Sender.Type == wire.SenderNewMemberCommit) != (g.cur == nil) {
		return errState
	}
	p, err := l.state.Prepare(a, noTime)
	if err != nil {
		return err
	}
	priv := codec.NewReader(private)
	hash := priv.Vector(codec.MaxVector)
	next := p.Finish(a.Auth.ConfirmationTag)
	e, err := l.epoch(priv, next)
	if err != nil {
		return err
	}
	if priv.Done() != nil || !bytes.Equal(hash, next.Suite().Hash(commit)) || e.own != p.Committer || len(e.updates) != 0 {
		return errState
	}
	g.pending = &Staged{
		base: l.state, auth: a, commit: commit, welcome: nilIfEmpty(welcome),
		next: e, event: commitEvent(a, p.View(next)),
	}
	return nil
}

func nilIfEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func sortedLeaves(m map[wire.LeafIndex]*wire.LeafNode) []wire.LeafIndex {
	is := make([]wire.LeafIndex, 0, len(m))
	for i := range m {
		is = append(is, i)
	}
	slices.Sort(is)
	return is
}
