package kvtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// Limits: arguments outside the bounds are refused and change nothing.
func Limits(t *testing.T, open Open) {
	s := open(t)
	long := strings.Repeat("x", kv.MaxKey+1)
	ctx := t.Context()
	for _, k := range []kv.Key{key("", "n"), key("g", ""), key(long, "n"), key("g", long)} {
		if _, err := s.Get(ctx, k); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("Get(%d, %d bytes): %v, want ErrInvalid", len(k.Group), len(k.Name), err)
		}
		if _, err := s.GetMany(ctx, k.Group, []string{k.Name}); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("GetMany(%d, %d bytes): %v, want ErrInvalid", len(k.Group), len(k.Name), err)
		}
		if _, err := s.Apply(ctx, []kv.Op{{Key: k, Value: []byte("x")}}); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("Apply(%d, %d bytes): %v, want ErrInvalid", len(k.Group), len(k.Name), err)
		}
	}
	for _, k := range []kv.Key{key("", ""), key(long, ""), key("g", long)} {
		var last error
		for _, err := range s.Scan(ctx, k.Group, k.Name) {
			last = err
		}
		if !errors.Is(last, kv.ErrInvalid) {
			t.Errorf("Scan(%d, %d bytes): %v, want ErrInvalid", len(k.Group), len(k.Name), last)
		}
	}
	good := kv.Op{Key: key("g", "good"), Value: []byte("x")}
	for what, ops := range map[string][]kv.Op{
		"two groups":   {good, {Key: key("h", "n"), Value: []byte("x")}},
		"a key twice":  {good, good},
		"negative TTL": {good, {Key: key("g", "n"), Value: []byte("x"), TTL: -1}},
		"value size":   {good, {Key: key("g", "n"), Value: make([]byte, kv.MaxValue+1)}},
		"too many":     make([]kv.Op, kv.MaxOps+1),
	} {
		if _, err := s.Apply(ctx, ops); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("Apply with %s: %v, want ErrInvalid", what, err)
		}
	}
	absent(t, s, good.Key)
	if _, err := s.Apply(ctx, []kv.Op{{Key: good.Key, Value: make([]byte, kv.MaxValue)}}); err != nil {
		t.Errorf("the largest value: %v", err)
	}
}
