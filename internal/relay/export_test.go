package relay

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Settle runs one sweep as at that time.
func (r *Relay) Settle(ctx context.Context, now time.Time) error { return r.settle(ctx, now) }

// Methods are the names of the methods behind the gateway.
func (r *Relay) Methods() []string { return slices.Sorted(maps.Keys(r.methods())) }

// MailboxGroup is where a mailbox's records are.
func MailboxGroup(id []byte) string { return mailboxKey(queue.ID(id), "").Group }

// PoolGroup is where a pool's records are.
func PoolGroup(id []byte) string { return poolKey(id, "").Group }

// AccountGroup is where a user's records are.
func AccountGroup(user string) string { return accountKey(user, "").Group }

// Names of records, and times.
const (
	UnsettledGroup = unsettledGroup
	NameReadKey    = nameReadKey
	NameGone       = nameGone
	NamePool       = namePool
	NameAccount    = nameAccount
	NameIndex      = nameIndex
	NameListener   = nameListener
	NamePush       = namePush
	PrefixBlock    = prefixBlock
	PrefixSet      = prefixSet
	PrefixPackage  = prefixPackage + "/"
	PrefixWaiting  = prefixWaiting + "/"
	SettleAfter    = settleAfter
	GoneFor        = goneFor
	MaxBatch       = maxBatch
)
