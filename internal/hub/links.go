package hub

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// linkKeys is step 13; in the static scheme (SPEC.md R-15) one entry per Add in
// order, and one for a joiner's or replaced credential of the committer.
func (j *judge) linkKeys() error {
	if j.r.roster.policy.Scheme != pseudonym.SchemeStatic {
		return j.wrapKeys()
	}
	var rules []pseudonym.KeyRule
	for _, l := range j.linked() {
		rules = append(rules, j.policyAfter().KeyRule(j.policyAfter().RoleOf(l.user)))
	}
	entries, err := j.entries()
	if err != nil {
		return err
	}
	return pseudonym.CheckAddAAD(entries, rules)
}

// policyAfter is the policy of the new epoch.
func (j *judge) policyAfter() *pseudonym.Room {
	if j.policy != nil {
		return j.policy
	}
	return j.r.roster.policy
}

// linked are the leaves whose link keys the commit carries, in order.
func (j *judge) linked() []*leaf {
	var ls []*leaf
	for _, a := range j.added {
		ls = append(ls, a.leaf)
	}
	if j.path != nil && (j.rekeyed || j.external != nil) {
		ls = append(ls, j.path)
	}
	return ls
}

func (j *judge) entries() (pseudonym.AddAAD, error) {
	data, ok := j.aad.Get(pseudonym.AADAddAAD)
	if !ok {
		return nil, nil
	}
	return pseudonym.ParseAddAAD(data)
}

// newEntries is the static state after the commit (SPEC.md R-12).
func (j *judge) newEntries() (map[uint32][]byte, error) {
	es := maps.Clone(j.r.entries)
	if es == nil {
		es = make(map[uint32][]byte)
	}
	for _, l := range j.removed {
		delete(es, l.index)
	}
	added, err := j.entries()
	if err != nil {
		return nil, err
	}
	for i, l := range j.linked() {
		if i < len(added) && added[i] != nil {
			es[l.index] = added[i]
		} else {
			delete(es, l.index)
		}
	}
	return es, nil
}

func marshalEntries(es map[uint32][]byte) []byte {
	var b []byte
	for _, i := range slices.Sorted(maps.Keys(es)) {
		b = binary.BigEndian.AppendUint32(b, i)
		b = codec.AppendVector(b, es[i])
	}
	return b
}

func parseEntries(b []byte) (map[uint32][]byte, error) {
	r := codec.NewReader(b)
	es := make(map[uint32][]byte)
	last := int64(-1)
	for !r.Empty() {
		i := r.Uint32()
		if int64(i) <= last {
			r.Fail(codec.ErrMalformed)
		}
		last = int64(i)
		es[i] = r.Vector(math.MaxInt)
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	return es, nil
}

func linkEntries(es map[uint32][]byte) []*hubv1.LinkEntry {
	var out []*hubv1.LinkEntry
	for _, i := range slices.Sorted(maps.Keys(es)) {
		out = append(out, &hubv1.LinkEntry{LeafIndex: i, Entry: es[i]})
	}
	return out
}
