package kv

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is the Store without durability: the model for tests and the lab.
type Memory struct {
	now func() time.Time

	mu     sync.Mutex // guards all below
	groups map[string]map[string]memoryRecord
	last   Version
	writes int
	closed bool
}

type memoryRecord struct {
	value   []byte
	version Version
	expires time.Time // zero: never
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return NewMemoryAt(time.Now) }

// NewMemoryAt returns an empty store that takes the time from now: for virtual
// time in tests and the lab.
func NewMemoryAt(now func() time.Time) *Memory {
	return &Memory{now: now, groups: make(map[string]map[string]memoryRecord)}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key Key) (Record, error) {
	rs, err := m.GetMany(ctx, key.Group, []string{key.Name})
	if err != nil {
		return Record{}, err
	}
	if rs[0].Version == 0 {
		return Record{}, ErrNotFound
	}
	return rs[0], nil
}

// GetMany implements Store.
func (m *Memory) GetMany(ctx context.Context, group string, names []string) ([]Record, error) {
	for _, n := range names {
		if err := (Key{group, n}).Check(); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	rs := make([]Record, len(names))
	now := m.now()
	for i, n := range names {
		rs[i].Key = Key{group, n}
		if r, ok := m.groups[group][n]; ok && r.live(now) {
			rs[i].Value, rs[i].Version = slices.Clone(r.value), r.version
		}
	}
	return rs, nil
}

// Apply implements Store.
func (m *Memory) Apply(ctx context.Context, ops []Op) ([]Version, error) {
	if err := CheckOps(ops); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	now := m.now()
	m.sweep(now)
	if len(ops) == 0 {
		return nil, nil
	}
	group := m.groups[ops[0].Key.Group]
	for _, op := range ops {
		if !op.Check {
			continue
		}
		var have Version
		if r, ok := group[op.Key.Name]; ok && r.live(now) {
			have = r.version
		}
		if have != op.Old {
			return nil, ErrConflict
		}
	}
	if group == nil {
		group = make(map[string]memoryRecord)
		m.groups[ops[0].Key.Group] = group
	}
	vs := make([]Version, len(ops))
	for i, op := range ops {
		if op.Value == nil {
			delete(group, op.Key.Name)
			continue
		}
		m.last++
		r := memoryRecord{value: slices.Clone(op.Value), version: m.last}
		if op.TTL > 0 {
			r.expires = now.Add(op.TTL)
		}
		group[op.Key.Name] = r
		vs[i] = m.last
	}
	if len(group) == 0 {
		delete(m.groups, ops[0].Key.Group)
	}
	return vs, nil
}

// Scan implements Store.
func (m *Memory) Scan(ctx context.Context, group, prefix string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := errors.Join(CheckScan(group, prefix), ctx.Err()); err != nil {
			yield(Record{}, err)
			return
		}
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			yield(Record{}, ErrClosed)
			return
		}
		now := m.now()
		var rs []Record
		for _, n := range slices.Sorted(maps.Keys(m.groups[group])) {
			if r := m.groups[group][n]; strings.HasPrefix(n, prefix) && r.live(now) {
				rs = append(rs, Record{Key{group, n}, slices.Clone(r.value), r.version})
			}
		}
		m.mu.Unlock()
		for _, r := range rs {
			if err := ctx.Err(); err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Groups implements Store.
func (m *Memory) Groups(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			yield("", ErrClosed)
			return
		}
		now := m.now()
		var gs []string
		for g, rs := range m.groups {
			if !strings.HasPrefix(g, prefix) {
				continue
			}
			for _, r := range rs {
				if r.live(now) {
					gs = append(gs, g)
					break
				}
			}
		}
		m.mu.Unlock()
		for _, g := range gs {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(g, nil) {
				return
			}
		}
	}
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// sweep drops expired records every 1,024 transactions, so that the store does
// not grow with what nobody reads again.
func (m *Memory) sweep(now time.Time) {
	if m.writes++; m.writes%1024 != 0 {
		return
	}
	for g, rs := range m.groups {
		maps.DeleteFunc(rs, func(_ string, r memoryRecord) bool { return !r.live(now) })
		if len(rs) == 0 {
			delete(m.groups, g)
		}
	}
}

func (r memoryRecord) live(now time.Time) bool { return r.expires.IsZero() || now.Before(r.expires) }

// Check reports whether a key is within the documented bounds.
func (k Key) Check() error {
	if len(k.Group) == 0 || len(k.Group) > MaxKey || len(k.Name) == 0 || len(k.Name) > MaxKey {
		return ErrInvalid
	}
	return nil
}

// CheckScan reports whether a group and a prefix of names are within the
// documented bounds.
func CheckScan(group, prefix string) error {
	if len(group) == 0 || len(group) > MaxKey || len(prefix) > MaxKey {
		return ErrInvalid
	}
	return nil
}

// MaxOps is the most writes of one transaction.
const MaxOps = 4096

// CheckOps reports whether a transaction is within the documented bounds.
func CheckOps(ops []Op) error {
	if len(ops) > MaxOps {
		return ErrInvalid
	}
	seen := make(map[string]bool, len(ops))
	for _, op := range ops {
		if op.Key.Check() != nil || op.Key.Group != ops[0].Key.Group || seen[op.Key.Name] || len(op.Value) > MaxValue || op.TTL < 0 {
			return ErrInvalid
		}
		seen[op.Key.Name] = true
	}
	return nil
}
