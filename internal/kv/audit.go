package kv

import (
	"context"

	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// Auditor is a Store that can look at all it has, as every backend can. It is for
// tools: it costs a walk over the store.
type Auditor interface {
	Store
	// Audit looks at every row, compares it with the others and counts what it
	// finds. With remove it deletes what has expired. The store may be in use
	// meanwhile. Damage is in the report; the error is for an audit that could not
	// be made.
	Audit(ctx context.Context, remove bool) (*audit.Report, error)
}

var _ Auditor = (*Memory)(nil)

// Audit implements Auditor.
func (m *Memory) Audit(ctx context.Context, remove bool) (*audit.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	r, now := audit.New(), m.now()
	for _, g := range m.groups {
		for name, rec := range g {
			r.Row("record")
			if rec.version == 0 || rec.version > m.last {
				r.Fault("record: version was never claimed")
			}
			if rec.live(now) {
				continue
			}
			r.Orphan("record that expired")
			if remove {
				delete(g, name)
				r.Deleted++
			}
		}
	}
	if remove {
		for group, g := range m.groups {
			if len(g) == 0 {
				delete(m.groups, group)
			}
		}
	}
	return r, nil
}
