package suite

import "sync/atomic"

// Op is an operation whose number decides what a step costs.
type Op uint8

// The operations that Count counts.
const (
	OpSeal   Op = iota // HPKE encryption or encapsulation
	OpOpen             // HPKE decryption or decapsulation
	OpDerive           // HPKE key pair
	OpSign
	OpVerify
	OpHash // transcripts, tree hashes, references
	numOps
)

// Counts holds how often each operation ran, by Op.
type Counts [numOps]int64

// testOnlyCounter counts while a test lets it; it is nil otherwise.
var testOnlyCounter atomic.Pointer[[numOps]atomic.Int64]

// Count is for tests of how costs grow, which no clock can tell. It returns
// how many operations of all suites ran while f did, in the whole process.
func Count(f func()) (n Counts) {
	var c [numOps]atomic.Int64
	testOnlyCounter.Store(&c)
	defer testOnlyCounter.Store(nil)
	f()
	for op := range c {
		n[op] = c[op].Load()
	}
	return n
}

func counted(op Op) {
	if c := testOnlyCounter.Load(); c != nil {
		c[op].Add(1)
	}
}
