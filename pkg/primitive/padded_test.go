package primitive_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
)

func TestBuckets(t *testing.T) {
	for _, c := range []struct {
		n, want int
		ok      bool
	}{
		{-1, 0, false},
		{0, 512, true},
		{512, 512, true},
		{513, 1024, true},
		{1<<20 - 1, 1 << 20, true},
		{1 << 20, 1 << 20, true},
		{1<<20 + 1, 0, false},
	} {
		if got, ok := primitive.Bucket(c.n); got != c.want || ok != c.ok {
			t.Errorf("Bucket(%d) = %d, %v", c.n, got, ok)
		}
	}
	members := 0
	for n := range 1<<20 + 2 {
		if primitive.IsBucket(n) {
			members++
		}
	}
	if members != 12 {
		t.Errorf("B has %d members, want 12", members)
	}
}

func TestPadded(t *testing.T) {
	for _, n := range []int{0, 1, 62, 63, 64, 65, 200, 16383, 16384, 20000} {
		x := bytes.Repeat([]byte{7}, n)
		fit := n + primitive.PaddedOverhead(n)
		for _, size := range []int{fit, fit + 1, fit + 700} {
			b, ok := primitive.AppendPadded([]byte("h"), x, size)
			if !ok || len(b) != size+1 {
				t.Fatalf("%d in %d: %v, %d bytes", n, size, ok, len(b))
			}
			got, err := primitive.ParsePadded(b[1:])
			if err != nil || !bytes.Equal(got, x) || got == nil {
				t.Errorf("%d in %d: %v", n, size, err)
			}
		}
		if b, ok := primitive.AppendPadded([]byte("h"), x, fit-1); ok || string(b) != "h" {
			t.Errorf("%d fits in %d", n, fit-1)
		}
	}
	for name, b := range map[string][]byte{
		"empty":           nil,
		"length":          {5, 1, 2},
		"non-minimal":     {0x40, 1, 7, 0},
		"last byte":       {1, 7, 0, 0, 1},
		"first pad byte":  {1, 7, 1, 0, 0},
		"length overflow": {0xff, 0xff, 0xff, 0xff},
	} {
		if x, err := primitive.ParsePadded(b); !errors.Is(err, primitive.ErrMalformed) || x != nil {
			t.Errorf("%s: %x, %v", name, x, err)
		}
	}
}

func FuzzPaddedMalleability(f *testing.F) {
	f.Add([]byte{1, 7, 0, 0})
	f.Add([]byte{0})
	f.Add([]byte{0x40, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := primitive.ParsePadded(b)
		if err != nil {
			if x != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, ok := primitive.AppendPadded(nil, x, len(b)); !ok || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}
