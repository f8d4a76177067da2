package mls_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

func TestMessageAccessors(t *testing.T) {
	w := newWorld(t, 1, 3)
	aad := []byte("aad")
	public := w.commit(1, commitOptions{aad: aad})
	private := (&wire.PrivateMessage{
		GroupID: w.g.GroupID(), Epoch: 3, ContentType: mls.ContentApplication, AAD: aad, Ciphertext: make([]byte, 256+16),
	}).Message()
	info := w.groupInfo(w.state(), 0, nil).Message()
	kp := w.keyPackage(nil)
	welcome := (&wire.Welcome{Suite: 1, Secrets: []wire.EncryptedGroupSecrets{{NewMember: mls.KeyPackageRef(kp)}, {NewMember: []byte("x")}}}).Message()
	for _, c := range []struct {
		msg     []byte
		format  mls.WireFormat
		group   []byte
		epoch   mls.Epoch
		content mls.ContentType
		aad     []byte
		sender  bool
	}{
		{public, mls.FormatPublicMessage, w.g.GroupID(), w.g.Epoch(), mls.ContentCommit, aad, true},
		{private, mls.FormatPrivateMessage, w.g.GroupID(), 3, mls.ContentApplication, aad, false},
		{info, mls.FormatGroupInfo, w.g.GroupID(), w.g.Epoch(), 0, nil, false},
		{welcome, mls.FormatWelcome, nil, 0, 0, nil, false},
		{kp.Message(), mls.FormatKeyPackage, nil, 0, 0, nil, false},
	} {
		m, err := mls.ParseMessage(c.msg, nil)
		w.check(err)
		s, ok := m.Sender()
		if m.Format != c.format || !bytes.Equal(m.GroupID(), c.group) || m.Epoch() != c.epoch || m.ContentType() != c.content ||
			!bytes.Equal(m.AAD(), c.aad) || ok != c.sender || ok && s != (mls.Sender{Type: mls.SenderMember, Index: 1}) {
			t.Errorf("format %d: wrong answers", c.format)
		}
		_, err = mls.ParseKeyPackage(c.msg, nil)
		if (err == nil) != (c.format == mls.FormatKeyPackage) {
			t.Errorf("format %d as a key package: %v", c.format, err)
		}
		refs, err := mls.WelcomeRefs(c.msg, nil)
		if (err == nil) != (c.format == mls.FormatWelcome) {
			t.Errorf("format %d as a Welcome: %v", c.format, err)
		}
		if err == nil && (len(refs) != 2 || !bytes.Equal(refs[0], mls.KeyPackageRef(kp))) {
			t.Error("wrong references in a Welcome")
		}
	}
	if _, ok := kp.Extension(unlistedType); ok {
		t.Error("a key package without extensions has one")
	}
	kp = w.keyPackage(func(p *mls.KeyPackage) { p.Suite = 99 })
	w.refused(mls.RuleUnsupportedSuite, mls.VerifyKeyPackage(kp, time.Time{}, nil))
	if mls.KeyPackageRef(kp) != nil {
		t.Error("a reference of an unknown suite")
	}
}

func TestVerifyWithLabel(t *testing.T) {
	w := newWorld(t, 2, 1)
	key := w.g.Leaf(0).SignatureKey
	signature, err := mls.SignWithLabel(outsider{w, key}, "AppReceiptTBS", []byte("x"))
	w.check(err)
	if err := mls.VerifyWithLabel(2, key, "AppReceiptTBS", []byte("x"), signature); err != nil {
		t.Error(err)
	}
	w.refused(mls.RuleSignature, mls.VerifyWithLabel(2, key, "AppReceiptTBS", []byte("y"), signature))
	w.refused(mls.RuleSignature, mls.VerifyWithLabel(1, key, "AppReceiptTBS", []byte("x"), signature))
	w.refused(mls.RuleUnsupportedSuite, mls.VerifyWithLabel(0, key, "AppReceiptTBS", []byte("x"), signature))
}

func TestExternalSendersWire(t *testing.T) {
	in := []mls.ExternalSender{
		{SignatureKey: []byte{1, 2}, Credential: mls.X509Credential([]byte("a"), []byte("b"))},
		{SignatureKey: []byte{3}, Credential: mls.CustomCredential(customCredential, []byte("c"))},
	}
	e := mls.ExternalSendersExtension(in...)
	data, ok := mls.FindExtension([]mls.Extension{{Type: 9}, e}, mls.ExtensionExternalSenders)
	out, err := mls.ParseExternalSenders(data, nil)
	if !ok || err != nil || len(out) != 2 || !out[0].Credential.Equal(in[0].Credential) || !out[1].Credential.Equal(in[1].Credential) {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := mls.ParseExternalSenders(data[:len(data)-1], nil); err == nil {
		t.Error("a cut extension was accepted")
	}
}

// TestRefusalText: what an error says is the name of a rule, never a part of
// the input, and never what the application said.
func TestRefusalText(t *testing.T) {
	w := newWorld(t, 1, 3)
	w.opts.Rules = noSuccessor{}
	w.g = w.reload()
	for _, msg := range [][]byte{
		w.commit(1, commitOptions{}),
		w.commit(1, commitOptions{content: func(c *wire.FramedContent) { c.GroupID = []byte("secret group") }}),
		[]byte("rubbish"),
	} {
		_, _, err := w.g.Process(msg, timeZero)
		var r *mls.Refusal
		if !errors.As(err, &r) {
			t.Fatalf("no refusal: %v", err)
		}
		if text := fmt.Sprintf("%v %s %q", err, err, err); strings.Count(text, string(r.Rule)) != 3 ||
			strings.Contains(text, "secret") || strings.Contains(text, "house") || strings.Contains(text, "rubbish") {
			t.Errorf("text is %s", text)
		}
		if !errors.Is(err, &mls.Refusal{Rule: r.Rule}) || errors.Is(err, &mls.Refusal{Rule: "other"}) {
			t.Error("errors.Is does not compare rules")
		}
	}
	names := map[string]bool{}
	for c := mls.ClassInvalid; c <= mls.ClassUnsupported; c++ {
		names[c.String()] = true
	}
	if len(names) != 7 || names["unknown"] {
		t.Errorf("names of classes: %v", names)
	}
}

// placed refuses credentials at one place.
type placed struct {
	mls.OpenRules
	at mls.Place
}

func (p placed) Credential(_ mls.Credential, _ []byte, at mls.Place) error {
	if at == p.at {
		return errPolicy
	}
	return nil
}

// TestCredentialPlaces: the application is asked wherever RFC 9420 §5.3.1 says,
// and its word counts.
func TestCredentialPlaces(t *testing.T) {
	keys := newWorld(t, 1, 1)
	sender := func() mls.ExternalSender {
		return mls.ExternalSender{SignatureKey: keys.leaf(nil).SignatureKey, Credential: mls.BasicCredential(nil)}
	}
	w := newWorld(t, 1, 3, mls.ExternalSendersExtension(sender()))
	at := func(p mls.Place) *world {
		v := *w
		v.opts = &mls.Options{Rules: placed{at: p}, Limits: w.opts.Limits}
		v.g = w.g.WithRules(v.opts.Rules)
		return &v
	}
	senders := func(n int) []byte {
		var list []mls.ExternalSender
		for range n {
			list = append(list, sender())
		}
		return w.commit(0, commitOptions{list: values(mls.ExtensionsProposal([]mls.Extension{mls.ExternalSendersExtension(list...)}))})
	}
	add := mls.AddProposal(w.keyPackage(nil))
	at(mls.PlaceAdd).refuse(mls.RuleCredential, w.commit(0, commitOptions{list: values(add)}))
	at(mls.PlaceAdd).refuse(mls.RuleCredential, w.propose(0, add))
	at(mls.PlaceUpdate).refuse(mls.RuleCredential, w.propose(1, update(w.updateLeaf(1, nil))))
	at(mls.PlaceCommit).refuse(mls.RuleCredential, w.commit(0, commitOptions{}))
	at(mls.PlaceCommit).refuse(mls.RuleCredential, w.commit(0, commitOptions{external: true}))
	at(mls.PlaceChangedExternalSender).refuse(mls.RuleCredential, senders(1))
	at(mls.PlaceNewExternalSender).accept(senders(1))
	at(mls.PlaceNewExternalSender).refuse(mls.RuleCredential, senders(2))
	info := w.groupInfo(w.state(), 0, nil).Message()
	_, err := mls.NewPublicGroup(info, nil, at(mls.PlaceTree).opts)
	w.refused(mls.RuleCredential, err)
	if !errors.Is(err, errPolicy) {
		t.Error("the application's error is lost")
	}
}

// TestTreeSize: a tree does not grow beyond the limit, whoever makes it grow.
func TestTreeSize(t *testing.T) {
	w := newWorld(t, 1, 4)
	w.opts.Limits.Leaves = 4
	w.g = w.reload()
	w.refuse(mls.RuleTreeSize, w.commit(0, commitOptions{noPath: true, list: nil, commit: func(c *wire.Commit) {
		c.Proposals = values(mls.AddProposal(w.keyPackage(nil)))
	}}))
	// Within it, a Remove makes room.
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(2), mls.AddProposal(w.keyPackage(nil)))}))
	big := newWorld(t, 1, 5)
	info := big.groupInfo(big.state(), 0, nil).Message()
	big.opts.Limits.Leaves = 4
	_, err := mls.NewPublicGroup(info, nil, big.opts)
	if err == nil {
		t.Error("a tree beyond the limit was accepted")
	}
	var r *mls.Refusal
	if !errors.As(err, &r) || r.Class != mls.ClassLimit {
		t.Errorf("got %v", err)
	}
}
