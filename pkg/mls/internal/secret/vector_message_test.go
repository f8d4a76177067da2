package secret_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

const framedLabel = "FramedContentTBS"

var wireLimits = (*wire.Limits)(nil).WithDefaults()

func TestVectorTranscriptHashes(t *testing.T) {
	var vectors []struct {
		CipherSuite  suite.ID    `json:"cipher_suite"`
		Confirmation mlstest.Hex `json:"confirmation_key"`
		Content      mlstest.Hex `json:"authenticated_content"`
		Before       mlstest.Hex `json:"interim_transcript_hash_before"`
		Confirmed    mlstest.Hex `json:"confirmed_transcript_hash_after"`
		Interim      mlstest.Hex `json:"interim_transcript_hash_after"`
	}
	mlstest.Vectors(t, "transcript-hashes.json", &vectors)
	for _, v := range vectors {
		s := suite.Get(v.CipherSuite)
		a, err := wire.ParseAuthenticatedContent(v.Content, wireLimits)
		if err != nil {
			t.Fatalf("suite %d: %v", s.ID(), err)
		}
		confirmed := s.Hash(v.Before, a.ConfirmedTranscriptInput())
		if !bytes.Equal(confirmed, v.Confirmed) {
			t.Errorf("suite %d: confirmed transcript hash differs", s.ID())
		}
		if !s.VerifyMAC(suite.NewSecret(v.Confirmation), confirmed, a.Auth.ConfirmationTag) {
			t.Errorf("suite %d: confirmation tag refused", s.ID())
		}
		if got := s.Hash(confirmed, wire.InterimTranscriptInput(a.Auth.ConfirmationTag)); !bytes.Equal(got, v.Interim) {
			t.Errorf("suite %d: interim transcript hash differs", s.ID())
		}
		mlstest.Ran(t, "transcript-hashes.json", v.CipherSuite)
	}
	mlstest.Count(t, "transcript-hashes", len(vectors), 7)
}

// protection is one entry of message-protection.json: a group of two in which
// leaf 1 sends.
type protection struct {
	CipherSuite     suite.ID    `json:"cipher_suite"`
	GroupID         mlstest.Hex `json:"group_id"`
	Epoch           uint64
	TreeHash        mlstest.Hex `json:"tree_hash"`
	Transcript      mlstest.Hex `json:"confirmed_transcript_hash"`
	SignaturePriv   mlstest.Hex `json:"signature_priv"`
	SignaturePub    mlstest.Hex `json:"signature_pub"`
	Encryption      mlstest.Hex `json:"encryption_secret"`
	SenderData      mlstest.Hex `json:"sender_data_secret"`
	Membership      mlstest.Hex `json:"membership_key"`
	Proposal        mlstest.Hex
	ProposalPriv    mlstest.Hex `json:"proposal_priv"`
	ProposalPub     mlstest.Hex `json:"proposal_pub"`
	Commit          mlstest.Hex
	CommitPriv      mlstest.Hex `json:"commit_priv"`
	CommitPub       mlstest.Hex `json:"commit_pub"`
	Application     mlstest.Hex
	ApplicationPriv mlstest.Hex `json:"application_priv"`
}

func (v *protection) context() []byte {
	c := &wire.GroupContext{
		Suite: v.CipherSuite, GroupID: v.GroupID, Epoch: v.Epoch,
		TreeHash: v.TreeHash, ConfirmedTranscriptHash: v.Transcript,
	}
	return c.Seal().Raw()
}

func (v *protection) tree() *secret.Tree {
	return secret.NewTree(suite.Get(v.CipherSuite), suite.NewSecret(v.Encryption), 2, limits)
}

// body returns the content in the form of the vector file.
func body(c *wire.FramedContent) []byte {
	switch c.ContentType {
	case wire.ContentProposal:
		return c.Proposal.Raw()
	case wire.ContentCommit:
		return c.Commit.AppendTo(nil)
	}
	return c.ApplicationData
}

// verify checks the signature, and the membership tag of a public message.
func (v *protection) verify(t *testing.T, a *wire.AuthenticatedContent, want []byte) {
	t.Helper()
	s := suite.Get(v.CipherSuite)
	if a.Content.Sender != (wire.Sender{Type: wire.SenderMember, Index: 1}) {
		t.Errorf("suite %d: sender %+v", s.ID(), a.Content.Sender)
	}
	if !s.VerifyWithLabel(v.SignaturePub, framedLabel, a.Content.TBS(a.Format, v.context()), a.Auth.Signature) {
		t.Errorf("suite %d: signature refused", s.ID())
	}
	if !bytes.Equal(body(a.Content), want) {
		t.Errorf("suite %d: content differs", s.ID())
	}
}

func (v *protection) unprotect(t *testing.T, message, want []byte) {
	t.Helper()
	s := suite.Get(v.CipherSuite)
	m, err := wire.ParseMessage(message, nil)
	if err != nil {
		t.Fatalf("suite %d: %v", s.ID(), err)
	}
	if m.Public != nil {
		a := m.Public.Authenticated()
		if !s.VerifyMAC(suite.NewSecret(v.Membership), a.TBM(v.context()), m.Public.MembershipTag) {
			t.Errorf("suite %d: membership tag refused", s.ID())
		}
		v.verify(t, a, want)
		return
	}
	sd, err := secret.OpenSenderData(s, suite.NewSecret(v.SenderData), m.Private)
	if err != nil {
		t.Fatalf("suite %d: sender data: %v", s.ID(), err)
	}
	which := secret.Handshake
	if m.Private.ContentType == wire.ContentApplication {
		which = secret.Application
	}
	_, key, err := v.tree().Take(uint32(sd.Leaf), which, sd.Generation)
	if err != nil {
		t.Fatalf("suite %d: %v", s.ID(), err)
	}
	plaintext, err := secret.Open(s, sd, key, m.Private)
	if err != nil {
		t.Fatalf("suite %d: %v", s.ID(), err)
	}
	a, err := wire.ParsePrivateContent(plaintext, m.Private, sd.Leaf, wireLimits)
	if err != nil {
		t.Fatalf("suite %d: %v", s.ID(), err)
	}
	v.verify(t, a, want)
}

// protect makes messages of our own from the content of the vector.
func (v *protection) protect(t *testing.T, f wire.WireFormat, fill func(*wire.FramedContent)) []byte {
	t.Helper()
	s := suite.Get(v.CipherSuite)
	c := &wire.FramedContent{GroupID: v.GroupID, Epoch: v.Epoch, Sender: wire.Sender{Type: wire.SenderMember, Index: 1}, AAD: []byte("aad")}
	fill(c)
	c.Seal()
	private, err := s.ImportSignatureKey(v.SignaturePriv)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.SignWithLabel(private, framedLabel, c.TBS(f, v.context()))
	if err != nil {
		t.Fatal(err)
	}
	a := &wire.AuthenticatedContent{Format: f, Content: c, Auth: wire.AuthData{Signature: sig}}
	if c.ContentType == wire.ContentCommit {
		a.Auth.ConfirmationTag = []byte("any tag")
	}
	if f == wire.FormatPublicMessage {
		tag := s.MAC(suite.NewSecret(v.Membership), a.TBM(v.context()))
		return (&wire.PublicMessage{Content: c, Auth: a.Auth, MembershipTag: tag}).Message()
	}
	which := secret.Handshake
	if c.ContentType == wire.ContentApplication {
		which = secret.Application
	}
	_, key, err := v.tree().Next(1, which)
	if err != nil {
		t.Fatal(err)
	}
	m := &wire.PrivateMessage{GroupID: v.GroupID, Epoch: v.Epoch, ContentType: c.ContentType, AAD: c.AAD}
	if err := secret.Seal(s, suite.NewSecret(v.SenderData), 1, key, m, wire.PrivateContent(a, 10)); err != nil {
		t.Fatal(err)
	}
	return m.Message()
}

func TestVectorMessageProtection(t *testing.T) {
	var vectors []protection
	mlstest.Vectors(t, "message-protection.json", &vectors)
	for _, v := range vectors {
		proposal, err := wire.ParseProposal(v.Proposal, wireLimits)
		if err != nil {
			t.Fatal(err)
		}
		commit, err := wire.ParseCommit(v.Commit, wireLimits)
		if err != nil {
			t.Fatal(err)
		}
		v.unprotect(t, v.ProposalPub, v.Proposal)
		v.unprotect(t, v.ProposalPriv, v.Proposal)
		v.unprotect(t, v.CommitPub, v.Commit)
		v.unprotect(t, v.CommitPriv, v.Commit)
		v.unprotect(t, v.ApplicationPriv, v.Application)
		for _, f := range []wire.WireFormat{wire.FormatPublicMessage, wire.FormatPrivateMessage} {
			v.unprotect(t, v.protect(t, f, func(c *wire.FramedContent) {
				c.ContentType, c.Proposal = wire.ContentProposal, proposal
			}), v.Proposal)
			v.unprotect(t, v.protect(t, f, func(c *wire.FramedContent) {
				c.ContentType, c.Commit = wire.ContentCommit, commit
			}), v.Commit)
		}
		v.unprotect(t, v.protect(t, wire.FormatPrivateMessage, func(c *wire.FramedContent) {
			c.ContentType, c.ApplicationData = wire.ContentApplication, v.Application
		}), v.Application)
		mlstest.Ran(t, "message-protection.json", v.CipherSuite)
	}
	mlstest.Count(t, "message-protection", len(vectors), 7)
}

func TestVectorWelcome(t *testing.T) {
	var vectors []struct {
		CipherSuite suite.ID    `json:"cipher_suite"`
		InitPriv    mlstest.Hex `json:"init_priv"`
		SignerPub   mlstest.Hex `json:"signer_pub"`
		KeyPackage  mlstest.Hex `json:"key_package"`
		Welcome     mlstest.Hex
	}
	mlstest.Vectors(t, "welcome.json", &vectors)
	for _, v := range vectors {
		s := suite.Get(v.CipherSuite)
		kp, err := wire.ParseMessage(v.KeyPackage, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := wire.ParseMessage(v.Welcome, nil)
		if err != nil {
			t.Fatal(err)
		}
		w, ref, found := m.Welcome, s.KeyPackageRef(kp.KeyPackage.Raw()), false
		for _, e := range w.Secrets {
			if !bytes.Equal(e.NewMember, ref) {
				continue
			}
			found = true
			raw, err := s.DecryptWithLabel(suite.NewSecret(v.InitPriv), "Welcome", w.EncryptedGroupInfo, e.Secrets.KEMOutput, e.Secrets.Ciphertext)
			if err != nil {
				t.Fatalf("suite %d: %v", s.ID(), err)
			}
			secrets, err := wire.ParseGroupSecrets(raw.Bytes(), wireLimits)
			if err != nil {
				t.Fatalf("suite %d: %v", s.ID(), err)
			}
			member := secret.Member(s, suite.NewSecret(secrets.JoinerSecret), secret.PSKSecret(s, nil))
			key, nonce := secret.WelcomeKey(s, secret.Welcome(s, member))
			plaintext, err := s.Open(key, nonce, nil, w.EncryptedGroupInfo)
			if err != nil {
				t.Fatalf("suite %d: %v", s.ID(), err)
			}
			gi, err := wire.ParseGroupInfo(plaintext, wireLimits)
			if err != nil {
				t.Fatalf("suite %d: %v", s.ID(), err)
			}
			if !s.VerifyWithLabel(v.SignerPub, "GroupInfoTBS", gi.TBS(), gi.Signature) {
				t.Errorf("suite %d: GroupInfo signature refused", s.ID())
			}
			epoch := secret.NewEpoch(s, member, gi.Context.Raw())
			if !s.VerifyMAC(epoch.Confirmation, gi.Context.ConfirmedTranscriptHash, gi.ConfirmationTag) {
				t.Errorf("suite %d: confirmation tag refused", s.ID())
			}
		}
		if !found {
			t.Errorf("suite %d: no entry for the key package", s.ID())
		}
		mlstest.Ran(t, "welcome.json", v.CipherSuite)
	}
	mlstest.Count(t, "welcome", len(vectors), 7)
}
