package store_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// The golden stores are testdata/golden/pebble-N.tar and redis-N.txt, one of each
// for every format version N that there was. Once released they are never written
// again: -update makes those of the current version if they are missing.
var update = flag.Bool("update", false, "write the golden stores of the current format, unless they are there")

const century = 100 * 365 * 24 * time.Hour

// goldenRecords are the records of a golden store: name, value, lifetime.
var goldenRecords = []struct {
	key   kv.Key
	value string
	ttl   time.Duration
}{
	{kv.Key{Group: "g", Name: "plain"}, "value", 0},
	{kv.Key{Group: "g", Name: "empty"}, "", 0},
	{kv.Key{Group: "g", Name: "lives long"}, "value", century},
	{kv.Key{Group: "{\x00}\xff", Name: "{n}\x00\xff"}, "\x00\x01\xff", 0},
	{kv.Key{Group: strings.Repeat("G", kv.MaxKey), Name: strings.Repeat("N", kv.MaxKey)}, strings.Repeat("v", 3000), 0},
	{kv.Key{Group: "only long", Name: "n"}, "value", century},
}

// goldenEntry is entry n of the golden queue "busy".
func goldenEntry(n int) string { return fmt.Sprint("entry ", n, strings.Repeat(".", n)) }

func writeGolden(t *testing.T, s *store.Stores) {
	t.Helper()
	ctx := t.Context()
	for _, r := range goldenRecords {
		_, err := s.KV.Apply(ctx, []kv.Op{{Key: r.key, Value: []byte(r.value), TTL: r.ttl}})
		mustDo(t, err)
	}
	_, err := kv.Acquire(ctx, s.KV, kv.Key{Group: "lease", Name: "l"}, "me", time.Unix(1_700_000_000, 0), century)
	mustDo(t, err)
	add := func(id queue.ID, data, dedup string) error {
		_, err := queue.AppendOne(ctx, s.Queue, queue.Append{Queue: id, Entry: []byte(data), Dedup: []byte(dedup)})
		return err
	}
	for _, id := range []queue.ID{"busy", "drained", "\x00\xff{}"} {
		mustDo(t, s.Queue.Create(ctx, id, queue.Limits{MaxEntries: 38, MaxAge: century}))
	}
	for n := 1; n <= 40; n++ { // more dedup keys than a state in Redis holds
		mustDo(t, add("busy", goldenEntry(n), fmt.Sprintf("dedup key %06d", n)))
		if n == 3 {
			mustDo(t, s.Queue.Ack(ctx, "busy", 2))
		}
	}
	if err := add("busy", "one too many", ""); !errors.Is(err, queue.ErrFull) {
		t.Fatal(err)
	}
	mustDo(t, add("drained", "x", "d"))
	mustDo(t, s.Queue.Ack(ctx, "drained", 1))
}

// finishGolden is the last of writeGolden: in an embedded store it stays in the log,
// with the rest in a table.
func finishGolden(t *testing.T, s *store.Stores) {
	t.Helper()
	_, err := queue.AppendOne(t.Context(), s.Queue, queue.Append{Queue: "\x00\xff{}", Entry: []byte("binary")})
	mustDo(t, err)
}

// checkGolden asserts that everything is there, and that it can be used.
func checkGolden(t *testing.T, s *store.Stores) {
	t.Helper()
	ctx := t.Context()
	for _, w := range goldenRecords {
		r, err := s.KV.Get(ctx, w.key)
		if err != nil || string(r.Value) != w.value {
			t.Errorf("record %q: %q, %v", w.key.Name, r.Value, err)
			continue
		}
		if v, err := kv.Put(ctx, s.KV, w.key, r.Version, []byte("new"), 0); err != nil || v == r.Version {
			t.Errorf("writing record %q: version %d after %d, %v", w.key.Name, v, r.Version, err)
		}
	}
	var names []string
	for r, err := range s.KV.Scan(ctx, "g", "") {
		mustDo(t, err)
		names = append(names, r.Key.Name)
	}
	if d := cmp.Diff([]string{"empty", "lives long", "plain"}, names); d != "" {
		t.Errorf("names of a group (-want +got):\n%s", d)
	}
	if l, err := kv.Acquire(ctx, s.KV, kv.Key{Group: "lease", Name: "l"}, "me", time.Unix(1_700_000_001, 0), century); err != nil || l.Fence != 1 {
		t.Errorf("lease: %+v, %v", l, err)
	}
	if _, err := kv.Acquire(ctx, s.KV, kv.Key{Group: "lease", Name: "l"}, "other", time.Unix(1_700_000_001, 0), time.Hour); !errors.Is(err, kv.ErrLeased) {
		t.Errorf("another's lease: %v", err)
	}

	bytes := 0
	for n := 3; n <= 40; n++ {
		bytes += len(goldenEntry(n))
	}
	for id, want := range map[queue.ID]queue.Stat{
		"busy":       {Entries: 38, Bytes: int64(bytes), Last: 40, Acked: 2, Dropped: 1},
		"drained":    {Last: 1, Acked: 1},
		"\x00\xff{}": {Entries: 1, Bytes: 6, Last: 1},
	} {
		st, err := s.Queue.Stat(ctx, id)
		mustDo(t, err)
		if d := cmp.Diff(want, st); d != "" {
			t.Errorf("queue %q (-want +got):\n%s", id, d)
		}
	}
	es, err := s.Queue.Read(ctx, "busy", 0, 100)
	mustDo(t, err)
	if len(es) != 38 {
		t.Errorf("%d entries", len(es))
	}
	for i, e := range es {
		if e.Seq != queue.Seq(i+3) || string(e.Data) != goldenEntry(i+3) {
			t.Errorf("entry %d is %q", e.Seq, e.Data)
		}
	}
	rep, err := s.Audit(ctx, nil, false)
	mustDo(t, err)
	if !rep.Sound() {
		t.Errorf("audit:\n%v", rep)
	}
	mustDo(t, s.Queue.Ack(ctx, "busy", 39))
	if r, err := queue.AppendOne(ctx, s.Queue, queue.Append{Queue: "busy", Entry: []byte("new")}); err != nil || r.Seq != 41 {
		t.Errorf("append = %+v, %v", r, err)
	}
	mustDo(t, s.Queue.Delete(ctx, "drained"))
	if rep, err := s.Audit(ctx, nil, false); err != nil || !rep.Sound() {
		t.Errorf("audit after use: %v, %v", rep, err)
	}
}

func golden(pattern string) string { return filepath.Join("testdata", "golden", pattern) }

func writeOnce(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		t.Logf("%s is there: it is not written again", path)
		return
	}
	mustDo(t, err)
	_, err = f.Write(b)
	mustDo(t, errors.Join(err, f.Close()))
}

// versions returns the golden files and asserts that every version has one.
func versions(t *testing.T, format string, current int) []string {
	t.Helper()
	var files []string
	for n := 1; n <= current; n++ {
		f := golden(fmt.Sprintf(format, n))
		if _, err := os.Stat(f); err != nil {
			t.Fatalf("format version %d has no golden store: go test -update writes that of the current version", n)
		}
		files = append(files, f)
	}
	return files
}

// TestGoldenPebble opens an embedded store of every format version there was.
func TestGoldenPebble(t *testing.T) {
	if *update {
		dir := t.TempDir()
		s := open(t, "pebble:"+dir, "hub")
		writeGolden(t, s)
		mustDo(t, s.Close())
		s = open(t, "pebble:"+dir, "hub")
		finishGolden(t, s)
		writeOnce(t, golden(fmt.Sprintf("pebble-%d.tar", pebbledb.Version)), pack(t, dir)) // as a crash would leave it
		mustDo(t, s.Close())
	}
	for _, f := range versions(t, "pebble-%d.tar", pebbledb.Version) {
		t.Run(filepath.Base(f), func(t *testing.T) {
			dir := t.TempDir()
			unpack(t, f, dir)
			checkGolden(t, open(t, "pebble:"+dir, "hub"))
		})
	}
}

// pack makes a tar of a directory with one level of directories.
func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	mustDo(t, w.AddFS(os.DirFS(dir)))
	mustDo(t, w.Close())
	return b.Bytes()
}

func unpack(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	mustDo(t, err)
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		mustDo(t, err)
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			mustDo(t, os.MkdirAll(to, 0o700))
			continue
		}
		mustDo(t, os.MkdirAll(filepath.Dir(to), 0o700))
		b, err := io.ReadAll(r)
		mustDo(t, err)
		mustDo(t, os.WriteFile(to, b, 0o600))
	}
}

// TestGoldenRedis does the same with the commands that make the keys of a server.
func TestGoldenRedis(t *testing.T) {
	if *update {
		server := redistest.Start(t, redistest.Options{})
		s := open(t, server.URL(), "hub")
		writeGolden(t, s)
		finishGolden(t, s)
		mustDo(t, s.Close())
		writeOnce(t, golden(fmt.Sprintf("redis-%d.txt", store.Version)), dump(t, server.Client()))
	}
	for _, f := range versions(t, "redis-%d.txt", store.Version) {
		t.Run(filepath.Base(f), func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{})
			loadKeys(t, server.Client(), f)
			checkGolden(t, open(t, server.URL(), "hub"))
		})
	}
}

// dump writes a server's keys as commands, arguments quoted as in Go.
func dump(t *testing.T, c *redis.Client) []byte {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var b bytes.Buffer
	line := func(args ...string) {
		for i, a := range args {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(strconv.Quote(a))
		}
		b.WriteByte('\n')
	}
	keys, err := c.Keys(ctx, "*").Result()
	mustDo(t, err)
	slices.Sort(keys)
	for _, k := range keys {
		switch kind := c.Type(ctx, k).Val(); kind {
		case "string":
			line("SET", k, c.Get(ctx, k).Val())
		case "list":
			line(append([]string{"RPUSH", k}, c.LRange(ctx, k, 0, -1).Val()...)...)
		case "zset":
			for _, m := range c.ZRange(ctx, k, 0, -1).Val() {
				line("ZADD", k, "0", m)
			}
		case "hash":
			for f, v := range c.HGetAll(ctx, k).Val() {
				line("HSET", k, f, v)
			}
		default:
			t.Fatalf("key of type %s", kind)
		}
		if ttl := c.PTTL(ctx, k).Val(); ttl > 0 {
			line("PEXPIRE", k, strconv.FormatInt(ttl.Milliseconds(), 10))
		}
	}
	return b.Bytes()
}

func loadKeys(t *testing.T, c *redis.Client, file string) {
	t.Helper()
	f, err := os.Open(file)
	mustDo(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var args []any
		for rest := lines.Text(); rest != ""; rest = strings.TrimPrefix(rest, " ") {
			q, err := strconv.QuotedPrefix(rest)
			mustDo(t, err)
			a, err := strconv.Unquote(q)
			mustDo(t, err)
			args = append(args, a)
			rest = rest[len(q):]
		}
		mustDo(t, c.Do(t.Context(), args...).Err())
	}
	mustDo(t, lines.Err())
}
