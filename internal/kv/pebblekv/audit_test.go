package pebblekv_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// TestAuditFinds damages one row in each way an audit can notice.
func TestAuditFinds(t *testing.T) {
	key := func(s string) []byte { return append(bytes.Clone(prefix), s...) }
	for name, x := range map[string]struct {
		key    []byte
		change func(v []byte) []byte // nil: delete
		fault  string
	}{
		"a record cut short":          {key("r\x01gn"), func(v []byte) []byte { return v[:15] }, "record: does not decode"},
		"a version of the future":     {key("r\x01gn"), func(v []byte) []byte { binary.BigEndian.PutUint64(v[8:], 1<<60); return v }, "record: version was never claimed"},
		"no version":                  {key("r\x01gn"), func(v []byte) []byte { binary.BigEndian.PutUint64(v[8:], 0); return v }, "record: version was never claimed"},
		"a key without a name":        {key("r\x02gn"), func([]byte) []byte { return make([]byte, 16) }, "record: does not decode"},
		"a lost expiry":               {nil, nil, "record: expires, and no sweep would find it"},
		"an expiry of no record":      {key("t\x00"), func([]byte) []byte { return []byte{} }, "expiry: does not decode"},
		"a row of a later version":    {key("z"), func([]byte) []byte { return []byte{} }, "row of no known kind"},
		"versions nobody has claimed": {key("v"), func(v []byte) []byte { return v[:7] }, "record: version was never claimed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			if _, err := kv.Put(t.Context(), s, kv.Key{Group: "g", Name: "n"}, 0, []byte("x"), time.Hour); err != nil {
				t.Fatal(err)
			}
			if r, err := s.Audit(t.Context(), false); err != nil || !r.Sound() {
				t.Fatalf("before: %v, %v", r, err)
			}
			if x.key == nil {
				it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key("t"), UpperBound: key("u")})
				if err != nil || !it.First() {
					t.Fatal("no expiry row", err)
				}
				x.key = bytes.Clone(it.Key())
				it.Close()
			}
			if x.change == nil {
				if err := s.db.Delete(x.key, pebble.Sync); err != nil {
					t.Fatal(err)
				}
			} else {
				var old []byte
				if v, closer, err := s.db.Get(x.key); err == nil {
					old = bytes.Clone(v)
					closer.Close()
				}
				if err := s.db.Set(x.key, x.change(old), pebble.Sync); err != nil {
					t.Fatal(err)
				}
			}
			r, err := s.Audit(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(map[string]int{x.fault: 1}, r.Faults); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}
