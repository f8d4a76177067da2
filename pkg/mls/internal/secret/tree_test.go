package secret_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

var suite1 = suite.Get(suite.X25519AES128SHA256Ed25519)

func take(t *testing.T, tree *secret.Tree, leaf, generation uint32) (*secret.Tree, secret.MessageKey) {
	t.Helper()
	next, key, err := tree.Take(leaf, secret.Application, generation)
	if err != nil {
		t.Fatalf("leaf %d, generation %d: %v", leaf, generation, err)
	}
	return next, key
}

// Whatever the order of arrival, the keys are those of the sender.
func TestOrderDoesNotMatter(t *testing.T) {
	root := suite.RandomSecret(32)
	sender := secret.NewTree(suite1, root.Clone(), 8, limits)
	receiver := secret.NewTree(suite1, root.Clone(), 8, limits)
	var sent []secret.MessageKey
	for range 60 {
		var key secret.MessageKey
		var err error
		if sender, key, err = sender.Next(5, secret.Application); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, key)
	}
	for _, i := range rand.Perm(len(sent)) {
		var key secret.MessageKey
		receiver, key = take(t, receiver, 5, uint32(i))
		if !key.Key.Equal(sent[i].Key) || !key.Nonce.Equal(sent[i].Nonce) {
			t.Fatalf("generation %d: keys differ", i)
		}
		if _, _, err := receiver.Take(5, secret.Application, uint32(i)); !errors.Is(err, secret.ErrUsed) {
			t.Fatalf("generation %d a second time: %v", i, err)
		}
	}
}

func TestGenerationJump(t *testing.T) {
	tree := secret.NewTree(suite1, suite.RandomSecret(32), 2, limits)
	for _, g := range []uint32{1025, 1 << 20, 1<<32 - 1} {
		allocs := testing.AllocsPerRun(1, func() {
			if _, _, err := tree.Take(1, secret.Application, g); !errors.Is(err, secret.ErrTooFar) {
				t.Errorf("generation %d: %v", g, err)
			}
		})
		if allocs > 300 {
			t.Errorf("generation %d: %v allocations before the refusal", g, allocs)
		}
	}
	tree, _ = take(t, tree, 1, 1024)
	for g, want := range map[uint32]error{0: secret.ErrUsed, 1024 - 65: secret.ErrUsed, 1024 - 64: nil, 1023: nil, 1024: secret.ErrUsed, 1025 + 1025: secret.ErrTooFar} {
		if _, _, err := tree.Take(1, secret.Application, g); !errors.Is(err, want) {
			t.Errorf("generation %d after 1024: %v, want %v", g, err, want)
		}
	}
}

// One sender's skipped keys are bounded, and so are those of the whole tree.
func TestSkippedKeysAreBounded(t *testing.T) {
	small := secret.Limits{Jump: 1024, Skipped: 8, Total: 20}
	tree := secret.NewTree(suite1, suite.RandomSecret(32), 16, small)
	for leaf := range uint32(16) {
		tree, _ = take(t, tree, leaf, 500)
		tree, _ = take(t, tree, leaf, 600)
	}
	held := 0
	tree.Secrets(func(suite.Secret) { held++ })
	if max := 2*small.Total + 2*16; held > max {
		t.Errorf("%d secrets held, at most %d allowed", held, max)
	}
	for leaf := range uint32(2) { // The first two filled their quota before the tree was full.
		for g := uint32(600 - 8); g < 600; g++ {
			tree, _ = take(t, tree, leaf, g)
		}
	}
}

// RFC 9420 9.2: what was used, and all it came from, is not in the next state.
func TestUsedKeysAreGone(t *testing.T) {
	root := suite.RandomSecret(32)
	encryption := bytes.Clone(root.Bytes())
	tree := secret.NewTree(suite1, root, 4, limits)
	before := tree
	tree, key := take(t, tree, 2, 3)
	used := bytes.Clone(key.Key.Bytes())
	secret.RetireTree(before, tree)
	key.Wipe()
	if root.IsSet() {
		t.Error("encryption_secret survives its first use")
	}
	state := tree.AppendBinary(nil)
	// Everything derivable from what is left must not give the used key again.
	again := secret.ReadTree(codec.NewReader(state), suite1, 4, limits)
	if _, _, err := again.Take(2, secret.Application, 3); !errors.Is(err, secret.ErrUsed) {
		t.Errorf("used generation from the saved state: %v", err)
	}
	if bytes.Contains(state, used) || bytes.Contains(state, encryption) {
		t.Error("used key or encryption_secret in the saved state")
	}
	fresh := secret.NewTree(suite1, suite.NewSecret(encryption), 4, limits)
	for _, leaf := range []uint32{0, 1, 2, 3} { // What is left still works.
		for g := uint32(4); g < 6; g++ {
			var a, b secret.MessageKey
			tree, a = take(t, tree, leaf, g)
			fresh, b = take(t, fresh, leaf, g)
			if !a.Key.Equal(b.Key) {
				t.Errorf("leaf %d, generation %d: wrong key after wiping", leaf, g)
			}
		}
	}
}

// A failed attempt is dropped by retiring it in favour of the old tree.
func TestDroppedAttemptLeavesTreeIntact(t *testing.T) {
	tree := secret.NewTree(suite1, suite.RandomSecret(32), 8, limits)
	tree, _ = take(t, tree, 3, 2)
	before := tree.AppendBinary(nil)
	attempt, _, err := tree.Take(3, secret.Application, 40)
	if err != nil {
		t.Fatal(err)
	}
	secret.RetireTree(attempt, tree)
	if !bytes.Equal(before, tree.AppendBinary(nil)) {
		t.Error("dropping an attempt changed the tree")
	}
	for _, g := range []uint32{0, 1, 40, 3} {
		tree, _ = take(t, tree, 3, g)
	}
}

func TestTreeStateRoundTrip(t *testing.T) {
	for _, id := range suite.IDs() {
		s := suite.Get(id)
		tree := secret.NewTree(s, suite.RandomSecret(s.HashSize()), 16, limits)
		for range 50 {
			next, _, err := tree.Take(rand.Uint32N(16), secret.Ratchet(rand.IntN(2)), rand.Uint32N(80))
			if err == nil {
				tree = next
			}
			state := tree.AppendBinary(nil)
			r := codec.NewReader(state)
			tree = secret.ReadTree(r, s, 16, limits)
			if err := r.Done(); err != nil {
				t.Fatalf("suite %d: %v", id, err)
			}
			if !bytes.Equal(tree.AppendBinary(nil), state) {
				t.Fatalf("suite %d: state changed by a round trip", id)
			}
		}
		state := tree.AppendBinary(nil)
		for i := 0; i < len(state); i += 1 + len(state)/200 {
			if secret.ReadTree(codec.NewReader(state[:i]), s, 16, limits) != nil {
				t.Fatalf("suite %d: state cut to %d bytes accepted", id, i)
			}
		}
		if secret.ReadTree(codec.NewReader(state), s, 32, limits) != nil {
			t.Error("state of another width accepted")
		}
	}
}

func TestLeafOutOfRange(t *testing.T) {
	tree := secret.NewTree(suite1, suite.RandomSecret(32), 4, limits)
	for _, leaf := range []uint32{4, 5, 1 << 31, 1<<32 - 1} {
		if _, _, err := tree.Take(leaf, secret.Application, 0); !errors.Is(err, secret.ErrLeaf) {
			t.Errorf("leaf %d: %v", leaf, err)
		}
	}
}

func TestReuseGuardIsRandomAndApplied(t *testing.T) {
	tree := secret.NewTree(suite1, suite.RandomSecret(32), 2, limits)
	senderData := suite.RandomSecret(32)
	_, key, err := tree.Next(1, secret.Application)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[4]byte]bool{}
	for range 32 {
		m := &wire.PrivateMessage{GroupID: []byte("g"), Epoch: 7, ContentType: wire.ContentApplication, AAD: []byte("aad")}
		if err := secret.Seal(suite1, senderData, 1, key, m, []byte("content")); err != nil {
			t.Fatal(err)
		}
		sd, err := secret.OpenSenderData(suite1, senderData, m)
		if err != nil || sd.Leaf != 1 || sd.Generation != 0 {
			t.Fatalf("sender data %+v, err %v", sd, err)
		}
		seen[sd.ReuseGuard] = true
		if got, err := secret.Open(suite1, sd, key, m); err != nil || string(got) != "content" {
			t.Fatalf("content %q, err %v", got, err)
		}
		wrong := sd
		wrong.ReuseGuard[0] ^= 1
		if _, err := secret.Open(suite1, wrong, key, m); err == nil {
			t.Fatal("opened under another guard")
		}
		m.ContentType = wire.ContentProposal
		if _, err := secret.OpenSenderData(suite1, senderData, m); err == nil {
			t.Fatal("content type is not authenticated")
		}
	}
	if len(seen) < 31 {
		t.Errorf("%d different guards in 32 messages", len(seen))
	}
}

// The tree's saved state is at most 7 kB and 165 bytes a sender with a skipped
// key, in a group of 1,024, wherever the senders sit: 128 of them, each far from
// the others, are the worst case, since nothing on their paths is shared.
func TestTreeStateSize(t *testing.T) {
	for _, senders := range []uint32{1, 8, 32, 128, 256, 1024} {
		tree := secret.NewTree(suite1, suite.RandomSecret(32), 1024, limits)
		for i := range senders {
			tree, _ = take(t, tree, i*(1024/senders), 1)
		}
		n := len(tree.AppendBinary(nil))
		t.Logf("%d senders: %d bytes", senders, n)
		if most := 7000 + 165*int(senders); n > most {
			t.Errorf("%d bytes for %d senders, at most %d", n, senders, most)
		}
	}
}
