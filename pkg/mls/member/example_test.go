package member_test

import (
	"bytes"
	"fmt"
	"log"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

const exampleSuite = mls.CipherSuite(1)

// options are those of the examples. OpenRules lets everybody in: a real
// application embeds it and decides which credentials it believes.
var options = member.Options{Options: mls.Options{Rules: mls.OpenRules{}}}

// identity returns a client's name with a fresh signature key.
func identity(name string) *member.Identity {
	signer, err := member.GenerateSigner(exampleSuite)
	check(err)
	return &member.Identity{
		Suite:        exampleSuite,
		Credential:   mls.BasicCredential([]byte(name)),
		Signer:       signer,
		Capabilities: member.DefaultCapabilities(exampleSuite),
	}
}

// month is a lifetime that began an hour ago, as clocks differ.
func month() mls.Lifetime {
	now := uint64(time.Now().Unix())
	return mls.Lifetime{NotBefore: now - 3600, NotAfter: now + 30*24*3600}
}

// two returns a group of alice and bob, as each of them sees it.
func two() (alice, bob *member.Group) {
	alice, err := member.Create(identity("alice"), member.RandomGroupID(), member.CreateOptions{Options: options, Lifetime: month()})
	check(err)
	kp, err := member.NewKeyPackage(identity("bob"), member.KeyPackageOptions{Lifetime: month()})
	check(err)
	add := mls.AddProposal(kp.Public())
	alice, staged, err := alice.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{add}, Now: time.Now()})
	check(err)
	alice, _, err = alice.Confirm()
	check(err)
	bob, _, err = member.Join(staged.Welcome(), func([]byte) *member.KeyPackage { return kp }, member.JoinOptions{Options: options})
	check(err)
	return alice, bob
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Alice founds a group and adds Bob by his key package. Her commit counts only
// once it was accepted by whoever orders the group's messages; then she confirms
// it and sends the Welcome.
func Example() {
	alice, err := member.Create(identity("alice"), member.RandomGroupID(), member.CreateOptions{Options: options, Lifetime: month()})
	check(err)

	// Bob publishes a key package and keeps its private half.
	kp, err := member.NewKeyPackage(identity("bob"), member.KeyPackageOptions{Lifetime: month()})
	check(err)
	published := kp.Message()

	// Alice stages a commit. Nothing has happened yet.
	theirs, err := mls.ParseKeyPackage(published, nil)
	check(err)
	alice, staged, err := alice.Stage(member.CommitOptions{
		ByValue: []*mls.ProposalBody{mls.AddProposal(theirs)},
		Now:     time.Now(),
	})
	check(err)
	fmt.Println("while staged, epoch", alice.Epoch())
	welcome := staged.Welcome()
	alice, _, err = alice.Confirm()
	check(err)

	// Bob finds the key package that the Welcome is for, and joins.
	find := func(ref []byte) *member.KeyPackage {
		if bytes.Equal(ref, kp.Ref()) {
			return kp
		}
		return nil
	}
	bob, info, err := member.Join(welcome, find, member.JoinOptions{Options: options})
	check(err)
	fmt.Println("joined epoch", bob.Epoch(), "by leaf", info.Signer)

	// Every step returns the next Group; the old one stays as it was.
	alice, message, err := alice.Send([]byte("hello"), member.SendOptions{Padding: member.PadToBucket})
	check(err)
	bob, event, err := bob.Process(message)
	check(err)
	fmt.Printf("%s says %q\n", event.Leaf.Credential.Body, event.Data)

	a, err := alice.Export("example", nil, 32)
	check(err)
	b, err := bob.Export("example", nil, 32)
	check(err)
	fmt.Println("equal secrets:", bytes.Equal(a, b))
	// Output:
	// while staged, epoch 0
	// joined epoch 1 by leaf 0
	// alice says "hello"
	// equal secrets: true
}

// Bob replaces his keys by an empty commit, which heals the group after a theft
// of his state. Alice, who staged a commit herself, loses the race: processing
// Bob's drops hers.
func ExampleGroup_Stage() {
	alice, bob := two()
	alice, _, err := alice.Stage(member.CommitOptions{})
	check(err)
	bob, staged, err := bob.Stage(member.CommitOptions{AAD: []byte("visible to all, covered by the signature")})
	check(err)

	bob, _, err = bob.Confirm()
	check(err)
	alice, event, err := alice.Process(staged.Commit())
	check(err)
	_, pending := alice.Pending()
	fmt.Printf("leaf %d committed: %s\n", event.Commit.Committer, event.AAD)
	fmt.Println("epochs", alice.Epoch(), bob.Epoch(), "still pending:", pending)
	// Output:
	// leaf 1 committed: visible to all, covered by the signature
	// epochs 2 2 still pending: false
}

// Alice proposes to remove Bob. Any member may commit what was proposed; here it
// is she, and Bob learns from the commit that he is out.
func ExampleGroup_Propose() {
	alice, bob := two()
	alice, remove, err := alice.Propose(mls.RemoveProposal(bob.OwnLeaf()), member.SendOptions{})
	check(err)
	bob, _, err = bob.Process(remove)
	check(err)

	// Nothing may be said while proposals wait for a commit (RFC 9420 §12.4).
	_, _, err = alice.Send([]byte("wait"), member.SendOptions{})
	fmt.Println(err)

	// The own commit covers the proposals that were stored.
	alice, staged, err := alice.Stage(member.CommitOptions{})
	check(err)
	_, _, err = alice.Confirm()
	check(err)
	bob, _, err = bob.Process(staged.Commit())
	check(err)
	fmt.Println("removed:", bob.Status() == member.Removed)
	// Output:
	// member: proposals wait for a commit
	// removed: true
}

// Dave joins from outside with a GroupInfo that Alice published. The commit is
// pending until it was accepted.
func ExampleJoinExternal() {
	alice, bob := two()
	info, err := alice.GroupInfo(member.GroupInfoOptions{})
	check(err)

	dave, staged, err := member.JoinExternal(identity("dave"), info, member.ExternalOptions{Options: options})
	check(err)
	commit := staged.Commit()
	dave, _, err = dave.Confirm()
	check(err)
	for _, g := range []*member.Group{alice, bob} {
		next, event, err := g.Process(commit)
		check(err)
		leaf := next.Public().Leaf(event.Commit.Committer)
		fmt.Printf("leaf %d is %s, agreed: %v\n", event.Commit.Committer, leaf.Credential.Body,
			bytes.Equal(next.EpochAuthenticator(), dave.EpochAuthenticator()))
	}
	// Output:
	// leaf 2 is dave, agreed: true
	// leaf 2 is dave, agreed: true
}

// The order of a step: compute, store, adopt, send, retire. Whoever sends
// before storing can use a message key twice after a crash.
func ExampleParseGroup() {
	alice := identity("alice")
	old, err := member.Create(alice, member.RandomGroupID(), member.CreateOptions{Options: options, Lifetime: month()})
	check(err)

	next, message, err := old.Send([]byte("hello"), member.SendOptions{})
	check(err)
	public, err := next.AppendPublic(nil) // unchanged by messages
	check(err)
	private, err := next.AppendPrivate(nil) // to be encrypted by the caller
	check(err)

	// Here both parts are stored in one transaction, the message beside them.
	// Only then it is sent, and the old state's secrets are cleared.
	_ = message
	old.Retire(next)

	// After a restart. The signature key is not part of the state.
	loaded, err := member.ParseGroup(public, private, member.Signers(alice.Signer), &options)
	check(err)
	fmt.Println("step", loaded.Counter(), "of epoch", loaded.Epoch())
	_, err = member.ParseGroup(public, private, member.Signers(identity("alice").Signer), &options)
	fmt.Println("with another key:", err)
	// Output:
	// step 2 of epoch 0
	// with another key: member: no signer for the own leaf
}
