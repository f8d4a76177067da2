package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// A program registers once, then opens its store.
func Example() {
	ctx := context.Background()
	trust, err := client.LoadTrust("trust")
	if err != nil {
		log.Fatal(err)
	}
	store, err := client.OpenPebbleStore("state")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Open(store, trust)
	if errors.Is(err, client.ErrNoAccount) {
		c, err = client.Register(ctx, store, client.Account{
			User: "alice", Device: "alice-phone", Domain: "a.example", Relay: "relay.a.example:7444",
			PartnerDomain: "b.example", Partner: "relay.b.example:7444",
		}, trust)
	}
	if err != nil {
		log.Fatal(err)
	}
	room, err := c.CreateRoom(ctx, "hub.example")
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Add(ctx, room, "mimi://b.example/u/bob"); err != nil {
		log.Fatal(err)
	}
	if err := c.Send(ctx, room, []byte("hello")); err != nil {
		log.Fatal(err)
	}
	if err := c.Close(); err != nil {
		log.Fatal(err)
	}
}

// Listen presents each event until it is handled; after a crash it comes again.
func ExampleClient_Listen() {
	var c *client.Client // from Open or Register
	err := c.Listen(context.Background(), func(e client.Event) error {
		switch e.Kind {
		case client.KindMessage:
			fmt.Printf("%s: %q\n", e.User, e.Data)
		case client.KindForked, client.KindSuspect, client.KindLocked:
			fmt.Println("do not trust this room:", e.Room)
		}
		return nil
	})
	if errors.Is(err, client.ErrReplaced) {
		fmt.Println("another process listens to this mailbox")
	}
}

// Two users connect once; then each can add the other to rooms.
func ExampleClient_Connect() {
	var alice, bob *client.Client
	ctx := context.Background()
	if err := alice.Connect(ctx, bob.User(), "hub.example"); err != nil {
		log.Fatal(err)
	}
	requests, err := bob.Requests(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range requests {
		if r.User == alice.User() {
			err = bob.Accept(ctx, r.ID)
		} else {
			err = bob.Reject(ctx, r.ID) // nobody is told
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

// A link lets its holder join for a while, and read who is there before.
func ExampleClient_CreateLink() {
	var alice, carol *client.Client
	ctx := context.Background()
	room, err := alice.CreateRoom(ctx, "hub.example", client.WithObservers())
	if err != nil {
		log.Fatal(err)
	}
	link, err := alice.CreateLink(ctx, room, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := carol.Join(ctx, link); err != nil {
		log.Fatal(err)
	}
}

// Request and response are carried by hand between two devices of a user.
func ExampleClient_AddDevice() {
	var phone *client.Client
	ctx := context.Background()
	trust, err := client.LoadTrust("trust")
	if err != nil {
		log.Fatal(err)
	}
	store := client.NewMemoryStore()
	request, err := client.BeginDevice(store, "alice-laptop") // on the laptop
	if err != nil {
		log.Fatal(err)
	}
	response, err := phone.AddDevice(ctx, request, "hub.example") // on the phone
	if err != nil {
		log.Fatal(err)
	}
	laptop, err := client.JoinDevice(ctx, store, response, trust) // on the laptop
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(laptop.User())
}

// People compare the digits over another channel.
func ExampleClient_SafetyCode() {
	var c *client.Client
	code, err := c.SafetyCode("mimi://b.example/u/bob")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(code)
	if err := c.Confirm(context.Background(), "mimi://b.example/u/bob"); err != nil {
		log.Fatal(err)
	}
}

// The hub learns the message and its sender's pseudonym, and not who reports.
func ExampleClient_Report() {
	var c *client.Client
	ctx := context.Background()
	err := c.Take(func(e client.Event) error {
		if e.Kind != client.KindMessage || e.User != "mimi://b.example/u/mallory" {
			return nil
		}
		return c.Report(ctx, e.Room, e.Evidence, "abusive")
	})
	if err != nil {
		log.Fatal(err)
	}
}
