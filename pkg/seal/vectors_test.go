package seal_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// hexBytes is a byte string that JSON files hold in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

func loadVectors(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile("testdata/vectors/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatal(err)
	}
}

func secret(tb testing.TB, b []byte) primitive.Secret {
	tb.Helper()
	s, err := primitive.ParseSecret(b)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func equal(t *testing.T, name string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s = %x, want %x", name, got, want)
	}
}

// TestSpecVectors checks SPEC.md §22, vectors 4, 6 and 8, byte for byte.
func TestSpecVectors(t *testing.T) {
	var v struct {
		Delivery struct {
			GroupID     hexBytes `json:"group_id"`
			LeafKey     hexBytes `json:"leaf_key"`
			EnvelopeKey hexBytes `json:"envelope_key"`
			HintKey     hexBytes `json:"hint_key"`
			Hash        hexBytes `json:"envelope_hash"`
			Epoch       uint64

			Nonce, Secret, K5, K6, Hint, Event hexBytes
		}
		EAR struct {
			GroupID hexBytes `json:"group_id"`
			Key     hexBytes `json:"ear_key"`
			ID      hexBytes `json:"ear_id"`
			BlobKey hexBytes `json:"blob_key"`
			Name    string
			Version uint64
		}
		Chain struct {
			GroupID hexBytes `json:"group_id"`
			Chain0  hexBytes `json:"chain_0"`
			Chain1  hexBytes `json:"chain_1"`
			Core    hexBytes
		}
	}
	loadVectors(t, "spec.json", &v)

	d := v.Delivery
	k5 := seal.NewDeliveryKey(secret(t, d.Secret), d.GroupID, d.Epoch, d.LeafKey)
	equal(t, "K_5", k5.Secret().Bytes(), d.K5)
	equal(t, "envelope key", k5.EnvelopeKey().Bytes(), d.EnvelopeKey)
	equal(t, "hint key", primitive.DeriveSecret(k5.Secret(), "mmr delivery hint", nil).Bytes(), d.HintKey)
	k6 := k5.Next()
	equal(t, "K_6", k6.Secret().Bytes(), d.K6)
	if k6.Epoch() != 6 {
		t.Errorf("epoch %d", k6.Epoch())
	}
	env, err := seal.SealEnvelopeAt(k5, primitive.Nonce(d.Nonce), d.Event)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "hint", env[13:17], d.Hint)
	h := primitive.Hash(env)
	equal(t, "H(envelope)", h[:], d.Hash)
	if len(env) != 512 {
		t.Errorf("envelope of %d bytes", len(env))
	}
	event, err := seal.OpenEnvelope(k5, env)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "event", event, d.Event)

	ear := seal.NewEARKey(secret(t, v.EAR.Key), v.EAR.GroupID)
	id := ear.ID()
	equal(t, "ear_id", id[:], v.EAR.ID)
	equal(t, "blob key", ear.BlobKey(v.EAR.Name, v.EAR.Version).Bytes(), v.EAR.BlobKey)

	c0 := seal.ChainStart(v.Chain.GroupID)
	equal(t, "chain_0", c0[:], v.Chain.Chain0)
	c1 := seal.ChainNext(c0, 1, v.Chain.Core)
	equal(t, "chain_1", c1[:], v.Chain.Chain1)
}

// TestRFC9458Vectors runs the encapsulation with RFC 9458's labels over its
// Appendix A: the layout is OHTTP's.
func TestRFC9458Vectors(t *testing.T) {
	var v struct {
		Key           hexBytes
		KeyID         uint8    `json:"key_id"`
		EncRequest    hexBytes `json:"encapsulated_request"`
		Exported      hexBytes `json:"exported_secret"`
		ResponseNonce hexBytes `json:"response_nonce"`
		AEADKey       hexBytes `json:"aead_key"`
		AEADNonce     hexBytes `json:"aead_nonce"`
		EncResponse   hexBytes `json:"encapsulated_response"`

		Request, Response hexBytes
	}
	loadVectors(t, "rfc9458.json", &v)
	sk, err := primitive.ParseKEMKey(primitive.X25519, secret(t, v.Key))
	if err != nil {
		t.Fatal(err)
	}
	key := seal.GatewayKey{ID: v.KeyID, Key: sk}
	pt, to, err := seal.OpenOHTTP(v.EncRequest, key)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "request", pt, v.Request)
	equal(t, "exported secret", to.Secret().Bytes(), v.Exported)
	k, n := to.Keys(v.ResponseNonce)
	equal(t, "response key", k.Bytes(), v.AEADKey)
	equal(t, "response nonce", n[:], v.AEADNonce)
	equal(t, "encapsulated response", to.SealAt([16]byte(v.ResponseNonce), v.Response), v.EncResponse)

	// Our own client side against the side that the vectors vouch for.
	enc, from, err := seal.SealOHTTP(v.KeyID, sk.Public(), v.Request)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "hdr", enc[:7], v.EncRequest[:7])
	pt, to, err = seal.OpenOHTTP(enc, key)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "own request", pt, v.Request)
	pt, err = from.OpenRaw(to.SealAt([16]byte(v.ResponseNonce), v.Response))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "own response", pt, v.Response)
}
