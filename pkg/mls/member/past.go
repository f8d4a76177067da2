package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// past is what is kept of an epoch that is over, to read late application
// messages (RFC 9420 §15.3). They are judged by the tree of their own epoch:
// leaves holds those leaves that differ from the next newer epoch's, nil for
// blank ones, so that the tree is not kept twice.
type past struct {
	context    *wire.GroupContext
	leaves     map[wire.LeafIndex]*wire.LeafNode
	senderData suite.Secret
	tree       *secret.Tree
}

// adopt returns the Group in which epoch e has replaced the current one, of
// which only what late messages and resumption need remains.
func (g *Group) adopt(e *epoch) *Group {
	n := g.next()
	old := g.cur
	n.cur, n.pending = e, nil
	l := e.pub.Limits()
	n.past = window(prepend(old.retirement(e.pub), g.past), l.PastEpochs)
	r := resumption{old.pub.Context().Epoch, old.secrets.Resumption}
	n.resumption = window(prepend(r, g.resumption), l.ResumptionSecrets)
	return n
}

// retirement returns what is kept of an epoch once the state next follows.
func (e *epoch) retirement(next *group.State) *past {
	p := &past{
		context:    e.pub.Context(),
		leaves:     map[wire.LeafIndex]*wire.LeafNode{},
		senderData: e.secrets.SenderData,
		tree:       e.tree,
	}
	for _, i := range tree.ChangedLeaves(e.pub.Tree(), next.Tree()) {
		p.leaves[i] = e.pub.Tree().Leaf(i)
	}
	return p
}

// pastLeaf returns a leaf as it was in the epoch of past[n], nil if blank.
func (g *Group) pastLeaf(n int, i wire.LeafIndex) *wire.LeafNode {
	for ; n >= 0; n-- {
		if leaf, changed := g.past[n].leaves[i]; changed {
			return leaf
		}
	}
	return g.cur.pub.Tree().Leaf(i)
}

// DropPast returns the Group with the keys of at most keep past epochs: late
// messages of older ones cannot be read any more.
func (g *Group) DropPast(keep int) (*Group, error) {
	if err := g.active(); err != nil {
		return nil, err
	}
	n := g.next()
	n.past = window(g.past, keep)
	return n, nil
}

func prepend[T any](v T, vs []T) []T { return append([]T{v}, vs...) }

// window returns the first n elements.
func window[T any](vs []T, n int) []T {
	n = max(0, min(n, len(vs)))
	return vs[:n:n]
}
