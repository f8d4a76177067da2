package e2e_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// TestPush: the push webhook is told the tokens of mailboxes that got entries,
// once per interval, and nothing else.
func TestPush(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- body
	}))
	defer hook.Close()
	w := newPair(t, func(c *relay.Config) { c.Push = relay.Push{URL: hook.URL, Interval: 50 * time.Millisecond} })
	ctx := within(t)
	for len(got) > 0 {
		t.Errorf("a wake-up without a token: %s", <-got)
	}
	token := randomBytes(64)
	if err := w.bob.SetPush(ctx, token); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := w.alice.Send(ctx, w.room, []byte("wake up")); err != nil {
			t.Fatal(err)
		}
	}
	var raw []byte
	select {
	case raw = <-got:
	case <-time.After(20 * time.Second):
		t.Fatal("no wake-up")
	}
	var body map[string][][]byte
	if err := json.Unmarshal(raw, &body); err != nil || len(body) != 1 || len(body["tokens"]) != 1 || !slices.Equal(body["tokens"][0], token) {
		t.Errorf("the webhook got %s", raw)
	}
	if err := w.bob.SetPush(ctx, nil); err != nil {
		t.Fatal(err)
	}
	w.quiet(t)
	time.Sleep(200 * time.Millisecond)
	for len(got) > 0 {
		<-got
	}
	if err := w.alice.Send(ctx, w.room, []byte("sleep on")); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("message", func(e client.Event) bool { return string(e.Data) == "sleep on" })
	time.Sleep(200 * time.Millisecond)
	if len(got) > 0 {
		t.Errorf("a wake-up after it was ended: %s", <-got)
	}
	for _, url := range []string{"http://push.example/", "ftp://localhost/", "nonsense"} {
		if _, err := relay.New(relay.Config{Push: relay.Push{URL: url}}); err == nil {
			t.Errorf("the webhook %s is accepted", url)
		}
	}
}

// TestBlock: what comes to a blocked address is dropped, and the hub is told
// that it was delivered; a fresh address is another one (SPEC.md R-54).
func TestBlock(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	ctx := within(t)
	other, err := w.alice.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Add(ctx, other, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == other })
	if err := w.bob.Block(ctx, w.room); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Send(ctx, w.room, []byte("blocked")); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Send(ctx, other, []byte("not blocked")); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("message", func(e client.Event) bool { return string(e.Data) == "not blocked" })
	w.quiet(t)
	if m := w.bob.messages(); slices.Contains(m, "blocked") {
		t.Errorf("bob got %v", m)
	}
	st, err := w.bob.Mailbox(ctx)
	if err != nil || st.Entries != 0 || st.Dropped != 0 {
		t.Errorf("mailbox %+v, %v", st, err)
	}
}

// TestDisconnect: after a connection was ended the peer can add nobody any more,
// and is told no more than that (SPEC.md ).
func TestDisconnect(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	ctx := within(t)
	if err := w.bob.Disconnect(ctx, w.alice.User()); err != nil {
		t.Fatal(err)
	}
	if err := w.bob.Disconnect(ctx, w.alice.User()); !errors.Is(err, client.ErrNoConnection) {
		t.Errorf("ending it twice: %v", err)
	}
	other, err := w.alice.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Add(ctx, other, w.bob.User()); !errors.Is(err, mmrerr.NoConsent) {
		t.Errorf("adding bob: %v", err)
	}
	talkPair := func(text string) {
		t.Helper()
		if err := w.alice.Send(ctx, w.room, []byte(text)); err != nil {
			t.Fatal(err)
		}
		w.bob.waitFor(text, func(e client.Event) bool { return string(e.Data) == text })
	}
	talkPair("rooms in common stay")
}
