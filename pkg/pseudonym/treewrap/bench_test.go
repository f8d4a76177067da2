package treewrap_test

import (
	"strconv"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

// BenchmarkCommit is the hub's part of a membership commit.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			w := newRoom(b, n)
			w.next()
			w.set(uint32(n/3), pseudonym.KeyRequired)
			d := w.write(treewrap.Write{})
			for b.Loop() {
				if _, err := w.hub.Commit(w.epoch, w.leaves, nil, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead is what a joiner does.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			w := newRoom(b, n)
			for b.Loop() {
				if _, err := treewrap.Read(w.gid, w.hub, w.r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
