package seal_test

import (
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestLookup: what is under a key or one of the later ones is found, and nothing
// else (SPEC.md R-75).
func TestLookup(t *testing.T) {
	t.Parallel()
	const later = 32
	k := seal.StoredDeliveryKey(7, primitive.NewSecret())
	l := seal.NewLookup(k, later)
	defer l.Wipe()
	if !l.Begins(k) || l.Begins(k.Next()) || l.Begins(seal.StoredDeliveryKey(7, primitive.NewSecret())) || l.Begins(seal.StoredDeliveryKey(8, k.Secret())) {
		t.Error("it begins elsewhere")
	}
	seals := func(k seal.DeliveryKey) []byte {
		env, err := seal.SealEnvelope(k, []byte("an event"))
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	at := k
	for i := range later + 2 {
		event, ok := l.Open(seals(at))
		if want := i <= later; ok != want || ok && string(event) != "an event" {
			t.Errorf("under the key %d later: found %v", i, ok)
		}
		at = at.Next()
	}
	stranger := seals(seal.StoredDeliveryKey(7, primitive.NewSecret()))
	if _, ok := l.Open(stranger); ok {
		t.Error("opened under another key")
	}
	broken := seals(k)
	broken[len(broken)-1] ^= 1
	for _, env := range [][]byte{broken, broken[:100], nil, append([]byte{byte(seal.FormFirst)}, stranger[1:]...)} {
		if _, ok := l.Open(env); ok {
			t.Error("opened what is not sealed")
		}
	}
}
