package codec_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

func TestLengthHeaders(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 16383, 16384, 1 << 20} {
		b := codec.AppendVector(nil, make([]byte, n))
		r := codec.NewReader(b)
		if v := r.Vector(codec.MaxVector); len(v) != n || r.Done() != nil {
			t.Errorf("vector of %d bytes: read %d, err %v", n, len(v), r.Err())
		}
		if got := codec.AppendVectorFunc(nil, func(b []byte) []byte { return append(b, make([]byte, n)...) }); !bytes.Equal(got, b) {
			t.Errorf("AppendVectorFunc of %d bytes differs from AppendVector", n)
		}
	}
	if n := testing.AllocsPerRun(10, func() {
		r := codec.NewReader([]byte{0xbf, 0xff, 0xff, 0xff})
		r.Vector(codec.MaxVector)
	}); n > 1 {
		t.Errorf("a length bomb allocates %v times", n)
	}
}

func TestStrict(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":            {},
		"two for one":      {0x40, 0x01, 0xaa},
		"four for two":     {0x80, 0x00, 0x00, 0x40},
		"prefix 11":        {0xc0, 0, 0, 0, 0, 0, 0, 0},
		"short header":     {0x40},
		"missing contents": {0x02, 0xaa},
	} {
		r := codec.NewReader(b)
		if v := r.Vector(codec.MaxVector); v != nil || !errors.Is(r.Err(), codec.ErrMalformed) {
			t.Errorf("%s: got %x, %v", name, v, r.Err())
		}
	}
	r := codec.NewReader([]byte{2, 1, 1})
	if v := r.Vector(1); v != nil || !errors.Is(r.Err(), codec.ErrLimit) {
		t.Errorf("over the limit: got %x, %v", v, r.Err())
	}
	if r := codec.NewReader([]byte{2}); r.Optional() || r.Err() == nil {
		t.Error("presence byte 2 accepted")
	}
	if r := codec.NewReader([]byte{1}); r.Done() == nil {
		t.Error("trailing byte accepted")
	}
}

func FuzzVectorMalleability(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0x40, 0x40})
	f.Add([]byte{0x80, 0, 0x40, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		v := r.Vector(codec.MaxVector)
		if r.Done() != nil {
			return
		}
		if got := codec.AppendVector(nil, v); !bytes.Equal(got, b) {
			t.Fatalf("%x re-encodes to %x", b, got)
		}
	})
}
