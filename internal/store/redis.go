package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/kv/rediskv"
	"github.com/mmrelay/mmrelay/pkg/queue/redisqueue"
)

// openTimeout bounds what Open asks a server.
const openTimeout = 15 * time.Second

// silence keeps the client library's messages out of the logs: they have
// addresses. What fails is returned.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// kinds have short prefixes, since every mailbox has two keys.
var kinds = map[string]string{"accounts": "a", "packages": "p", "queues": "q", "hub": "h"}

// Behind the prefix of a kind come "{" in keys of queues, "k{" in keys of
// records, and this for the format version.
const formatKey = "format"

func openRedis(ctx context.Context, url, kind string) (*Stores, error) {
	silence()
	u, err := parseRedisURL(url)
	if err != nil {
		return nil, err
	}
	c := redis.NewUniversalClient(&u.options)
	s, err := openClient(ctx, c, u, kind)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

func openClient(ctx context.Context, c redis.UniversalClient, u *redisURL, kind string) (*Stores, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := c.Ping(ctx).Err(); err != nil {
		return nil, fmt.Errorf("reaching redis: %w\nhint: check address, user and password; a cluster needs redis+cluster://", err)
	}
	if err := checkServer(ctx, c, u.options.IsClusterMode); err != nil {
		return nil, err
	}
	prefix, ok := kinds[kind]
	if !ok {
		prefix = kind + ":"
	}
	prefix = u.prefix + prefix
	if err := checkFormat(ctx, c, prefix+formatKey); err != nil {
		return nil, err
	}
	k := rediskv.New(c, prefix+"k", rediskv.Options{WaitReplicas: u.wait, WaitTimeout: u.waitTimeout})
	q, err := redisqueue.New(c, prefix, redisqueue.Options{WaitReplicas: u.wait, WaitTimeout: u.waitTimeout})
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return &Stores{KV: k, Queue: q, Backend: "redis", closers: []func() error{q.Close, k.Close, c.Close}}, nil
}

// checkServer refuses servers that would lose data or cannot run the scripts.
// A user without the right to INFO is trusted to have checked it.
func checkServer(ctx context.Context, c redis.UniversalClient, cluster bool) error {
	text, err := c.Info(ctx).Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking redis about itself: %w", err)
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	if major, _, _ := strings.Cut(info["redis_version"], "."); major != "" {
		if n, err := strconv.Atoi(major); err == nil && n < 7 {
			return errors.New("the redis server is too old\nhint: Redis 7.0 or Valkey 7.2 is needed, for sharded pub/sub")
		}
	}
	if (info["cluster_enabled"] == "1") != cluster {
		return errors.New("the redis server's cluster mode is not that of the URL\nhint: redis+cluster:// for a cluster, redis:// for a server")
	}
	if p := info["maxmemory_policy"]; p != "" && p != "noeviction" && info["maxmemory"] != "0" {
		return errors.New("the redis server would evict data when its memory is full\nhint: set maxmemory-policy to noeviction")
	}
	return nil
}

// checkFormat writes the version of the format, or compares it.
func checkFormat(ctx context.Context, c redis.UniversalClient, key string) error {
	if err := c.SetNX(ctx, key, Version, 0).Err(); err != nil {
		return fmt.Errorf("writing the format version: %w\nhint: is the server a read-only replica?", err)
	}
	v, err := c.Get(ctx, key).Result()
	if err != nil {
		return fmt.Errorf("reading the format version: %w", err)
	}
	if n, err := strconv.Atoi(v); err != nil || n > Version {
		return fmt.Errorf("%w\nhint: run that version, or choose another database or prefix", ErrNewer)
	}
	return nil
}
