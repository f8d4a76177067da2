package seal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

var kems = []primitive.KEM{primitive.X25519, primitive.XWing}

func kemKey(tb testing.TB, k primitive.KEM) *primitive.KEMPrivateKey {
	tb.Helper()
	key, err := primitive.GenerateKEMKey(k)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func testQueueConfig() seal.QueueConfig {
	return seal.QueueConfig{
		QueueID: [16]byte{1, 2}, Handle: [16]byte{3, 4}, NotAfterDay: seal.Day(time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)),
		Flags: 0x80, PushKey: [32]byte{5, 6},
	}
}

func TestSealedQueue(t *testing.T) {
	q := testQueueConfig()
	if q.NotAfterDay != 20513 {
		t.Errorf("day %d", q.NotAfterDay)
	}
	for _, k := range kems {
		key := kemKey(t, k)
		sealed, err := seal.SealQueue(key.Public(), "a.example", 3, q)
		if err != nil {
			t.Fatal(err)
		}
		got, err := seal.OpenQueue(key, "a.example", 3, sealed)
		if err != nil || got != q {
			t.Errorf("%v: opens %v, %v", k, got, err)
		}
		again, _ := seal.SealQueue(key.Public(), "a.example", 3, q)
		if bytes.Equal(again, sealed) {
			t.Error("two seals are equal")
		}
		// The provider's answer to everything that is wrong is the same.
		other := kemKey(t, k)
		pt, _ := q.AppendBinary(nil)
		pt[0] = 2
		version, _ := key.Public().SealWithLabel("MMR QueueConfig", append([]byte("\x09a.example"), 3), pt)
		pt[0], pt[95] = 1, 1
		zeros, _ := key.Public().SealWithLabel("MMR QueueConfig", append([]byte("\x09a.example"), 3), pt)
		for name, f := range map[string]func() (seal.QueueConfig, error){
			"domain": func() (seal.QueueConfig, error) { return seal.OpenQueue(key, "b.example", 3, sealed) },
			"key id": func() (seal.QueueConfig, error) { return seal.OpenQueue(key, "a.example", 4, sealed) },
			"key":    func() (seal.QueueConfig, error) { return seal.OpenQueue(other, "a.example", 3, sealed) },
			"empty":  func() (seal.QueueConfig, error) { return seal.OpenQueue(key, "a.example", 3, nil) },
			"cut":    func() (seal.QueueConfig, error) { return seal.OpenQueue(key, "a.example", 3, sealed[:len(sealed)-1]) },
			"longer": func() (seal.QueueConfig, error) {
				return seal.OpenQueue(key, "a.example", 3, append(bytes.Clone(sealed), 0))
			},
			"version": func() (seal.QueueConfig, error) { return seal.OpenQueue(key, "a.example", 3, version.Append(nil)) },
			"zeros":   func() (seal.QueueConfig, error) { return seal.OpenQueue(key, "a.example", 3, zeros.Append(nil)) },
		} {
			if got, err := f(); !errors.Is(err, primitive.ErrOpen) || got != (seal.QueueConfig{}) {
				t.Errorf("%v, wrong %s: %v", k, name, err)
			}
		}
	}
}

func TestDelivery(t *testing.T) {
	for _, qk := range kems {
		for _, dk := range kems {
			queueKey, deliveryKey := kemKey(t, qk), kemKey(t, dk)
			d, err := seal.NewDelivery(queueKey.Public(), "a.example", 3, testQueueConfig(), deliveryKey.Public())
			if err != nil {
				t.Fatal(err)
			}
			b, _ := d.AppendBinary(nil)
			got, err := seal.ParseDelivery(b)
			if err != nil || !cmp.Equal(got, d, cmp.Comparer(func(a, b primitive.KEMPublicKey) bool { return a == b })) {
				t.Errorf("round trip: %v", err)
			}
			q, err := seal.OpenQueue(queueKey, got.ProviderDomain, got.KeyID, got.SealedBytes())
			if err != nil || q != testQueueConfig() {
				t.Errorf("opens %v, %v", q, err)
			}
			for n := range len(b) {
				if d, err := seal.ParseDelivery(b[:n]); !errors.Is(err, mmrerr.QueueMissing) || d.ProviderDomain != "" {
					t.Fatalf("%d bytes: %v", n, err)
				}
			}
		}
	}
	key := kemKey(t, primitive.X25519)
	good, _ := seal.NewDelivery(key.Public(), "a.example", 3, testQueueConfig(), key.Public())
	for name, change := range map[string]func(d *seal.Delivery){
		"domain":       func(d *seal.Delivery) { d.ProviderDomain = "A.example" },
		"empty domain": func(d *seal.Delivery) { d.ProviderDomain = "" },
		"ciphertext":   func(d *seal.Delivery) { d.Sealed.Ciphertext = d.Sealed.Ciphertext[1:] },
		"enc":          func(d *seal.Delivery) { d.Sealed.KEMOutput = d.Sealed.KEMOutput[1:] },
		"key":          func(d *seal.Delivery) { d.Key = primitive.KEMPublicKey{} },
	} {
		d := good
		change(&d)
		b, _ := d.AppendBinary(nil)
		if _, err := seal.ParseDelivery(b); !errors.Is(err, mmrerr.QueueMissing) {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	if _, err := seal.NewDelivery(key.Public(), "localhost", 3, testQueueConfig(), key.Public()); !errors.Is(err, mmrerr.QueueMissing) {
		t.Errorf("domain without dot: %v", err)
	}
}

func TestDomains(t *testing.T) {
	long := strings.Repeat("a.", 126) + "b" // 253 bytes
	for s, want := range map[string]bool{
		"a.example": true, "xn--bcher-kva.example": true, "1.2": true, "a-b.c": true, long: true,
		"": false, "a": false, "a.": false, ".a": false, "a..b": false, "A.example": false, "a.example:1": false, "bü.example": false,
		"-a.example": false, "a-.example": false, "a_b.example": false, "a.example/": false, "a b.example": false, "a.ex\x00": false,
		long + "c": false, strings.Repeat("a", 64) + ".b": false,
	} {
		if got := seal.ValidDomain(s); got != want {
			t.Errorf("ValidDomain(%q) = %v", s, got)
		}
	}
	for s, want := range map[string]bool{
		seal.HubAudience("a.example"): true, seal.ProviderAudience("a.example"): true, seal.RelayAudience("a.example"): true,
		seal.QueueAudience("a.example"): true, "hub:": false, "hub": false, "a.example": false, "HUB:a.example": false, "hub:a.example:1": false,
	} {
		if got := seal.ValidAudience(s); got != want {
			t.Errorf("ValidAudience(%q) = %v", s, got)
		}
	}
}

func FuzzDeliveryMalleability(f *testing.F) {
	for _, k := range kems {
		key := kemKey(f, k)
		d, err := seal.NewDelivery(key.Public(), "a.example", 3, testQueueConfig(), key.Public())
		if err != nil {
			f.Fatal(err)
		}
		b, _ := d.AppendBinary(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := seal.ParseDelivery(b)
		if err != nil {
			if !cmp.Equal(d, seal.Delivery{}, cmp.Comparer(func(a, b primitive.KEMPublicKey) bool { return a == b })) {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := d.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}

func FuzzQueueConfigMalleability(f *testing.F) {
	b, _ := testQueueConfig().AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := seal.ParseQueueConfig(b)
		if err != nil {
			if q != (seal.QueueConfig{}) {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := q.AppendBinary(nil); !bytes.Equal(again, b) || len(b) != seal.QueueConfigSize {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}
