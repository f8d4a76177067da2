package redisscript_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

var (
	incr = redisscript.New(`return redis.call('INCRBY', KEYS[1], `, `ARGV[1])`)
	fail = redisscript.New(`error(redis.error_reply('MINE'))`)
	none = redisscript.New(`return false`)
)

// TestRun asserts that each script of a pipeline runs once and has its own
// answer, whether the server knows it or not.
func TestRun(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	c := server.Client()
	r := redisscript.Runner{Client: c}
	for round := range int64(4) {
		if round == 2 { // as after a restart
			if err := c.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := r.Do(t.Context(), incr, []string{"other"}, 1).Err(); err != nil { // it knows one of them
				t.Fatal(err)
			}
		}
		cmds := r.Run(t.Context(), []redisscript.Call{
			{Script: incr, Keys: []string{"a"}, Args: []any{1}},
			{Script: fail},
			{Script: none},
			{Script: incr, Keys: []string{"a"}, Args: []any{10}},
		})
		if n, err := cmds[0].Int64(); n != 11*round+1 || err != nil {
			t.Errorf("first = %d, %v", n, err)
		}
		if err := cmds[1].Err(); !redis.HasErrorPrefix(err, "MINE") {
			t.Errorf("second: %v", err)
		}
		if err := cmds[2].Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("third: %v", err)
		}
		if n, err := cmds[3].Int64(); n != 11*round+11 || err != nil {
			t.Errorf("fourth = %d, %v", n, err)
		}
	}
	server.Stop()
	for i, cmd := range r.Run(t.Context(), []redisscript.Call{{Script: incr, Keys: []string{"a"}, Args: []any{1}}, {Script: none}}) {
		if cmd.Err() == nil {
			t.Errorf("script %d succeeded without a server", i)
		}
	}
}

// TestClusterRun asserts that a pipeline reaches all nodes, with and without WAIT.
func TestClusterRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := redistest.StartCluster(t, 3)
	for _, wait := range []int{0, 1} {
		r := redisscript.Runner{Client: c.Client(), WaitReplicas: wait}
		var calls []redisscript.Call
		for i := range 50 {
			calls = append(calls, redisscript.Call{Script: incr, Keys: []string{fmt.Sprint("{", wait, i, "}")}, Args: []any{i + 1}})
		}
		for i, cmd := range r.Run(t.Context(), calls) {
			n, err := cmd.Int64()
			if wait == 0 && (err != nil || n != int64(i+1)) {
				t.Errorf("script %d = %d, %v", i, n, err)
			}
			if wait > 0 && !errors.Is(err, redisscript.ErrReplicas) { // there are none
				t.Errorf("script %d: %v, want ErrReplicas", i, err)
			}
		}
	}
}
