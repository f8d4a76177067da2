package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/queue/redisqueue"
	"github.com/mmrelay/mmrelay/pkg/queue/redisscript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a store on a server of its own with a clock that the test moves.
type store struct {
	*redisqueue.Store
	server *redistest.Server
	client redis.UniversalClient
	o      redisqueue.Options
	*queuetest.ManualClock
}

// Peer opens the server's queues with another connection.
func (s *store) Peer(tb testing.TB) queue.Store { return s.peer(tb) }

func (s *store) peer(tb testing.TB) *store {
	tb.Helper()
	return openClient(tb, s.server, s.server.Client(), s.o, s.ManualClock)
}

func (s *store) Reopen(tb testing.TB) queue.Store {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
	s.server.Kill()
	s.server.Restart()
	return s.peer(tb)
}

func open(tb testing.TB, so redistest.Options, o redisqueue.Options) *store {
	tb.Helper()
	server := redistest.Start(tb, so)
	return openClient(tb, server, server.Client(), o, queuetest.NewManualClock())
}

func openClient(tb testing.TB, server *redistest.Server, c redis.UniversalClient, o redisqueue.Options, k *queuetest.ManualClock) *store {
	tb.Helper()
	q, err := redisqueue.New(c, "p", o)
	if err != nil {
		tb.Fatal(err)
	}
	q.SetNow(k.Now)
	tb.Cleanup(func() { _ = q.Close() })
	return &store{Store: q, server: server, client: c, o: o, ManualClock: k}
}

func TestConformance(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		queuetest.Run(t, func(tb testing.TB) queue.Store {
			return open(tb, redistest.Options{AOF: true}, redisqueue.Options{})
		})
	})
}

// TestSweep asserts that nothing stays of entries and dedup keys of queues that
// nobody touches, and that a sweep is made once a day.
func TestSweep(t *testing.T) {
	s := open(t, redistest.Options{}, redisqueue.Options{})
	const queues = 1200 // more than a step looks at
	for i := range queues {
		id := queue.ID(fmt.Append(nil, i))
		if err := s.Create(t.Context(), id, queue.Limits{MaxAge: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		if _, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: id, Entry: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() int64 {
		n, err := s.client.DBSize(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sweep := func() {
		t.Helper()
		if err := s.SweepDaily(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if n := keys(); n != 2*queues+2 {
		t.Errorf("%d keys after a sweep of fresh queues, want %d and two marks", n, 2*queues)
	}
	s.Advance(48 * time.Hour)
	sweep() // the mark of the sweep before is still there
	if n := keys(); n != 2*queues+2 {
		t.Errorf("%d keys: a process swept while another may", n)
	}
	if err := s.client.Del(t.Context(), "psweeping").Err(); err != nil { // as after half an hour
		t.Fatal(err)
	}
	sweep()
	if n := keys(); n != queues+2 {
		t.Errorf("%d keys after all expired, want the %d states and two marks", n, queues)
	}
}

// TestLostList asserts that a queue whose list somebody deleted goes on with
// rising numbers.
func TestLostList(t *testing.T) {
	s := open(t, redistest.Options{}, redisqueue.Options{})
	if err := s.Create(t.Context(), "q", queue.Limits{MaxEntries: 3}); err != nil {
		t.Fatal(err)
	}
	add := func() queue.Seq {
		t.Helper()
		r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("12345")})
		if err != nil {
			t.Fatal(err)
		}
		return r.Seq
	}
	lose := func() {
		t.Helper()
		if n, err := s.client.Del(t.Context(), "p{cQ}e").Result(); n != 1 || err != nil {
			t.Fatalf("Del = %d, %v", n, err)
		}
	}
	for range 3 {
		add()
	}
	lose()
	if n := add(); n != 4 { // also where the queue was full
		t.Errorf("number %d, want 4", n)
	}
	want := queue.Stat{Entries: 1, Bytes: 5, Last: 4, Acked: 3}
	if st, err := s.Stat(t.Context(), "q"); err != nil || st != want {
		t.Errorf("Stat = %+v, %v, want %+v", st, err, want)
	}
	add()
	lose()
	if es, err := s.Read(t.Context(), "q", 0, 10); err != nil || len(es) != 0 {
		t.Errorf("Read = %v, %v", es, err)
	}
	if err := s.Ack(t.Context(), "q", 4); err != nil {
		t.Error(err)
	}
	want = queue.Stat{Last: 5, Acked: 5}
	if st, err := s.Stat(t.Context(), "q"); err != nil || st != want {
		t.Errorf("Stat = %+v, %v, want %+v", st, err, want)
	}
	if n := add(); n != 6 {
		t.Errorf("number %d, want 6", n)
	}
	if es, err := s.Read(t.Context(), "q", 0, 10); err != nil || len(es) != 1 || es[0].Seq != 6 {
		t.Errorf("Read = %v, %v", es, err)
	}
}

// TestNewerFormat asserts that a state this program does not know is refused.
func TestNewerFormat(t *testing.T) {
	s := open(t, redistest.Options{}, redisqueue.Options{})
	if err := s.client.Set(t.Context(), "p{cQ}s", "\x91\x02", 0).Err(); err != nil { // {2}
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "q"); !errors.Is(err, redisqueue.ErrFormat) {
		t.Errorf("Stat: %v, want ErrFormat", err)
	}
	if _, err := s.AppendBatch(t.Context(), []queue.Append{{Queue: "q", Entry: []byte("x")}}); !errors.Is(err, redisqueue.ErrFormat) {
		t.Errorf("AppendBatch: %v, want ErrFormat", err)
	}
}

// TestOneSubscriber asserts that many watchers share a connection, that they are
// woken after it broke, and that nothing is left when they end.
func TestOneSubscriber(t *testing.T) {
	s := open(t, redistest.Options{AOF: true}, redisqueue.Options{Poll: time.Hour})
	const watchers = 2000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	chans := make([]<-chan struct{}, watchers)
	var batch []queue.Append
	for i := range watchers {
		id := queue.ID(fmt.Append(nil, i))
		if err := s.Create(ctx, id, queue.Limits{}); err != nil {
			t.Fatal(err)
		}
		var err error
		if chans[i], err = s.Watch(ctx, id); err != nil {
			t.Fatal(err)
		}
		batch = append(batch, queue.Append{Queue: id, Entry: []byte("x")})
	}
	drain := func(what string) {
		t.Helper()
		for i, c := range chans {
			select {
			case <-c:
			case <-time.After(time.Minute):
				t.Fatalf("%s: watcher %d is not woken", what, i)
			}
		}
	}
	drain("subscribed") // each subscription wakes
	subscribers := func() (n int) {
		list, err := s.client.ClientList(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(list) {
			if strings.Contains(line, "flags=P") {
				n++
			}
		}
		return n
	}
	if n := subscribers(); n != 1 {
		t.Errorf("%d subscriber connections, want 1", n)
	}
	if _, err := s.AppendBatch(ctx, batch); err != nil {
		t.Fatal(err)
	}
	drain("appended")
	for i := range watchers {
		if err := s.Wake(ctx, queue.ID(fmt.Append(nil, i))); err != nil {
			t.Fatal(err)
		}
	}
	drain("woken")

	s.server.Kill()
	s.server.Restart()
	drain("reconnected") // what was stored while nobody listened is found
	if _, err := s.AppendBatch(ctx, batch); err != nil {
		t.Fatal(err)
	}
	drain("appended after a restart")
	cancel()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		n, err := s.client.PubSubShardChannels(t.Context(), "*").Result()
		if err == nil && len(n) == 0 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("%d channels after all watchers ended, %v", len(n), err)
		}
	}
}

// TestPoll asserts that watchers are woken without any message.
func TestPoll(t *testing.T) {
	s := open(t, redistest.Options{}, redisqueue.Options{Poll: 100 * time.Millisecond})
	c, err := s.Watch(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		select {
		case <-c:
		case <-time.After(time.Minute):
			t.Fatal("not woken")
		}
	}
}

// TestAtMostOnce asserts that an append whose answer is lost is not sent again
// by the client library: it would be stored twice.
func TestAtMostOnce(t *testing.T) {
	s := open(t, redistest.Options{}, redisqueue.Options{})
	if err := s.Create(t.Context(), "q", queue.Limits{}); err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: s.server.Socket(), ReadTimeout: 300 * time.Millisecond, MaxRetries: 5})
	defer c.Close()
	impatient := openClient(t, s.server, c, redisqueue.Options{}, s.ManualClock)
	// Makes the connection, and the server know the script.
	if _, err := impatient.AppendBatch(t.Context(), []queue.Append{{Queue: "missing", Entry: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	s.server.Pause() // it will run the script, but answer too late
	time.AfterFunc(time.Second, s.server.Resume)
	if r, err := impatient.AppendBatch(t.Context(), []queue.Append{{Queue: "q", Entry: []byte("x")}}); err == nil {
		t.Fatalf("AppendBatch with a lost answer: %v", r)
	}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		st, err := s.Stat(t.Context(), "q")
		if err == nil && st.Last == 1 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("Stat = %+v, %v", st, err)
		}
	}
	time.Sleep(500 * time.Millisecond) // a repetition would come now
	if st, err := s.Stat(t.Context(), "q"); err != nil || st.Last != 1 {
		t.Errorf("Stat = %+v, %v: the append was sent again", st, err)
	}
}

// TestWaitReplicas asserts that a write fails while no replica confirms it, a
// duplicate too, and succeeds with one.
func TestWaitReplicas(t *testing.T) {
	master := redistest.Start(t, redistest.Options{TCP: true})
	o := redisqueue.Options{WaitReplicas: 1, WaitTimeout: 300 * time.Millisecond}
	s := openClient(t, master, master.Client(), o, queuetest.NewManualClock())
	if err := s.Create(t.Context(), "q", queue.Limits{}); !errors.Is(err, redisscript.ErrReplicas) {
		t.Fatalf("Create without a replica: %v, want ErrReplicas", err)
	}
	replica := redistest.Start(t, redistest.Options{TCP: true, Args: append([]string{"--replicaof"}, strings.Split(master.Addr(), ":")...)})
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := s.Create(t.Context(), "r", queue.Limits{})
		if err == nil || errors.Is(err, queue.ErrExists) {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}
	a := []queue.Append{{Queue: "q", Entry: []byte("x"), Dedup: []byte("k")}}
	if _, err := s.AppendBatch(t.Context(), a); err != nil {
		t.Errorf("AppendBatch with a replica: %v", err)
	}
	replica.Pause()
	if _, err := s.AppendBatch(t.Context(), a); !errors.Is(err, redisscript.ErrReplicas) {
		t.Errorf("a duplicate while no replica confirms it: %v, want ErrReplicas", err)
	}
	if err := s.Ack(t.Context(), "q", 1); !errors.Is(err, redisscript.ErrReplicas) {
		t.Errorf("Ack while no replica confirms it: %v, want ErrReplicas", err)
	}
	replica.Resume()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		rs, err := s.AppendBatch(t.Context(), a)
		if err == nil && rs[0].Duplicate {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}
}

// BenchmarkAppend measures entries per second with one script per batch.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		for _, size := range []int{512, 4096} {
			b.Run(fmt.Sprintf("queues=%d/bytes=%d", n, size), func(b *testing.B) {
				s := open(b, redistest.Options{}, redisqueue.Options{})
				batch := make([]queue.Append, n)
				for i := range batch {
					batch[i] = queue.Append{Queue: queue.ID(random(16)), Entry: random(size), Dedup: random(16)}
					if err := s.Create(b.Context(), batch[i].Queue, queue.Limits{MaxEntries: 1 << 30, MaxBytes: 1 << 40}); err != nil {
						b.Fatal(err)
					}
				}
				round := 0
				for b.Loop() {
					round++
					for i := range batch {
						batch[i].Dedup = random(16)
						if round%100 == 0 { // as a listener does
							if err := s.Ack(b.Context(), batch[i].Queue, 1<<50); err != nil {
								b.Fatal(err)
							}
						}
					}
					if _, err := s.AppendBatch(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

// BenchmarkRawXADD is what Redis does at best with the same bytes: a pipeline of
// XADD, one per queue, with nothing of a queue's contract. BenchmarkAppend is to
// be compared with it in the same run.
func BenchmarkRawXADD(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		for _, size := range []int{512, 4096} {
			b.Run(fmt.Sprintf("queues=%d/bytes=%d", n, size), func(b *testing.B) {
				c := redistest.Start(b, redistest.Options{}).Client()
				entry := random(size)
				for b.Loop() {
					_, err := c.Pipelined(b.Context(), func(p redis.Pipeliner) error {
						for i := range n {
							p.XAdd(b.Context(), &redis.XAddArgs{Stream: fmt.Sprint("s", i), MaxLen: 1000, Approx: true, Values: []any{"e", entry}})
						}
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}
