package tree

import (
	"bytes"
	"hash/maphash"
)

// pmap is a persistent map from byte strings: put returns a new map that
// shares almost everything with the old one. Keys are hashed with a seed of
// the process, so that nobody can choose keys that collide.
type pmap[V any] struct{ root *pnode[V] }

type pnode[V any] struct {
	kids    *[fan]*pnode[V] // nil in a bucket
	entries []pentry[V]
}

type pentry[V any] struct {
	hash  uint64
	key   []byte
	value V
}

const (
	fan     = 16
	fanBits = 4
	bucket  = 8
)

var pseed = maphash.MakeSeed()

// get returns the value of a key, or the zero value.
func (m pmap[V]) get(key []byte) (v V) {
	h := maphash.Bytes(pseed, key)
	shift := 0
	for n := m.root; n != nil; shift += fanBits {
		if n.kids == nil {
			for _, e := range n.entries {
				if e.hash == h && bytes.Equal(e.key, key) {
					return e.value
				}
			}
			break
		}
		n = n.kids[h>>shift%fan]
	}
	return v
}

// put returns the map with a value set; the key must not change afterwards.
func (m pmap[V]) put(key []byte, v V) pmap[V] {
	h := maphash.Bytes(pseed, key)
	return pmap[V]{m.root.put(pentry[V]{h, key, v}, 0)}
}

// at returns a pointer to the value of a key, zero if it is new, in a map that
// nobody else has seen yet: it changes the nodes in place.
func (m *pmap[V]) at(key []byte) *V {
	h := maphash.Bytes(pseed, key)
	p := &m.root
	shift := 0
	for *p != nil && (*p).kids != nil {
		p = &(*p).kids[h>>shift%fan]
		shift += fanBits
	}
	if *p == nil {
		*p = &pnode[V]{entries: make([]pentry[V], 0, bucket)}
	}
	n := *p
	for i := range n.entries {
		if e := &n.entries[i]; e.hash == h && bytes.Equal(e.key, key) {
			return &e.value
		}
	}
	if len(n.entries) < bucket || shift >= 64 {
		n.entries = append(n.entries, pentry[V]{hash: h, key: key})
		return &n.entries[len(n.entries)-1].value
	}
	n.kids = new([fan]*pnode[V])
	for _, e := range n.entries {
		i := e.hash >> shift % fan
		n.kids[i] = n.kids[i].put(e, shift+fanBits)
	}
	n.entries = nil
	return m.at(key)
}

// remove returns the map without a key.
func (m pmap[V]) remove(key []byte) pmap[V] {
	return pmap[V]{m.root.remove(maphash.Bytes(pseed, key), key, 0)}
}

// all calls yield for every value until it returns false.
func (m pmap[V]) all(yield func(V) bool) bool { return m.root.all(yield) }

func (n *pnode[V]) all(yield func(V) bool) bool {
	if n == nil {
		return true
	}
	for _, e := range n.entries {
		if !yield(e.value) {
			return false
		}
	}
	if n.kids != nil {
		for _, k := range n.kids {
			if !k.all(yield) {
				return false
			}
		}
	}
	return true
}

func (n *pnode[V]) put(e pentry[V], shift int) *pnode[V] {
	if n == nil {
		return &pnode[V]{entries: []pentry[V]{e}}
	}
	if n.kids != nil {
		kids := *n.kids
		i := e.hash >> shift % fan
		kids[i] = kids[i].put(e, shift+fanBits)
		return &pnode[V]{kids: &kids}
	}
	entries := make([]pentry[V], 0, len(n.entries)+1)
	for _, x := range n.entries {
		if x.hash != e.hash || !bytes.Equal(x.key, e.key) {
			entries = append(entries, x)
		}
	}
	entries = append(entries, e)
	// Below 64 bits the hash is used up; a bucket of equal hashes grows.
	if len(entries) <= bucket || shift >= 64 {
		return &pnode[V]{entries: entries}
	}
	var kids [fan]*pnode[V]
	for _, x := range entries {
		i := x.hash >> shift % fan
		kids[i] = kids[i].put(x, shift+fanBits)
	}
	return &pnode[V]{kids: &kids}
}

func (n *pnode[V]) remove(hash uint64, key []byte, shift int) *pnode[V] {
	if n == nil {
		return nil
	}
	if n.kids != nil {
		kids := *n.kids
		i := hash >> shift % fan
		kids[i] = kids[i].remove(hash, key, shift+fanBits)
		return &pnode[V]{kids: &kids}
	}
	entries := make([]pentry[V], 0, len(n.entries))
	for _, x := range n.entries {
		if x.hash != hash || !bytes.Equal(x.key, key) {
			entries = append(entries, x)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return &pnode[V]{entries: entries}
}

// count changes the number stored under a key by delta.
func count(m pmap[int], key []byte, delta int) pmap[int] {
	n := m.get(key) + delta
	if n == 0 {
		return m.remove(key)
	}
	return m.put(key, n)
}
