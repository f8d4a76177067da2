package kvtest

import (
	"errors"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// TTL: a record is there until its time, and not afterwards, for no method.
func TTL(t *testing.T, open Open) {
	s := open(t)
	short, long := 1500*time.Millisecond, time.Hour
	v := set(t, s, key("g", "short"), "s", short)
	set(t, s, key("g", "long"), "l", long)
	set(t, s, key("g", "ever"), "e", 0)
	set(t, s, key("g", "made short"), "", 0)
	set(t, s, key("g", "made short"), "", short)
	set(t, s, key("only", "short"), "", short)
	set(t, s, key("g", "made ever"), "", short)
	set(t, s, key("g", "made ever"), "", 0)
	set(t, s, key("g", "deleted"), "", short)
	if err := kv.Delete(t.Context(), s, key("g", "deleted")); err != nil {
		t.Fatal(err)
	}
	set(t, s, key("g", "deleted"), "again", long)
	set(t, s, key("g", "tiny"), "", time.Nanosecond)
	if _, ok := s.(Clock); ok { // real time may have passed already
		want(t, s, key("g", "short"), "s")
		equal(t, "groups", groups(t, s, "only"), map[string]bool{"only": true})
	}

	pass(s, short+time.Second)
	absent(t, s, key("g", "short"))
	absent(t, s, key("g", "made short"))
	absent(t, s, key("g", "tiny"))
	want(t, s, key("g", "long"), "l")
	want(t, s, key("g", "ever"), "e")
	want(t, s, key("g", "deleted"), "again")
	equal(t, "Scan", names(t, s, "g", ""), []string{"deleted", "ever", "long", "made ever"})
	equal(t, "Scan of a group that expired", names(t, s, "only", ""), []string{})
	equal(t, "groups", groups(t, s, ""), map[string]bool{"g": true})
	rs, err := s.GetMany(t.Context(), "g", []string{"short", "long"})
	if err != nil || rs[0].Version != 0 || rs[0].Value != nil || rs[1].Version == 0 {
		t.Errorf("GetMany = %v, %v", rs, err)
	}
	if _, err := kv.Put(t.Context(), s, key("g", "short"), v, nil, 0); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("Put over an expired version: %v, want ErrConflict", err)
	}
	if _, err := kv.Put(t.Context(), s, key("g", "short"), 0, []byte("new"), 0); err != nil {
		t.Errorf("Put where a record expired: %v", err)
	}
	want(t, s, key("g", "short"), "new")
}

// Once: one caller is first, until the claim expires.
func Once(t *testing.T, open Open) {
	s := open(t)
	k := key("tokens", "t")
	once := func(value string, ttl time.Duration) (bool, string) {
		t.Helper()
		first, earlier, err := kv.Once(t.Context(), s, k, []byte(value), ttl)
		if err != nil {
			t.Fatal(err)
		}
		return first, string(earlier)
	}
	if first, earlier := once("a", time.Hour); !first || earlier != "" {
		t.Errorf("first claim = %v, %q", first, earlier)
	}
	if first, earlier := once("b", time.Hour); first || earlier != "a" {
		t.Errorf("second claim = %v, %q", first, earlier)
	}
	if err := kv.Delete(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	if first, _ := once("c", 1100*time.Millisecond); !first {
		t.Error("claim after deletion is not the first")
	}
	pass(s, 2100*time.Millisecond)
	if first, _ := once("d", time.Hour); !first {
		t.Error("claim after expiry is not the first")
	}

	firsts := race(t, s, 16, func(s kv.Store, i int) bool {
		first, _, err := kv.Once(t.Context(), s, key("tokens", "raced"), []byte{byte(i)}, time.Hour)
		if err != nil {
			t.Error(err)
		}
		return first
	})
	equal(t, "firsts of 16 claims", firsts, 1)
}

// Lease: one holder at a time, with numbers that rise with every new holder.
func Lease(t *testing.T, open Open) {
	s := open(t)
	k := key("leases", "l")
	now := time.Unix(1_700_000_000, 0)
	acquire := func(owner string, at time.Time) (kv.Lease, error) {
		return kv.Acquire(t.Context(), s, k, owner, at, time.Minute)
	}
	a, err := acquire("a", now)
	if err != nil || a.Fence != 1 {
		t.Fatalf("first lease = %+v, %v", a, err)
	}
	if _, err := acquire("b", now.Add(59*time.Second)); !errors.Is(err, kv.ErrLeased) {
		t.Fatalf("a lease that is held: %v, want ErrLeased", err)
	}
	renewed, err := acquire("a", now.Add(30*time.Second))
	if err != nil || renewed.Fence != a.Fence || renewed.Version == a.Version {
		t.Fatalf("renewed lease = %+v, %v", renewed, err)
	}
	if _, err := acquire("b", now.Add(89*time.Second)); !errors.Is(err, kv.ErrLeased) {
		t.Fatalf("a renewed lease: %v, want ErrLeased", err)
	}
	b, err := acquire("b", now.Add(91*time.Second))
	if err != nil || b.Fence != 2 {
		t.Fatalf("lease after expiry = %+v, %v", b, err)
	}
	if err := kv.Release(t.Context(), s, k, renewed); err != nil {
		t.Fatalf("releasing a lost lease: %v", err)
	}
	if _, err := acquire("a", now.Add(92*time.Second)); !errors.Is(err, kv.ErrLeased) {
		t.Fatalf("releasing a lost lease freed it: %v", err)
	}
	if err := kv.Release(t.Context(), s, k, b); err != nil {
		t.Fatal(err)
	}
	c, err := acquire("c", now.Add(93*time.Second))
	if err != nil || c.Fence != 3 {
		t.Fatalf("lease after release = %+v, %v", c, err)
	}

	held := race(t, s, 16, func(s kv.Store, i int) bool {
		_, err := kv.Acquire(t.Context(), s, key("leases", "raced"), string(rune('a'+i)), now, time.Minute)
		if err != nil && !errors.Is(err, kv.ErrLeased) {
			t.Error(err)
		}
		return err == nil
	})
	equal(t, "holders of a raced lease", held, 1)

	clock, ok := s.(Clock)
	if !ok {
		return
	}
	// Of a holder that died the number is remembered for a day, and then nothing.
	clock.Advance(24 * time.Hour)
	if _, err := s.Get(t.Context(), k); err != nil {
		t.Errorf("a day after the last holder: %v", err)
	}
	clock.Advance(2 * time.Minute)
	absent(t, s, k)
}
