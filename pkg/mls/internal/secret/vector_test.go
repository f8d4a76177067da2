package secret_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

var limits = secret.Limits{Jump: 1024, Skipped: 64, Total: 4096}

type keySchedule struct {
	CipherSuite suite.ID    `json:"cipher_suite"`
	GroupID     mlstest.Hex `json:"group_id"`
	Init        mlstest.Hex `json:"initial_init_secret"`
	Epochs      []struct {
		TreeHash      mlstest.Hex `json:"tree_hash"`
		Commit        mlstest.Hex `json:"commit_secret"`
		PSK           mlstest.Hex `json:"psk_secret"`
		Transcript    mlstest.Hex `json:"confirmed_transcript_hash"`
		GroupContext  mlstest.Hex `json:"group_context"`
		Joiner        mlstest.Hex `json:"joiner_secret"`
		Welcome       mlstest.Hex `json:"welcome_secret"`
		Init          mlstest.Hex `json:"init_secret"`
		SenderData    mlstest.Hex `json:"sender_data_secret"`
		Encryption    mlstest.Hex `json:"encryption_secret"`
		Exporter      mlstest.Hex `json:"exporter_secret"`
		Authenticator mlstest.Hex `json:"epoch_authenticator"`
		External      mlstest.Hex `json:"external_secret"`
		Confirmation  mlstest.Hex `json:"confirmation_key"`
		Membership    mlstest.Hex `json:"membership_key"`
		Resumption    mlstest.Hex `json:"resumption_psk"`
		ExternalPub   mlstest.Hex `json:"external_pub"`
		Export        struct {
			Label           string
			Context, Secret mlstest.Hex
			Length          int
		} `json:"exporter"`
	}
}

func TestVectorKeySchedule(t *testing.T) {
	var vectors []keySchedule
	mlstest.Vectors(t, "key-schedule.json", &vectors)
	epochs := 0
	for _, v := range vectors {
		s := suite.Get(v.CipherSuite)
		init := suite.NewSecret(v.Init)
		for i, e := range v.Epochs {
			context := binary.BigEndian.AppendUint16([]byte{0, 1}, uint16(s.ID()))
			context = codec.AppendVector(context, v.GroupID)
			context = binary.BigEndian.AppendUint64(context, uint64(i))
			context = codec.AppendVector(context, e.TreeHash)
			context = codec.AppendVector(context, e.Transcript)
			context = codec.AppendVector(context, "")
			if !bytes.Equal(context, e.GroupContext) {
				t.Fatalf("suite %d, epoch %d: GroupContext differs", s.ID(), i)
			}
			joiner := secret.Joiner(s, init, suite.NewSecret(e.Commit), context)
			member := secret.Member(s, joiner, suite.NewSecret(e.PSK))
			got := secret.NewEpoch(s, member, context)
			export, err := got.Export(s, e.Export.Label, e.Export.Context, e.Export.Length)
			if err != nil {
				t.Fatal(err)
			}
			for name, pair := range map[string]struct {
				got  suite.Secret
				want []byte
			}{
				"joiner": {joiner, e.Joiner}, "welcome": {secret.Welcome(s, member), e.Welcome},
				"init": {got.Init, e.Init}, "sender data": {got.SenderData, e.SenderData},
				"encryption": {got.Encryption, e.Encryption}, "exporter": {got.Exporter, e.Exporter},
				"authenticator": {got.Authenticator, e.Authenticator}, "external": {got.External, e.External},
				"confirmation": {got.Confirmation, e.Confirmation}, "membership": {got.Membership, e.Membership},
				"resumption": {got.Resumption, e.Resumption}, "export": {export, e.Export.Secret},
			} {
				if !bytes.Equal(pair.got.Bytes(), pair.want) {
					t.Errorf("suite %d, epoch %d: %s differs", s.ID(), i, name)
				}
			}
			if public, _, err := got.ExternalKey(s); err != nil || !bytes.Equal(public, e.ExternalPub) {
				t.Errorf("suite %d, epoch %d: external_pub differs, err %v", s.ID(), i, err)
			}
			init = got.Init
			epochs++
		}
		mlstest.Ran(t, "key-schedule.json", v.CipherSuite)
	}
	mlstest.Count(t, "key-schedule", len(vectors), 7)
	mlstest.Count(t, "key-schedule epochs", epochs, 35)
}

func TestVectorPSKSecret(t *testing.T) {
	var vectors []struct {
		CipherSuite suite.ID `json:"cipher_suite"`
		PSKs        []struct {
			ID    mlstest.Hex `json:"psk_id"`
			PSK   mlstest.Hex `json:"psk"`
			Nonce mlstest.Hex `json:"psk_nonce"`
		} `json:"psks"`
		Secret mlstest.Hex `json:"psk_secret"`
	}
	mlstest.Vectors(t, "psk_secret.json", &vectors)
	for i, v := range vectors {
		var psks []secret.PSK
		for _, p := range v.PSKs {
			id := codec.AppendVector([]byte{1}, p.ID) // psktype external
			psks = append(psks, secret.PSK{ID: codec.AppendVector(id, p.Nonce), Key: suite.NewSecret(p.PSK)})
		}
		if got := secret.PSKSecret(suite.Get(v.CipherSuite), psks); !bytes.Equal(got.Bytes(), v.Secret) {
			t.Errorf("vector %d: psk_secret differs", i)
		}
		mlstest.Ran(t, "psk_secret.json", v.CipherSuite)
	}
	mlstest.Count(t, "psk_secret", len(vectors), 77)
}

func TestVectorSecretTree(t *testing.T) {
	var vectors []struct {
		CipherSuite suite.ID    `json:"cipher_suite"`
		Encryption  mlstest.Hex `json:"encryption_secret"`
		SenderData  struct {
			Secret     mlstest.Hex `json:"sender_data_secret"`
			Ciphertext mlstest.Hex
			Key, Nonce mlstest.Hex
		} `json:"sender_data"`
		Leaves [][]struct {
			Generation       uint32
			ApplicationKey   mlstest.Hex `json:"application_key"`
			ApplicationNonce mlstest.Hex `json:"application_nonce"`
			HandshakeKey     mlstest.Hex `json:"handshake_key"`
			HandshakeNonce   mlstest.Hex `json:"handshake_nonce"`
		}
	}
	mlstest.Vectors(t, "secret-tree.json", &vectors)
	for i, v := range vectors {
		s := suite.Get(v.CipherSuite)
		key, nonce := secret.SenderDataKey(s, suite.NewSecret(v.SenderData.Secret), v.SenderData.Ciphertext)
		if !bytes.Equal(key.Bytes(), v.SenderData.Key) || !bytes.Equal(nonce.Bytes(), v.SenderData.Nonce) {
			t.Errorf("vector %d: sender data key differs", i)
		}
		tree := secret.NewTree(s, suite.NewSecret(v.Encryption), uint32(len(v.Leaves)), limits)
		for leaf, generations := range v.Leaves {
			for _, g := range generations {
				var app, hs secret.MessageKey
				var err1, err2 error
				tree, app, err1 = tree.Take(uint32(leaf), secret.Application, g.Generation)
				tree, hs, err2 = tree.Take(uint32(leaf), secret.Handshake, g.Generation)
				if err1 != nil || err2 != nil {
					t.Fatalf("vector %d, leaf %d, generation %d: %v, %v", i, leaf, g.Generation, err1, err2)
				}
				if !bytes.Equal(app.Key.Bytes(), g.ApplicationKey) || !bytes.Equal(app.Nonce.Bytes(), g.ApplicationNonce) {
					t.Errorf("vector %d, leaf %d, generation %d: application key differs", i, leaf, g.Generation)
				}
				if !bytes.Equal(hs.Key.Bytes(), g.HandshakeKey) || !bytes.Equal(hs.Nonce.Bytes(), g.HandshakeNonce) {
					t.Errorf("vector %d, leaf %d, generation %d: handshake key differs", i, leaf, g.Generation)
				}
			}
		}
		mlstest.Ran(t, "secret-tree.json", v.CipherSuite)
	}
	mlstest.Count(t, "secret-tree", len(vectors), 21)
}
