package pseudonym_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
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

func parseID(tb testing.TB, uri string) pseudonym.ID {
	tb.Helper()
	id, err := pseudonym.ParseID(uri)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func equal(t *testing.T, name string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s = %x, want %x", name, got, want)
	}
}

// TestSpecVectors checks SPEC.md §22, vectors 1, 2, 5, 7 and 9, byte for byte.
func TestSpecVectors(t *testing.T) {
	var v struct {
		GroupID hexBytes `json:"group_id"`
		Nonce   hexBytes
		Link    struct {
			Client         string   `json:"client_pseudonym"`
			User           string   `json:"user_pseudonym"`
			Key            hexBytes `json:"signature_public_key"`
			Signature      hexBytes `json:"tbe_signature"`
			Basic          string   `json:"tbe_basic_identity"`
			ConnectionKey  hexBytes `json:"connection_key"`
			TBSHash        hexBytes `json:"tbs_hash"`
			TBSSize        int      `json:"tbs_size"`
			LinkKey        hexBytes `json:"link_key"`
			AEADKey        hexBytes `json:"aead_key"`
			Commitment     hexBytes
			CiphertextSize int      `json:"ciphertext_size"`
			CiphertextHash hexBytes `json:"ciphertext_hash"`
		}
		Static struct {
			WrapperKey hexBytes `json:"wrapper_key"`
			WrapKey    hexBytes `json:"wrap_key"`
			Entry      hexBytes
		}
		Pseudonyms struct {
			Seed  hexBytes
			UUIDs []string
		}
		Join struct {
			Seed, Code hexBytes
			CodeHash   hexBytes `json:"code_hash"`
			KeySeed    hexBytes `json:"key_seed"`
		}
		Pool struct {
			Token hexBytes `json:"connection_token"`
			ID    hexBytes `json:"pool_id"`
		}
	}
	loadVectors(t, "spec.json", &v)
	nonce := primitive.Nonce(v.Nonce)

	l := v.Link
	tbs := pseudonym.TBS{Client: parseID(t, l.Client), User: parseID(t, l.User), Key: l.Key}
	hash := tbs.Hash()
	equal(t, "H(TBS)", hash[:], l.TBSHash)
	if n := len(tbs.Bytes()); n != l.TBSSize {
		t.Errorf("TBS of %d bytes", n)
	}
	linkKey := pseudonym.DeriveLinkKey(secret(t, l.ConnectionKey), tbs)
	equal(t, "link key", linkKey.Bytes(), l.LinkKey)
	equal(t, "AEAD key", primitive.DeriveKey128(linkKey, "mmr link key", nil).Bytes(), l.AEADKey)
	tbe := codec.AppendVector(nil, l.Signature)
	tbe = binary.BigEndian.AppendUint16(tbe, pseudonym.CredentialBasic)
	tbe = codec.AppendVector(tbe, l.Basic)
	ct, err := pseudonym.SealLinkAt(tbs, linkKey, nonce, tbe)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "commitment", ct[:32], l.Commitment)
	h := primitive.Hash(ct)
	equal(t, "H(identity_link_ciphertext)", h[:], l.CiphertextHash)
	if len(ct) != l.CiphertextSize {
		t.Errorf("ciphertext of %d bytes", len(ct))
	}
	opened, err := pseudonym.Credential{TBS: tbs, Ciphertext: ct}.OpenTBE(linkKey)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "TBE", opened, tbe)

	wrapper := secret(t, v.Static.WrapperKey)
	equal(t, "static wrap key", pseudonym.StaticKey(wrapper, v.GroupID).Bytes(), v.Static.WrapKey)
	equal(t, "entry", pseudonym.WrapStaticAt(wrapper, v.GroupID, hash, linkKey, nonce), v.Static.Entry)
	got, err := pseudonym.UnwrapStatic(wrapper, v.GroupID, hash, v.Static.Entry)
	if err != nil || !got.Equal(linkKey) {
		t.Errorf("entry opens to another key, %v", err)
	}

	for j, want := range v.Pseudonyms.UUIDs {
		id, err := pseudonym.UserPseudonym(secret(t, v.Pseudonyms.Seed), "a.example", uint64(j))
		if err != nil || id.String() != "mimi://a.example/u/"+want {
			t.Errorf("user_pseudonym(%d) = %v, %v", j, id, err)
		}
	}

	seed := secret(t, v.Join.Seed)
	code := pseudonym.JoinCode(seed, v.GroupID)
	equal(t, "code", code.Bytes(), v.Join.Code)
	codeHash := pseudonym.CodeHash(code)
	equal(t, "code_hash", codeHash[:], v.Join.CodeHash)
	want := primitive.DeriveX25519Key(secret(t, v.Join.KeySeed))
	if pseudonym.JoinKey(seed, v.GroupID).Public() != want.Public() {
		t.Error("link key pair differs")
	}

	poolID := pseudonym.PoolID(secret(t, v.Pool.Token))
	equal(t, "pool id", poolID[:], v.Pool.ID)
}
