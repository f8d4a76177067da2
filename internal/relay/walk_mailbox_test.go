package relay_test

import (
	"slices"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// queueIDs are all queues.
func (w *world) queueIDs() []queue.ID {
	w.t.Helper()
	var ids []queue.ID
	for id, err := range w.queues.Queues(w.t.Context()) {
		w.must(err)
		ids = append(ids, id)
	}
	return ids
}

// mailboxWalks: what owners do with their mailboxes.
var mailboxWalks = map[string]func(w *world) walked{
	seal.MethodQueueDelete: deletionWalk,
	seal.MethodQueueCreate: func(w *world) walked {
		key, res := newKey(w), new(relayv1.QueueCreateResponse)
		a := w.ask(seal.MethodQueueCreate, seal.AuthQueue, key, true, &relayv1.QueueCreateRequest{ReadKey: key.Public().Bytes(), MaxAgeDays: 1}, res)
		return walked{send: a.send, after: func(w *world, _ bool) {
			// One mailbox, however often it was asked for, and it works.
			if ids := w.queueIDs(); len(ids) != 1 || string(ids[0]) != string(res.GetQueueId()) {
				w.t.Fatalf("there are %d queues, and the owner knows of another", len(ids))
			}
			m := &mailbox{res.GetQueueId(), key}
			w.mustAsk(w.ask(seal.MethodQueueStat, seal.AuthQueue, key, false, &relayv1.QueueStatRequest{QueueId: m.id}, new(relayv1.QueueStatResponse)))
			if st := w.deliver(w.to(m, random(16))); st[0] != 0 {
				w.t.Errorf("a delivery is answered %d", st[0])
			}
			w.has(m, 1)
		}}
	},
	seal.MethodQueueBlock: func(w *world) walked {
		m, handle := w.mailbox(), [16]byte(random(16))
		a := w.block(m, handle)
		return walked{send: a.send, after: func(w *world, _ bool) {
			it := w.to(m, random(16))
			it.config.Handle = handle
			if st := w.deliver(it); st[0] != 0 {
				w.t.Errorf("a delivery to a blocked handle is answered %d", st[0])
			}
			w.has(m, 0)
		}}
	},
	seal.MethodQueueSetPush:              func(w *world) walked { return pushWalk(w, []byte("new")) },
	seal.MethodQueueSetPush + " of none": func(w *world) walked { return pushWalk(w, nil) },
	seal.MethodQueueStat: func(w *world) walked {
		m, res := w.mailbox(), new(relayv1.QueueStatResponse)
		w.deliver(w.to(m, random(16)))
		a := w.ask(seal.MethodQueueStat, seal.AuthQueue, m.key, false, &relayv1.QueueStatRequest{QueueId: m.id}, res)
		return walked{send: a.send, after: func(w *world, _ bool) {
			if res.GetEntries() != 1 {
				w.t.Errorf("%d entries, want 1", res.GetEntries())
			}
		}}
	},
}

func pushWalk(w *world, tok []byte) walked {
	m := w.mailbox()
	w.mustAsk(w.setPush(m, []byte("old")))
	a := w.setPush(m, tok)
	return walked{send: a.send, after: func(w *world, _ bool) {
		if got := w.records(w.mailboxes, relay.MailboxGroup(m.id), relay.NamePush)[relay.NamePush]; got != string(tok) {
			w.t.Errorf("the push token is %q, want %q", got, tok)
		}
	}}
}

// deletionWalk: wherever the deletion of a mailbox is cut, its read key goes
// before its entries, nothing of it can be read any more, it is finished without
// its owner, who cannot ask again, and the hub is told nothing before the time.
func deletionWalk(w *world) walked {
	m := w.mailbox()
	handle := [16]byte(random(16))
	w.mustAsk(w.block(m, handle))
	w.mustAsk(w.setPush(m, []byte("token")))
	it := w.to(m, random(16))
	w.deliver(it)
	w.must(w.r.Settle(w.t.Context(), time.Now().Add(relay.SettleAfter))) // its creation is long over
	a := w.deleteBox(m)
	group := relay.MailboxGroup(m.id)
	return walked{refused: []mmrerr.Code{mmrerr.NoConsent}, send: func(w *world) error {
		err := a.send(w)
		if _, keyed := w.records(w.mailboxes, group, "")[relay.NameReadKey]; keyed && !slices.Contains(w.queueIDs(), queue.ID(m.id)) {
			w.t.Error("the entries went before the key")
		}
		return err
	}, after: func(w *world, _ bool) {
		left := w.records(w.mailboxes, group, "")
		if len(left) != 1 || left[relay.NameGone] == "" {
			w.t.Errorf("of the mailbox there are left: %d records", len(left))
		}
		if ids := w.queueIDs(); len(ids) != 0 {
			w.t.Error("its queue is left")
		}
		err := w.ask(seal.MethodQueueStat, seal.AuthQueue, m.key, false, &relayv1.QueueStatRequest{QueueId: m.id}, new(relayv1.QueueStatResponse)).send(w)
		if codeOf(err) != mmrerr.NoConsent {
			w.t.Errorf("the owner is answered %v", err)
		}
		again := w.to(m, random(16))
		again.sealed, again.keyID = it.sealed, it.keyID
		if st := w.deliver(again); st[0] != 0 {
			w.t.Errorf("a delivery is answered %d on the day of the deletion", st[0])
		}
	}}
}
