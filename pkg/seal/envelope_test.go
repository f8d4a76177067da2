package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func TestEnvelopes(t *testing.T) {
	k := seal.NewDeliveryKey(primitive.NewSecret(), []byte("group"), 1, []byte("leaf"))
	ref := bytes.Repeat([]byte{7}, 32)
	// The largest event per bucket, and one byte more.
	for _, n := range []int{0, 1, 63, 64, 512 - 33 - 2, 512 - 33 - 1, 16384 - 33 - 2, 16384 - 33 - 1, 1<<20 - 33 - 4} {
		event := bytes.Repeat([]byte{0xee}, n)
		env, err := seal.SealEnvelope(k, event)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		want, _ := primitive.Bucket(33 + n + primitive.PaddedOverhead(n))
		if f, err := seal.EnvelopeForm(env); err != nil || f != seal.FormRatchet || len(env) != want || env[0] != 2 {
			t.Errorf("%d bytes: form %d, %v, envelope of %d", n, f, err, len(env))
		}
		if !k.Hints(env) {
			t.Errorf("%d bytes: no hint", n)
		}
		if got, err := seal.OpenEnvelope(k, env); err != nil || !bytes.Equal(got, event) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if env, err := seal.SealEnvelope(k, make([]byte, 1<<20-33-3)); !errors.Is(err, mmrerr.TooLarge) || env != nil {
		t.Errorf("too large: %v", err)
	}
	for _, kem := range kems {
		key, other := kemKey(t, kem), kemKey(t, kem)
		for _, n := range []int{0, 100, 5000} {
			env, err := seal.SealFirst(key.Public(), ref, make([]byte, n))
			if err != nil {
				t.Fatal(err)
			}
			if f, err := seal.EnvelopeForm(env); err != nil || f != seal.FormFirst || env[0] != 1 {
				t.Errorf("form %d, %v", f, err)
			}
			if got, err := seal.OpenFirst(key, ref, env); err != nil || len(got) != n {
				t.Errorf("%v, %d bytes: %d, %v", kem, n, len(got), err)
			}
			if got, err := seal.OpenFirst(other, ref, env); !errors.Is(err, primitive.ErrOpen) || got != nil {
				t.Errorf("other key: %v", err)
			}
			if got, err := seal.OpenFirst(key, ref[1:], env); !errors.Is(err, primitive.ErrOpen) || got != nil {
				t.Errorf("other reference: %v", err)
			}
			if got, err := seal.OpenEnvelope(k, env); !errors.Is(err, primitive.ErrOpen) || got != nil || k.Hints(env) {
				t.Errorf("form 1 as form 2: %v", err)
			}
		}
		if env, err := seal.SealFirst(key.Public(), ref, make([]byte, 1<<20-17-kem.EncSize()-3)); !errors.Is(err, mmrerr.TooLarge) || env != nil {
			t.Errorf("too large: %v", err)
		}
	}
}

func TestEnvelopeRefusals(t *testing.T) {
	k := seal.NewDeliveryKey(primitive.NewSecret(), []byte("group"), 1, []byte("leaf"))
	env, _ := seal.SealEnvelope(k, []byte("event"))
	for i := range env {
		bad := bytes.Clone(env)
		bad[i] ^= 4
		if got, err := seal.OpenEnvelope(k, bad); err == nil || got != nil {
			t.Fatalf("byte %d altered: %v", i, err)
		}
		if i >= 1 && i < 17 && k.Hints(bad) {
			t.Errorf("byte %d altered: still hints", i)
		}
	}
	for name, other := range map[string]seal.DeliveryKey{
		"next epoch": k.Next(),
		"stored":     seal.StoredDeliveryKey(1, primitive.NewSecret()),
	} {
		if other.Hints(env) {
			t.Errorf("%s hints", name)
		}
		if got, err := seal.OpenEnvelope(other, env); !errors.Is(err, primitive.ErrOpen) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if same := seal.StoredDeliveryKey(k.Epoch(), k.Secret()); !same.Hints(env) {
		t.Error("stored key does not hint")
	}
	d := primitive.NewSecret()
	base := seal.NewDeliveryKey(d, []byte("group"), 1, []byte("leaf")).Secret()
	for name, k := range map[string]seal.DeliveryKey{
		"group": seal.NewDeliveryKey(d, []byte("other"), 1, []byte("leaf")),
		"epoch": seal.NewDeliveryKey(d, []byte("group"), 2, []byte("leaf")),
		"leaf":  seal.NewDeliveryKey(d, []byte("group"), 1, []byte("feal")),
	} {
		if k.Secret().Equal(base) {
			t.Errorf("K does not depend on the %s", name)
		}
	}
	for name, c := range map[string]struct {
		env  []byte
		want mmrerr.Code
	}{
		"empty":        {nil, mmrerr.PaddingBucket},
		"no bucket":    {env[:511], mmrerr.PaddingBucket},
		"too large":    {make([]byte, 1<<21), mmrerr.TooLarge},
		"form 0":       {make([]byte, 512), mmrerr.Malformed},
		"unknown form": {append([]byte{3}, env[1:]...), mmrerr.Malformed},
	} {
		if f, err := seal.EnvelopeForm(c.env); !errors.Is(err, c.want) || f != 0 {
			t.Errorf("%s: %d, %v", name, f, err)
		}
		if got, err := seal.OpenEnvelope(k, c.env); !errors.Is(err, c.want) || got != nil || k.Hints(c.env) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := seal.OpenFirst(kemKey(t, primitive.XWing), nil, c.env); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An envelope of form 1 that is too short for the key's KEM.
	short, _ := seal.SealFirst(kemKey(t, primitive.X25519).Public(), nil, nil)
	if got, err := seal.OpenFirst(kemKey(t, primitive.XWing), nil, short); !errors.Is(err, primitive.ErrOpen) || got != nil {
		t.Errorf("short for X-Wing: %v", err)
	}
	// Sealed correctly, padded wrongly.
	nonce := primitive.NewNonce()
	hint := primitive.HMAC(primitive.DeriveSecret(k.Secret(), "mmr delivery hint", nil).Bytes(), nonce[:])
	head := append(append([]byte{2}, nonce[:]...), hint[:4]...)
	padded := make([]byte, 512-33)
	padded[len(padded)-1] = 1
	bad := primitive.AppendAES128(head, k.EnvelopeKey(), nonce, head, padded)
	if got, err := seal.OpenEnvelope(k, bad); !errors.Is(err, mmrerr.Malformed) || got != nil {
		t.Errorf("non-zero padding: %v", err)
	}
}

func TestMessageLengths(t *testing.T) {
	for n, want := range map[int]int{0: 272, 272: 272, 273: 528, 528: 528, 529: 1040, 262144 + 16: 262144 + 16} {
		if got := seal.MessageLength(n); got != want {
			t.Errorf("MessageLength(%d) = %d", n, got)
		}
	}
	valid := 0
	for n := range 1 << 15 {
		if seal.IsMessageLength(n) {
			valid++
		}
	}
	if valid != 7 { // 256·2^k + 16 for k = 0..6
		t.Errorf("%d lengths", valid)
	}
	if seal.IsMessageLength(-1) || seal.IsMessageLength(16) {
		t.Error("empty message")
	}
}
