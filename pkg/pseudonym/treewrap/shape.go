package treewrap

import (
	"maps"
	"math/bits"
	"slices"
)

// maxLeaf is the highest leaf index: its node number and all parents' fit 32
// bits.
const maxLeaf = 1<<30 - 1

// shape is the live part of the tree over a set of leaves (SPEC.md R-90).
type shape struct {
	live  map[uint32][2]uint32 // node to the live nodes on its two sides; zeros for leaves
	top   uint32
	empty bool
}

// newShape returns the shape over ascending leaf indices.
func newShape(occupied []uint32) shape {
	s := shape{live: make(map[uint32][2]uint32, 2*len(occupied)), empty: len(occupied) == 0}
	if !s.empty {
		level := bits.Len32(occupied[len(occupied)-1]) // 2^level > highest leaf
		s.top = s.resolve(level, 0, occupied)
	}
	return s
}

// resolve returns resolve(x) for the node of that level whose subtree begins at
// leaf first and holds the occupied leaves, at least one, and enters the live
// nodes below.
func (s *shape) resolve(level int, first uint32, occupied []uint32) uint32 {
	if level == 0 {
		s.live[2*first] = [2]uint32{}
		return 2 * first
	}
	half := uint32(1) << (level - 1)
	cut, _ := slices.BinarySearch(occupied, first+half)
	switch cut {
	case 0:
		return s.resolve(level-1, first+half, occupied)
	case len(occupied):
		return s.resolve(level-1, first, occupied)
	}
	node := 2*first + (1<<level - 1)
	s.live[node] = [2]uint32{s.resolve(level-1, first, occupied[:cut]), s.resolve(level-1, first+half, occupied[cut:])}
	return node
}

// sorted returns the live nodes in ascending order.
func (s *shape) sorted() []uint32 { return slices.Sorted(maps.Keys(s.live)) }

// isLeaf reports whether a node number is a leaf's.
func isLeaf(node uint32) bool { return node&1 == 0 }

// covers reports whether the subtree of node holds one of the ascending leaves.
func covers(node uint32, leaves []uint32) bool {
	level := bits.TrailingZeros32(^node)
	first := node >> (level + 1) << level
	i, _ := slices.BinarySearch(leaves, first)
	return i < len(leaves) && leaves[i] < first+1<<level
}
