package seal_test

import (
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// What a hub does per recipient.
func BenchmarkSealEnvelope(b *testing.B) {
	k := seal.NewDeliveryKey(primitive.NewSecret(), make([]byte, 32), 1, make([]byte, 32))
	event := make([]byte, 900)
	b.SetBytes(1024)
	for b.Loop() {
		if _, err := seal.SealEnvelope(k, event); err != nil {
			b.Fatal(err)
		}
	}
}

// What a client does per envelope and room that is not the envelope's.
func BenchmarkHints(b *testing.B) {
	k := seal.NewDeliveryKey(primitive.NewSecret(), make([]byte, 32), 1, make([]byte, 32))
	env, err := seal.SealEnvelope(k.Next(), make([]byte, 900))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if k.Hints(env) {
			b.Fatal("hints")
		}
	}
}

// What a relay does per address that is not in its cache.
func BenchmarkOpenQueue(b *testing.B) {
	for _, k := range kems {
		b.Run(k.String(), func(b *testing.B) {
			key := kemKey(b, k)
			sealed, err := seal.SealQueue(key.Public(), "a.example", 1, testQueueConfig())
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := seal.OpenQueue(key, "a.example", 1, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a gateway does per request: decapsulate, parse, seal an answer.
func BenchmarkGateway(b *testing.B) {
	for _, k := range kems {
		b.Run(k.String(), func(b *testing.B) {
			key := kemKey(b, k)
			request, err := testRequest().AppendBinary(nil)
			if err != nil {
				b.Fatal(err)
			}
			enc, _, err := seal.Encapsulate(seal.KeyConfig{ID: 1, Key: key.Public()}, request)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				e, err := seal.ParseEncapsulated(enc)
				if err != nil {
					b.Fatal(err)
				}
				pt, to, err := e.Open(seal.GatewayKey{ID: 1, Key: key})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := seal.ParseRequest(pt); err != nil {
					b.Fatal(err)
				}
				if _, err := to.Seal(nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
