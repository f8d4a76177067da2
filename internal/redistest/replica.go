package redistest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// arg is the value of one of the server's arguments.
func (s *Server) arg(name string) string { return s.args[slices.Index(s.args, name)+1] }

// replicates reports whether INFO replication has a line.
func (s *Server) replicates(line string) bool {
	info, err := s.short().Info(context.WithoutCancel(s.tb.Context()), "replication").Result()
	return err == nil && strings.Contains(info, "\r\n"+line+"\r\n")
}

// short returns the client for questions, made once.
func (s *Server) short() *redis.Client {
	s.ask.Do(func() { s.asker = s.Client() })
	return s.asker
}

// InStep reports whether the server is a replica that has what its master had when
// it last said so.
func (s *Server) InStep() bool {
	return s.replicates("role:slave") && s.replicates("master_link_status:up") && s.replicates("master_sync_in_progress:0")
}

// IsMaster reports whether the server answers and is no replica.
func (s *Server) IsMaster() bool { return s.replicates("role:master") }

// StartReplica starts a server that replicates another, which listens on TCP, and
// waits until it is in step.
func (s *Server) StartReplica(o Options) *Server {
	s.tb.Helper()
	o.TCP = true
	o.Args = append(slices.Clone(o.Args), "--replicaof", "127.0.0.1 "+strconv.Itoa(s.port))
	r := Start(s.tb, o)
	eventually(s.tb, "a replica is in step", r.InStep)
	return r
}

// Sentinels watch one master, named main.
type Sentinels struct {
	tb    testing.TB
	nodes []*Server
}

// StartSentinels starts n Sentinels, of which a majority decides, that take a second
// to notice that the master is gone.
func StartSentinels(tb testing.TB, master *Server, n int) *Sentinels {
	tb.Helper()
	ss := &Sentinels{tb: tb}
	for range n {
		ss.nodes = append(ss.nodes, startSentinel(tb, master, n/2+1))
	}
	for _, s := range ss.nodes {
		eventually(tb, "Sentinels know each other and the replicas", func() bool {
			m, err := s.short().Do(tb.Context(), "SENTINEL", "MASTER", "main").Result()
			if err != nil {
				return false
			}
			fields := asMap(m)
			return fields["num-other-sentinels"] == strconv.Itoa(n-1) && fields["num-slaves"] != "0"
		})
	}
	return ss
}

// asMap is a reply of fields and values, in either protocol.
func asMap(v any) map[string]string {
	out := make(map[string]string)
	add := func(k, v any) {
		if k, ok := k.(string); ok {
			if v, ok := v.(string); ok {
				out[k] = v
			}
		}
	}
	switch v := v.(type) {
	case map[any]any:
		for k, x := range v {
			add(k, x)
		}
	case []any:
		for i := 0; i+1 < len(v); i += 2 {
			add(v[i], v[i+1])
		}
	}
	return out
}

// Eventually waits for something that takes a while.
func (ss *Sentinels) Eventually(what string, f func() bool) {
	ss.tb.Helper()
	eventually(ss.tb, what, f)
}

// URL is the master as the daemons' store flags name it.
func (ss *Sentinels) URL() string {
	addrs := make([]string, len(ss.nodes))
	for i, s := range ss.nodes {
		addrs[i] = s.Addr()
	}
	return "redis+sentinel://" + strings.Join(addrs, ",") + "/main"
}
