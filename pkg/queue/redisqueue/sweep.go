package redisqueue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

const (
	// sweepAsk is how often a process asks whether today's sweep was made.
	sweepAsk = 10 * time.Minute
	// sweepTakes is how long a sweep has before another process begins one too,
	// which does no harm.
	sweepTakes = 30 * time.Minute
	// sweepPage is how many keys one step looks at, sweepPause what lies between
	// steps: a sweep must not be felt.
	sweepPage  = 500
	sweepPause = 20 * time.Millisecond
)

// sweeper removes expired entries of queues nobody touches: once per UTC day,
// by one of the processes.
func (s *Store) sweeper() {
	t := time.NewTicker(sweepAsk)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			_ = s.sweepDaily(s.ctx) // what did not work is repeated
		}
	}
}

// sweepDaily sweeps unless that was done today or is being done.
func (s *Store) sweepDaily(ctx context.Context) error {
	today := s.now().UTC().Format(time.DateOnly)
	done, err := s.run.Client.Get(ctx, s.prefix+"swept").Result()
	if err != nil && !errors.Is(err, redis.Nil) || done == today {
		return err
	}
	mine, err := s.run.Client.SetNX(ctx, s.prefix+"sweeping", today, sweepTakes).Result()
	if err != nil || !mine {
		return err
	}
	if err := s.sweep(ctx); err != nil {
		return err
	}
	return s.run.Client.Set(ctx, s.prefix+"swept", today, 48*time.Hour).Err()
}

// sweep looks at every queue.
func (s *Store) sweep(ctx context.Context) error {
	cluster, ok := s.run.Client.(*redis.ClusterClient)
	if !ok {
		return s.sweepNode(ctx, s.run.Client)
	}
	var mu sync.Mutex // one node at a time
	return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		return s.sweepNode(ctx, c)
	})
}

func (s *Store) sweepNode(ctx context.Context, node redis.Cmdable) error {
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, s.pattern(), sweepPage).Result()
		if err != nil {
			return err
		}
		var calls []redisscript.Call
		for _, k := range keys {
			if id, ok := s.idOf(k); ok {
				// An acknowledgement of nothing removes what expired.
				calls = append(calls, redisscript.Call{Script: ackScript, Keys: s.keys(queue.ID(id))[:2], Args: []any{s.seconds(), 0, 0}})
			}
		}
		if len(calls) > 0 {
			for _, cmd := range s.run.Run(ctx, calls) {
				if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) { // nil: deleted meanwhile
					return err
				}
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(sweepPause):
		}
	}
}
