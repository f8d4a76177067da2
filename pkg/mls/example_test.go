package mls_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

// guestList is an application's Rules: it knows who may be in the group. What
// it does not decide is OpenRules' part.
type guestList struct {
	mls.OpenRules
	names []string
}

var errUninvited = errors.New("not on the list")

func (l guestList) Credential(c mls.Credential, _ []byte, _ mls.Place) error {
	for _, name := range l.names {
		if c.Type == mls.CredentialBasic && string(c.Body) == name {
			return nil
		}
	}
	return errUninvited
}

func exampleIdentity(name string) *member.Identity {
	signer, err := member.GenerateSigner(1)
	if err != nil {
		log.Fatal(err)
	}
	return &member.Identity{
		Suite: 1, Credential: mls.BasicCredential([]byte(name)), Signer: signer,
		Capabilities: member.DefaultCapabilities(1),
	}
}

// A server follows a group that it cannot read: it starts from a GroupInfo,
// processes every commit before it hands it on, and serves the GroupInfo that
// members give it to those who join from outside.
func ExamplePublicGroup() {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	now := time.Now()
	lifetime := mls.Lifetime{NotBefore: uint64(now.Unix()) - 3600, NotAfter: uint64(now.Unix()) + 24*3600}
	rules := guestList{names: []string{"alice", "bob"}}

	// A member founds the group and tells the server.
	var o member.Options
	o.Rules = mls.OpenRules{} // the server alone is strict, to show it
	alice, err := member.Create(exampleIdentity("alice"), member.RandomGroupID(), member.CreateOptions{Options: o, Lifetime: lifetime})
	check(err)
	info, err := alice.GroupInfo(member.GroupInfoOptions{})
	check(err)
	server, err := mls.NewPublicGroup(info, nil, &mls.Options{Rules: rules})
	check(err)

	// A commit that adds somebody who is not on the list.
	add := func(name string) []byte {
		kp, err := member.NewKeyPackage(exampleIdentity(name), member.KeyPackageOptions{Lifetime: lifetime})
		check(err)
		_, staged, err := alice.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{mls.AddProposal(kp.Public())}})
		check(err)
		return staged.Commit()
	}
	_, _, err = server.Process(add("mallory"), now)
	var refusal *mls.Refusal
	fmt.Println(errors.As(err, &refusal), refusal.Rule, errors.Is(err, errUninvited))

	// One that adds somebody who is.
	next, event, err := server.Process(add("bob"), now)
	check(err)
	fmt.Println("epoch", next.Epoch(), "added", event.Commit.Added, "members", next.Len())

	// States are values: the old one is still there, until the new one proved
	// to be what the members have, and can be stored.
	saved, err := next.AppendBinary(nil)
	check(err)
	loaded, err := mls.ParsePublicGroup(saved, &mls.Options{Rules: rules})
	check(err)
	fmt.Println("stored:", bytes.Equal(loaded.Context().Raw(), next.Context().Raw()), "old epoch", server.Epoch())
	// Output:
	// true credential true
	// epoch 1 added [1] members 2
	// stored: true old epoch 0
}
