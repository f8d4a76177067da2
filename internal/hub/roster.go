package hub

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// leaf is what the hub keeps hot about one leaf of a room (SPEC.md R-100):
// enough to authenticate its requests and to reach it.
type leaf struct {
	index        uint32
	signatureKey []byte
	client       pseudonym.ID
	user         pseudonym.ID

	delivery []byte // delivery_key of the leaf
	domain   string // provider the address is sealed to
	keyID    uint8
	sealed   []byte           // serialized HPKECiphertext
	k        primitive.Secret // K of the current epoch (SPEC.md R-70)
	lane     [16]byte         // random per leaf and address
	first    uint64           // seq of the first event it may read
	joining  bool             // welcomed, has not called JoinState
	leaving  bool             // its removal waits for a commit (SPEC.md R-113)
	rewrote  bool             // it made a full rewrite of the link key tree in this epoch (SPEC.md R-98)
}

// roster is the hot part of a room's state.
type roster struct {
	suite  uint16
	policy *pseudonym.Room
	leaves []*leaf  // ascending by index
	burned []burn   // ascending
	cached [][]byte // MLSMessages of the epoch's stand-alone proposals
}

// burn is a truncated hash of a pseudonym or key that may not return (SPEC.md R-112).
type burn [16]byte

func burnOf(kind byte, value []byte) burn {
	h := primitive.Hash([]byte{kind}, value)
	return burn(h[:16])
}

// Kinds of burned values.
const (
	burnClient = 'c'
	burnUser   = 'u'
	burnKey    = 'k'
)

func (r *roster) leaf(index uint32) *leaf {
	i, ok := slices.BinarySearchFunc(r.leaves, index, func(l *leaf, i uint32) int { return int(int64(l.index) - int64(i)) })
	if !ok {
		return nil
	}
	return r.leaves[i]
}

func (r *roster) isBurned(b burn) bool {
	_, ok := slices.BinarySearchFunc(r.burned, b, func(a, b burn) int { return slices.Compare(a[:], b[:]) })
	return ok
}

func (r *roster) addBurn(b burn) {
	i, ok := slices.BinarySearchFunc(r.burned, b, func(a, b burn) int { return slices.Compare(a[:], b[:]) })
	if !ok {
		r.burned = slices.Insert(r.burned, i, b)
	}
}

// leavesOf counts the leaves of a participant.
func (r *roster) leavesOf(user pseudonym.ID) int {
	n := 0
	for _, l := range r.leaves {
		if l.user == user {
			n++
		}
	}
	return n
}

// participant reports whether a user pseudonym has a leaf.
func (r *roster) participant(user pseudonym.ID) bool { return r.leavesOf(user) > 0 }

// clone returns a copy whose leaves can be changed without changing r.
func (r *roster) clone() *roster {
	c := &roster{suite: r.suite, policy: r.policy, burned: slices.Clone(r.burned), cached: slices.Clone(r.cached), leaves: make([]*leaf, len(r.leaves))}
	for i, l := range r.leaves {
		n := *l
		c.leaves[i] = &n
	}
	return c
}

// put inserts or replaces a leaf.
func (r *roster) put(l *leaf) {
	i, ok := slices.BinarySearchFunc(r.leaves, l.index, func(a *leaf, i uint32) int { return int(int64(a.index) - int64(i)) })
	if ok {
		r.leaves[i] = l
		return
	}
	r.leaves = slices.Insert(r.leaves, i, l)
}

func (r *roster) remove(index uint32) {
	r.leaves = slices.DeleteFunc(r.leaves, func(l *leaf) bool { return l.index == index })
}

const rosterVersion = 2

func (r *roster) marshal() ([]byte, error) {
	b := []byte{rosterVersion}
	b = binary.BigEndian.AppendUint16(b, r.suite)
	policy, err := r.policy.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	b = codec.AppendVector(b, policy)
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, l := range r.leaves {
			b = l.append(b)
		}
		return b
	})
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, x := range r.burned {
			b = append(b, x[:]...)
		}
		return b
	})
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, m := range r.cached {
			b = codec.AppendVector(b, m)
		}
		return b
	}), nil
}

func (l *leaf) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, l.index)
	b = codec.AppendVector(b, l.signatureKey)
	b = codec.AppendVector(b, l.client.String())
	b = codec.AppendVector(b, l.user.String())
	b = codec.AppendVector(b, l.delivery)
	b = codec.AppendVector(b, l.domain)
	b = append(b, l.keyID)
	b = codec.AppendVector(b, l.sealed)
	b = append(b, l.k.Bytes()...)
	b = append(b, l.lane[:]...)
	b = binary.BigEndian.AppendUint64(b, l.first)
	return append(b, flags(l.joining, l.leaving, l.rewrote))
}

func flags(bits ...bool) (f byte) {
	for i, x := range bits {
		if x {
			f |= 1 << i
		}
	}
	return f
}

func readLeaf(r *codec.Reader) *leaf {
	l := &leaf{index: r.Uint32(), signatureKey: r.Vector(math.MaxInt)}
	l.client, l.user = readID(r), readID(r)
	l.delivery = r.Vector(math.MaxInt)
	l.domain = string(r.Vector(math.MaxInt))
	l.keyID = r.Uint8()
	l.sealed = r.Vector(math.MaxInt)
	k, err := primitive.ParseSecret(r.Bytes(primitive.SecretSize))
	if err != nil {
		r.Fail(codec.ErrMalformed)
	}
	l.k = k
	r.Copy(l.lane[:])
	l.first = r.Uint64()
	f := readFlags(r, 3)
	l.joining, l.leaving, l.rewrote = f&1 != 0, f&2 != 0, f&4 != 0
	return l
}

// readFlags reads what flags wrote for n bits; others must be zero.
func readFlags(r *codec.Reader, n int) byte {
	f := r.Uint8()
	if f>>n != 0 {
		r.Fail(codec.ErrMalformed)
	}
	return f
}

func readID(r *codec.Reader) pseudonym.ID {
	id, err := pseudonym.ParseID(string(r.Vector(math.MaxInt)))
	if err != nil {
		r.Fail(codec.ErrMalformed)
	}
	return id
}

func parseRoster(b []byte) (*roster, error) {
	r := codec.NewReader(b)
	if r.Uint8() != rosterVersion {
		r.Fail(errNewer)
	}
	out := &roster{suite: r.Uint16()}
	policy := r.Vector(math.MaxInt)
	ls := r.Sub(math.MaxInt)
	for !ls.Empty() {
		l := readLeaf(ls)
		if n := len(out.leaves); n > 0 && out.leaves[n-1].index >= l.index {
			ls.Fail(codec.ErrMalformed) // leaves are found by binary search
		}
		out.leaves = append(out.leaves, l)
	}
	r.Join(ls)
	bs := r.Sub(math.MaxInt)
	for !bs.Empty() {
		var x burn
		bs.Copy(x[:])
		if n := len(out.burned); n > 0 && slices.Compare(out.burned[n-1][:], x[:]) >= 0 {
			bs.Fail(codec.ErrMalformed)
		}
		out.burned = append(out.burned, x)
	}
	r.Join(bs)
	ms := r.Sub(math.MaxInt)
	for !ms.Empty() {
		out.cached = append(out.cached, ms.Vector(math.MaxInt))
	}
	r.Join(ms)
	if err := r.Done(); err != nil {
		return nil, err
	}
	var err error
	if out.policy, err = pseudonym.ParseRoom(policy); err != nil {
		return nil, err
	}
	return out, nil
}

// appendLeaves and readLeaves are the stored form of leaf indices.
func appendLeaves(b []byte, leaves []uint32) []byte {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, i := range leaves {
			b = binary.BigEndian.AppendUint32(b, i)
		}
		return b
	})
}

func readLeaves(r *codec.Reader) (leaves []uint32) {
	ls := r.Sub(math.MaxInt)
	for !ls.Empty() {
		leaves = append(leaves, ls.Uint32())
	}
	r.Join(ls)
	return leaves
}
