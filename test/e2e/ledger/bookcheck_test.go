package ledger_test

import (
	"testing"
	"time"
)

// TestBookFinds: the ledger notices everything that it says is not there.
func TestBookFinds(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(time.Hour)
	fresh := func() (b *book, m1, m2 string) {
		b = newBook()
		b.seat("r", "a", true)
		b.seat("r", "b", true)
		b.seat("r", "g", false)
		m1, m2 = b.sending("r", "a", 1), b.sending("r", "a", 2)
		b.accepted(m1, now)
		b.accepted(m2, now)
		return b, m1, m2
	}
	type counts struct{ lost, duplicated, disorder, other int }
	for name, x := range map[string]struct {
		do   func(b *book, m1, m2 string)
		want counts
	}{
		"all is well": {func(b *book, m1, m2 string) { b.got("r", "b", m1, 5, now); b.got("r", "b", m2, 6, now) }, counts{}},
		"one is lost": {func(b *book, m1, _ string) { b.got("r", "b", m1, 5, now) }, counts{lost: 1}},
		"one comes twice": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 6, now)
			b.got("r", "b", m2, 7, now)
		}, counts{duplicated: 2, disorder: 1}}, // twice, under two numbers, after itself
		"numbers fall":     {func(b *book, m1, m2 string) { b.got("r", "b", m1, 6, now); b.got("r", "b", m2, 5, now) }, counts{disorder: 1}},
		"a sender's order": {func(b *book, m1, m2 string) { b.got("r", "b", m2, 5, now); b.got("r", "b", m1, 6, now) }, counts{disorder: 1}},
		"two histories": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 6, now)
			b.came("r", "g", 4)
			b.got("r", "g", m2, 5, now)
			b.unread("g")
		}, counts{duplicated: 1, disorder: 1}},
		"nobody sent it": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 6, now)
			b.got("r", "b", "forged", 7, now)
		}, counts{other: 1}},
		"an unknown outcome that did not arrive": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 6, now)
			b.sending("r", "a", 3)
		}, counts{}},
		"an unknown outcome that some got": {func(b *book, m1, m2 string) {
			m3 := b.sending("r", "a", 3)
			b.seat("r", "c", true)
			for i, m := range []string{m1, m2, m3} {
				b.got("r", "b", m, uint64(5+i), now)
				if m != m3 {
					b.got("r", "c", m, uint64(5+i), now)
				}
			}
		}, counts{lost: 1}},
		"a guest's hole": {func(b *book, m1, m2 string) {
			m3 := b.sending("r", "a", 3)
			b.came("r", "g", 4)
			for i, m := range []string{m1, m2, m3} {
				b.got("r", "b", m, uint64(5+i), now)
			}
			b.got("r", "g", m1, 5, now)
			b.got("r", "g", m3, 7, now)
		}, counts{lost: 1}},
		"a guest cannot read what is older": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 6, now)
			b.came("r", "g", 4)
			b.got("r", "g", m2, 6, now)
			b.unread("g")
		}, counts{}},
		"a guest was not even given it": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 6, now)
			b.came("r", "g", 4)
			b.got("r", "g", m2, 6, now)
		}, counts{lost: 1}},
		"a guest is owed nothing after it went": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 7, now)
			b.came("r", "g", 4)
			b.got("r", "g", m1, 5, now)
			b.went("r", "g", 6)
		}, counts{}},
		"a later number was seen before an earlier one was sent": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 7, now)
			b.seat("r", "c", true)
			b.entries[m1].accepted, b.entries[m2].begun = now, now.Add(time.Minute)
			b.entries[m2].accepted = now.Add(2 * time.Minute)
			b.got("r", "c", m1, 5, now)
			b.got("r", "c", m2, 7, now)
		}, counts{disorder: 1}},
		"a member is removed": {func(b *book, m1, m2 string) {
			b.got("r", "b", m1, 5, now)
			b.got("r", "b", m2, 6, now)
			b.went("r", "b", 7)
		}, counts{other: 1}},
	} {
		b, m1, m2 := fresh()
		x.do(b, m1, m2)
		v := b.judge()
		if got := (counts{len(v.lost), len(v.duplicated), len(v.disorder), len(v.other)}); got != x.want {
			t.Errorf("%s: %+v, want %+v: %v %v %v %v", name, got, x.want, v.lost, v.duplicated, v.disorder, v.other)
		}
	}
}
