package kvtest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// Model: after any sequence of calls the store answers as kv.Memory does, but
// for the versions themselves. Time moves if the store has a Clock.
func Model(t *testing.T, open Open) {
	s := open(t)
	var round atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{s: s, base: fmt.Sprintf("%d.", round.Add(1)), now: time.Unix(1_700_000_000, 0)}
		m.model = kv.NewMemoryAt(func() time.Time { return m.now })
		m.versions = map[kv.Key]pair{}
		t.Repeat(map[string]func(*rapid.T){
			"":        m.compare,
			"apply":   m.apply,
			"getMany": m.getMany,
			"pass":    m.pass,
		})
	})
}

type machine struct {
	s, model kv.Store
	base     string // of all groups of this run
	now      time.Time
	versions map[kv.Key]pair // of the last write
}

// pair is one version as the store and as the model call it.
type pair struct{ store, model kv.Version }

var (
	genGroup = rapid.SampledFrom([]string{"a", "b"})
	genName  = rapid.SampledFrom([]string{"x", "xy", "y", "\xff"})
)

func (m *machine) apply(t *rapid.T) {
	group := m.base + genGroup.Draw(t, "group")
	ns := rapid.SliceOfNDistinct(genName, 1, 3, rapid.ID).Draw(t, "names")
	var so, mo []kv.Op
	for _, n := range ns {
		op := kv.Op{Key: key(group, n)}
		if rapid.IntRange(0, 3).Draw(t, "delete") > 0 {
			op.Value = rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "value")
			if op.Value == nil {
				op.Value = []byte{}
			}
			op.TTL = rapid.SampledFrom([]time.Duration{0, time.Hour, 2 * time.Hour}).Draw(t, "ttl")
		}
		v := m.versions[op.Key]
		switch rapid.IntRange(0, 4).Draw(t, "check") {
		case 0, 1: // as it was last
			op.Check = true
		case 2: // absent
			op.Check, v = true, pair{}
		}
		so, mo = append(so, op), append(mo, op)
		so[len(so)-1].Old, mo[len(mo)-1].Old = v.store, v.model
	}
	sv, serr := m.s.Apply(t.Context(), so)
	mv, merr := m.model.Apply(t.Context(), mo)
	if !errors.Is(serr, merr) {
		t.Fatalf("Apply: store %v, model %v", serr, merr)
	}
	for i := range sv {
		if (sv[i] == 0) != (mv[i] == 0) {
			t.Fatalf("versions: store %v, model %v", sv, mv)
		}
		if sv[i] != 0 && sv[i] == m.versions[so[i].Key].store {
			t.Fatal("a write has the version of the one before")
		}
		m.versions[so[i].Key] = pair{sv[i], mv[i]}
	}
}

func (m *machine) getMany(t *rapid.T) {
	group := m.base + genGroup.Draw(t, "group")
	ns := rapid.SliceOfN(genName, 1, 4).Draw(t, "names")
	sr, serr := m.s.GetMany(t.Context(), group, ns)
	mr, merr := m.model.GetMany(t.Context(), group, ns)
	if serr != nil || merr != nil {
		t.Fatalf("GetMany: store %v, model %v", serr, merr)
	}
	m.same(t, sr, mr)
}

// pass moves the clocks past every TTL of an hour.
func (m *machine) pass(t *rapid.T) {
	c, ok := m.s.(Clock)
	if !ok {
		t.Skip("the store has no clock")
	}
	d := time.Hour + 2*time.Second
	c.Advance(d)
	m.now = m.now.Add(d)
}

func (m *machine) compare(t *rapid.T) {
	for _, g := range []string{"a", "b"} {
		for _, prefix := range []string{"", "x"} {
			m.same(t, m.scan(t, m.s, m.base+g, prefix), m.scan(t, m.model, m.base+g, prefix))
		}
	}
	if d := cmp.Diff(m.groups(t, m.model), m.groups(t, m.s)); d != "" {
		t.Fatalf("Groups (-model +store):\n%s", d)
	}
}

func (m *machine) scan(t *rapid.T, s kv.Store, group, prefix string) (rs []kv.Record) {
	for r, err := range s.Scan(t.Context(), group, prefix) {
		if err != nil {
			t.Fatalf("Scan: %v", err)
		}
		rs = append(rs, r)
	}
	return rs
}

func (m *machine) groups(t *rapid.T, s kv.Store) map[string]bool {
	gs := map[string]bool{}
	for g, err := range s.Groups(t.Context(), m.base) {
		if err != nil {
			t.Fatalf("Groups: %v", err)
		}
		gs[g] = true
	}
	return gs
}

// same compares records but for their versions, and these with the last write.
func (m *machine) same(t *rapid.T, store, model []kv.Record) {
	for i := range store {
		if v := store[i].Version; v != 0 {
			if v != m.versions[store[i].Key].store {
				t.Fatal("a record has a version that no write returned")
			}
			store[i].Version = m.versions[store[i].Key].model
		}
	}
	if d := cmp.Diff(model, store); d != "" {
		t.Fatalf("records (-model +store):\n%s", d)
	}
}
