// Package redisscript runs Lua scripts on Redis the way stores need it:
//
//   - A script that may have run is never run again. The client's own retries,
//     which would repeat a script whose answer got lost, are off for them: the
//     error goes to the caller, who knows whether repeating is safe.
//   - Many scripts go in one pipeline, to all nodes of a cluster at once.
//   - A server that does not know a script (after a restart, on a new master)
//     gets its source.
//   - If asked to, the answer waits until replicas have the writes (WAIT).
//
// Replies of scripts are integers, strings, nil and arrays of these.
package redisscript

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrReplicas reports that fewer replicas than asked for confirmed a write in
// time. The master has it; it may be lost if the master is.
var ErrReplicas = errors.New("redisscript: too few replicas confirmed the write")

// Script is the source of a Lua script and its SHA-1, by which servers know it.
type Script struct{ source, hash string }

// New makes a script of parts that are joined.
func New(parts ...string) *Script {
	s := new(Script)
	for _, p := range parts {
		s.source += p
	}
	s.hash = redis.NewScript(s.source).Hash()
	return s
}

// Runner runs scripts.
type Runner struct {
	// Client is a single server, a Sentinel-managed one, or a cluster.
	Client redis.UniversalClient
	// WaitReplicas is how many replicas must confirm the writes of a script before
	// its call returns. 0 means none. A script that writes nothing is waited for
	// too, but waits for nothing.
	WaitReplicas int
	// WaitTimeout bounds that. 0 means one second. It must be shorter than the
	// client's ReadTimeout.
	WaitTimeout time.Duration
}

// Call is one run of a script. In a cluster its keys are of one slot.
type Call struct {
	Script *Script
	Keys   []string
	Args   []any
}

// once is a command that the client must not repeat by itself.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

func command(ctx context.Context, name, script string, c Call) once {
	args := make([]any, 0, 3+len(c.Keys)+len(c.Args))
	args = append(args, name, script, len(c.Keys))
	for _, k := range c.Keys {
		args = append(args, k)
	}
	cmd := redis.NewCmd(ctx, append(args, c.Args...)...)
	cmd.SetFirstKeyPos(3)
	return once{cmd}
}

// Do runs one script.
func (r *Runner) Do(ctx context.Context, s *Script, keys []string, args ...any) *redis.Cmd {
	return r.Run(ctx, []Call{{s, keys, args}})[0]
}

// Run runs scripts in one pipeline and returns their answers in order. They are
// independent: the error of one says nothing about the others.
func (r *Runner) Run(ctx context.Context, calls []Call) []*redis.Cmd {
	cmds := make([]once, len(calls))
	for i, c := range calls {
		cmds[i] = command(ctx, "evalsha", c.Script.hash, c)
	}
	r.exec(ctx, cmds)
	var again []once
	var at []int
	for i, c := range cmds {
		if redis.HasErrorPrefix(c.Err(), "NOSCRIPT") { // it did not run
			again = append(again, command(ctx, "eval", calls[i].Script.source, calls[i]))
			at = append(at, i)
		}
	}
	if len(again) > 0 {
		r.exec(ctx, again)
	}
	for j, i := range at {
		cmds[i] = again[j]
	}
	out := make([]*redis.Cmd, len(cmds))
	for i, c := range cmds {
		out[i] = c.Cmd
	}
	return out
}

// exec sends commands; each keeps its own error.
func (r *Runner) exec(ctx context.Context, cmds []once) {
	if r.WaitReplicas > 0 {
		r.execWait(ctx, cmds)
		return
	}
	if len(cmds) == 1 {
		_ = r.Client.Process(ctx, cmds[0]) // the command has the error
		return
	}
	_, _ = r.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, c := range cmds {
			_ = p.Process(ctx, c) // queues it
		}
		return nil
	})
}

// execWait sends commands and WAIT on one connection per server: WAIT is about
// the writes of its connection.
func (r *Runner) execWait(ctx context.Context, cmds []once) {
	cluster, ok := r.Client.(*redis.ClusterClient)
	if !ok {
		r.execWaitNode(ctx, r.Client, cmds)
		return
	}
	for range 3 { // what had moved did not run
		cmds = r.execWaitCluster(ctx, cluster, cmds)
		if len(cmds) == 0 {
			return
		}
		cluster.ReloadState(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *Runner) execWaitCluster(ctx context.Context, cluster *redis.ClusterClient, cmds []once) (moved []once) {
	nodes := make(map[*redis.Client][]once)
	for _, c := range cmds {
		c.SetErr(nil)
		key, _ := c.Args()[3].(string) // always: command puts the keys there
		node, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			c.SetErr(err)
			continue
		}
		nodes[node] = append(nodes[node], c)
	}
	for node, cs := range nodes {
		r.execWaitNode(ctx, node, cs)
	}
	for _, c := range cmds {
		if redis.HasErrorPrefix(c.Err(), "MOVED ") || redis.HasErrorPrefix(c.Err(), "ASK ") || redis.HasErrorPrefix(c.Err(), "TRYAGAIN") {
			moved = append(moved, c)
		}
	}
	return moved
}

func (r *Runner) execWaitNode(ctx context.Context, node redis.Cmdable, cmds []once) {
	timeout := r.WaitTimeout
	if timeout == 0 {
		timeout = time.Second
	}
	wait := redis.NewIntCmd(ctx, "wait", r.WaitReplicas, timeout.Milliseconds())
	_, _ = node.Pipelined(ctx, func(p redis.Pipeliner) error { // the commands have the errors
		for _, c := range cmds {
			_ = p.Process(ctx, c) // queues it
		}
		return p.Process(ctx, wait)
	})
	n, err := wait.Result()
	if err == nil && n < int64(r.WaitReplicas) {
		err = fmt.Errorf("%w: %d of %d", ErrReplicas, n, r.WaitReplicas)
	}
	if err == nil {
		return
	}
	for _, c := range cmds {
		if c.Err() == nil || errors.Is(c.Err(), redis.Nil) {
			c.SetErr(err)
		}
	}
}
