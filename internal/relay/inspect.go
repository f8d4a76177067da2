package relay

import (
	"context"
	"errors"
	"strings"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Inspectors tell tools what the rows of a relay's stores are for, by the kind of
// store. They have no key, and know owners by what is in the same store only: the
// stores share no identifier.
func Inspectors() map[string]store.Inspector {
	return map[string]store.Inspector{"accounts": accountInspector{}, "packages": packageInspector{}, "queues": mailboxInspector{}}
}

// kinds of data of which only one has queues.
type noQueues struct{}

func (noQueues) Queue(context.Context, *store.Stores, queue.ID) (store.Finding, error) {
	return store.Finding{Kind: "queue", Fault: "not of this kind of store"}, nil
}

var notOurs = store.Finding{Kind: "record", Fault: "not of a relay"}

func finding(kind string, whole bool) store.Finding {
	f := store.Finding{Kind: kind}
	if !whole {
		f.Fault = "does not decode"
	}
	return f
}

func exists(ctx context.Context, s kv.Store, key kv.Key) (bool, error) {
	_, err := s.Get(ctx, key)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// mailboxInspector knows mailboxes: their records and their queues.
type mailboxInspector struct{}

// Record implements store.Inspector.
func (mailboxInspector) Record(ctx context.Context, s *store.Stores, rec kv.Record) (store.Finding, error) {
	if rec.Key.Group == unsettledGroup {
		_, _, ok := parseMark(rec.Value)
		return finding("mark of a mailbox", ok), nil
	}
	group := mailboxKey("", "").Group
	if len(rec.Key.Group) != len(group)+queueIDSize || !strings.HasPrefix(rec.Key.Group, group) {
		return notOurs, nil
	}
	id := queue.ID(rec.Key.Group[len(group):])
	f, part := mailboxFinding(rec)
	var err error
	switch {
	case rec.Key.Name == nameReadKey && f.Fault == "":
		f.Fault, err = withoutQueue(ctx, s, id)
	case part:
		f.Orphan, err = ownerless(ctx, s, id)
	}
	return f, err
}

// mailboxFinding says what a record of a mailbox is, and whether it is of no use
// without the mailbox.
func mailboxFinding(rec kv.Record) (f store.Finding, part bool) {
	switch name := rec.Key.Name; {
	case name == nameReadKey:
		_, err := primitive.ParsePublicKey(primitive.Ed25519, rec.Value)
		return finding("mailbox", err == nil), false
	case name == nameGone:
		return finding("memory of a deleted mailbox", len(rec.Value) == 4), false
	case name == nameListener:
		return finding("listener", len(rec.Value) == 16), true
	case name == namePush:
		return finding("push token", len(rec.Value) > 0 && len(rec.Value) <= maxPushToken), true
	case strings.HasPrefix(name, prefixBlock):
		return finding("blocked handle", len(name) == len(prefixBlock)+16), true
	}
	return notOurs, false
}

// withoutQueue says what is wrong with a mailbox that has no queue. The key goes
// before the queue, so it is looked for again.
func withoutQueue(ctx context.Context, s *store.Stores, id queue.ID) (fault string, err error) {
	if _, err := s.Queue.Stat(ctx, id); !errors.Is(err, queue.ErrNotFound) {
		return "", err
	}
	if there, err := exists(ctx, s.KV, mailboxKey(id, nameReadKey)); err != nil || !there {
		return "", err
	}
	return "has no queue", nil
}

// ownerless reports whether a mailbox has no read key, and none is on its way: a
// relay writes its mark first.
func ownerless(ctx context.Context, s *store.Stores, id queue.ID) (bool, error) {
	if there, err := exists(ctx, s.KV, mailboxKey(id, nameReadKey)); err != nil || there {
		return false, err
	}
	for rec, err := range s.KV.Scan(ctx, unsettledGroup, "") {
		if err != nil {
			return false, err
		}
		if marked, _, ok := parseMark(rec.Value); ok && marked == id {
			return false, nil
		}
	}
	return true, nil
}

// Queue implements store.Inspector.
func (mailboxInspector) Queue(ctx context.Context, s *store.Stores, id queue.ID) (store.Finding, error) {
	if len(id) != queueIDSize {
		return store.Finding{Kind: "queue", Fault: "not of a relay"}, nil
	}
	orphan, err := ownerless(ctx, s, id)
	return store.Finding{Kind: "queue", Orphan: orphan}, err
}

// packageInspector knows pools, and what gateways remember.
type packageInspector struct{ noQueues }

// Record implements store.Inspector.
func (packageInspector) Record(ctx context.Context, s *store.Stores, rec kv.Record) (store.Finding, error) {
	switch g := rec.Key.Group; {
	case len(g) == 2 && g[0] == 'r':
		return store.Finding{Kind: "request that was seen"}, nil
	case len(g) == 2 && g[0] == 't':
		return finding("spent token", len(rec.Value) >= 8), nil
	case len(g) != 33 || g[0] != 'p':
		return notOurs, nil
	}
	f := poolFinding(rec)
	if rec.Key.Name == namePool {
		return f, nil
	}
	there, err := exists(ctx, s.KV, kv.Key{Group: rec.Key.Group, Name: namePool})
	f.Orphan = err == nil && !there
	return f, err
}

func poolFinding(rec kv.Record) store.Finding {
	switch name := rec.Key.Name; {
	case name == namePool:
		p, err := parsePool(rec.Value)
		return finding("pool", err == nil && checkSlots(p.slots))
	case strings.HasPrefix(name, prefixSet):
		_, err := parseSet("", rec.Value)
		return finding("set of KeyPackages", err == nil)
	case strings.HasPrefix(name, prefixFetch):
		return finding("count of fetches", len(rec.Value) == 1)
	case strings.HasPrefix(name, prefixAgain):
		return finding("answer that may be repeated", len(rec.Value) == 32)
	}
	return notOurs
}

// accountInspector knows accounts, connection packages and requests.
type accountInspector struct{ noQueues }

// Record implements store.Inspector. The index of a client whose account has no
// such client is no orphan: its name stays taken.
func (accountInspector) Record(ctx context.Context, s *store.Stores, rec kv.Record) (store.Finding, error) {
	group, user := rec.Key.Group[:1], rec.Key.Group[1:]
	switch {
	case group == "c" && localPart.MatchString(user) && rec.Key.Name == nameIndex:
		return finding("name of a client", len(rec.Value) > 33), nil
	case group == "p" && len(user) == 32 && rec.Key.Name == nameIndex:
		f := finding("index of a connection package", localPart.Match(rec.Value))
		there, err := exists(ctx, s.KV, accountKey(string(rec.Value), nameAccount))
		f.Orphan = f.Fault == "" && err == nil && !there
		return f, err
	case group != "a" || !localPart.MatchString(user):
		return notOurs, nil
	}
	f := accountFinding(rec)
	if rec.Key.Name == nameAccount {
		return f, nil
	}
	// An account comes with its first client, and before everything else.
	there, err := exists(ctx, s.KV, accountKey(user, nameAccount))
	f.Orphan = err == nil && !there
	return f, err
}

func accountFinding(rec kv.Record) store.Finding {
	switch name := rec.Key.Name; {
	case name == nameAccount:
		return store.Finding{Kind: "account"}
	case strings.HasPrefix(name, prefixClient):
		return store.Finding{Kind: "client"}
	case strings.HasPrefix(name, prefixTokens):
		return finding("count of tokens", len(rec.Value) == 4)
	case strings.HasPrefix(name, prefixIssue), strings.HasPrefix(name, prefixPublished):
		return store.Finding{Kind: "answer that may be repeated"}
	case strings.HasPrefix(name, prefixWaiting+"/"):
		return finding("connection request", len(rec.Value) > 32)
	case name == nameLastResort, strings.HasPrefix(name, prefixPackage+"/"):
		return finding("connection package", len(rec.Value) > 0)
	}
	return notOurs
}
