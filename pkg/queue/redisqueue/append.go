package redisqueue

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

// Bounds of one script: Redis does nothing else while it runs.
const (
	chunkEntries = 256
	chunkBytes   = 4 << 20
)

// part is what a chunk has for one queue: places in the batch.
type part struct {
	queue queue.ID
	at    []int
}

// AppendBatch implements queue.Store.
func (s *Store) AppendBatch(ctx context.Context, batch []queue.Append) ([]queue.Result, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	rs := make([]queue.Result, len(batch))
	for i := range batch {
		rs[i].Err = batch[i].Check()
	}
	for first := 0; first < len(batch); {
		parts, next := cut(batch, rs, first)
		if err := s.appendParts(ctx, batch, rs, parts); err != nil {
			// What follows must not overtake what failed, and the caller repeats all.
			return nil, err
		}
		first = next
	}
	return rs, nil
}

// cut takes a chunk of the valid entries from first on, by queue, and returns
// where the next one begins.
func cut(batch []queue.Append, rs []queue.Result, first int) (parts []*part, next int) {
	byID := make(map[queue.ID]*part)
	n, size := 0, 0
	for i := first; i < len(batch); i++ {
		if rs[i].Err != nil {
			continue
		}
		if n++; n > chunkEntries || n > 1 && size+len(batch[i].Entry) > chunkBytes {
			return parts, i
		}
		size += len(batch[i].Entry)
		p := byID[batch[i].Queue]
		if p == nil {
			p = &part{queue: batch[i].Queue}
			byID[p.queue] = p
			parts = append(parts, p)
		}
		p.at = append(p.at, i)
	}
	return parts, len(batch)
}

// appendParts stores a chunk: with one script where one server has all keys, in
// a cluster with one per queue.
func (s *Store) appendParts(ctx context.Context, batch []queue.Append, rs []queue.Result, parts []*part) error {
	if len(parts) == 0 {
		return nil
	}
	groups := [][]*part{parts}
	if _, ok := s.run.Client.(*redis.ClusterClient); ok {
		groups = groups[:0]
		for _, p := range parts {
			groups = append(groups, []*part{p})
		}
	}
	calls := make([]redisscript.Call, len(groups))
	for i, g := range groups {
		calls[i] = s.appendCall(batch, g)
	}
	for i, cmd := range s.run.Run(ctx, calls) {
		vs, err := cmd.Slice()
		if err != nil {
			return explain(err)
		}
		if err := results(rs, groups[i], vs); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) appendCall(batch []queue.Append, parts []*part) redisscript.Call {
	now := s.now()
	c := redisscript.Call{Script: appendScript, Args: []any{now.Unix(), queue.DedupHour(now), s.touch}}
	for _, p := range parts {
		c.Keys = append(c.Keys, s.keys(p.queue)[:2]...)
		c.Args = append(c.Args, len(p.at))
		for _, i := range p.at {
			c.Args = append(c.Args, batch[i].Entry, batch[i].Dedup)
		}
	}
	return c
}

// results reads the answer of appendScript.
func results(rs []queue.Result, parts []*part, vs []any) error {
	for _, p := range parts {
		for _, i := range p.at {
			if len(vs) == 0 {
				return ErrFormat
			}
			switch n, ok := vs[0].(int64); {
			case vs[0] == nil:
				rs[i].Err = queue.ErrNotFound
			case !ok:
				return ErrFormat
			case n == 0:
				rs[i].Err = queue.ErrFull
			case n < 0:
				rs[i] = queue.Result{Seq: queue.Seq(-n), Duplicate: true}
			default:
				rs[i].Seq = queue.Seq(n)
			}
			vs = vs[1:]
		}
	}
	return nil
}
