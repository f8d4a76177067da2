package wire

import "slices"

// Limits bounds what is parsed and what a group holds. A zero field has the
// default given beside it; sizes are bytes. Every limit is checked before the
// memory it guards is allocated.
type Limits struct {
	Message       int // one MLSMessage: 2 MiB
	Tree          int // a ratchet tree: 16 MiB
	Leaves        int // leaves of a tree, blank ones included: 16,384
	Proposals     int // proposals in a commit: 4,096
	Stored        int // stored proposals per epoch: 1,024
	StoredBytes   int // size of all stored proposals of an epoch: 2 MiB
	StoredPerLeaf int // stored proposals of one sender and epoch: 16
	Extensions    int // extensions in a list: 64
	Extension     int // one extension, ratchet_tree excepted: 64 KiB
	Capabilities  int // values in one list of capabilities: 256
	Credential    int // a credential: 16 KiB
	Certificates  int // certificates in a chain: 8
	GroupID       int // a group id: 255
	AAD           int // authenticated data: 64 KiB
	PSKs          int // PSKs in a commit or Welcome: 16

	// MaxLifetime is the longest lifetime, in seconds, of a key package that
	// is added (RFC 9420 §7.2): 120 days. A negative value turns the check
	// off.
	MaxLifetime int64

	Generations       int // jump of a generation within a ratchet: 1,024
	SkippedPerSender  int // message keys kept for late messages of a sender: 64
	SkippedPerEpoch   int // the same for all senders of an epoch: 4,096
	PastEpochs        int // past epochs whose messages are still read: 3
	ResumptionSecrets int // resumption secrets kept: 8

	// CustomProposals lists the proposal types beyond those of RFC 9420 that
	// the application understands: a type and an opaque<V> body. A proposal
	// of any other type is refused.
	CustomProposals []ProposalType
}

// WithDefaults returns a copy of l, which may be nil, without zero fields.
func (l *Limits) WithDefaults() *Limits {
	var v Limits
	if l != nil {
		v = *l
		v.CustomProposals = slices.Clone(l.CustomProposals)
	}
	for _, d := range []struct {
		field *int
		value int
	}{
		{&v.Message, 2 << 20},
		{&v.Tree, 16 << 20},
		{&v.Leaves, 16384},
		{&v.Proposals, 4096},
		{&v.Stored, 1024},
		{&v.StoredBytes, 2 << 20},
		{&v.StoredPerLeaf, 16},
		{&v.Extensions, 64},
		{&v.Extension, 64 << 10},
		{&v.Capabilities, 256},
		{&v.Credential, 16 << 10},
		{&v.Certificates, 8},
		{&v.GroupID, 255},
		{&v.AAD, 64 << 10},
		{&v.PSKs, 16},
		{&v.Generations, 1024},
		{&v.SkippedPerSender, 64},
		{&v.SkippedPerEpoch, 4096},
		{&v.PastEpochs, 3},
		{&v.ResumptionSecrets, 8},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if v.MaxLifetime == 0 {
		v.MaxLifetime = 120 * 24 * 3600
	}
	return &v
}

// custom reports whether the application registered the proposal type.
func (l *Limits) custom(t ProposalType) bool { return slices.Contains(l.CustomProposals, t) }

// Unlimited returns limits for parsing again what was parsed within limits
// before. They know no custom proposals.
func Unlimited() *Limits { return unlimited }
