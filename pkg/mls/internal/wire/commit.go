package wire

import (
	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Commit starts a new epoch (RFC 9420 §12.4).
type Commit struct {
	Proposals []ProposalOrRef
	Path      *UpdatePath // nil if absent
}

// ProposalOrRef is a proposal by value, or by the hash of its message.
// Exactly one field is set.
type ProposalOrRef struct {
	Proposal  *Proposal
	Reference []byte
}

// UpdatePath replaces the committer's leaf and the keys above it (RFC 9420
// §7.6).
type UpdatePath struct {
	Leaf  *LeafNode
	Nodes []UpdatePathNode
}

// UpdatePathNode is the new public key of one node of the filtered direct
// path, and its path secret for everybody under the copath node.
type UpdatePathNode struct {
	EncryptionKey []byte
	Secrets       []HPKECiphertext
}

// HPKECiphertext is the output of EncryptWithLabel (RFC 9420 §5.1.3).
type HPKECiphertext struct {
	KEMOutput  []byte
	Ciphertext []byte
}

// ParseCommit reads exactly one Commit structure.
func ParseCommit(b []byte, l *Limits) (*Commit, error) {
	return parse(b, l.Message, l, readCommit)
}

// ParseUpdatePath reads exactly one UpdatePath structure.
func ParseUpdatePath(b []byte, l *Limits) (*UpdatePath, error) {
	return parse(b, l.Message, l, readUpdatePath)
}

func readCommit(r *reader) *Commit {
	c := &Commit{Proposals: list(r, r.l.Proposals, readProposalOrRef)}
	if r.Optional() {
		c.Path = readUpdatePath(r)
	}
	return c
}

func readProposalOrRef(r *reader) (p ProposalOrRef) {
	switch r.Uint8() {
	case 1:
		p.Proposal = readProposal(r)
	case 2:
		p.Reference = r.opaque()
	default:
		r.malformed()
	}
	return p
}

func readUpdatePath(r *reader) *UpdatePath {
	return &UpdatePath{
		Leaf: readLeafNode(r),
		// A tree of 2^32 leaves has a path of 32 nodes.
		Nodes: list(r, 32, func(r *reader) UpdatePathNode {
			return UpdatePathNode{
				EncryptionKey: r.opaque(),
				Secrets:       list(r, r.l.Leaves, readHPKECiphertext),
			}
		}),
	}
}

func readHPKECiphertext(r *reader) HPKECiphertext {
	return HPKECiphertext{KEMOutput: r.opaque(), Ciphertext: r.opaque()}
}

// AppendTo appends the encoding. Proposals and the leaf must be sealed.
func (c *Commit) AppendTo(b []byte) []byte {
	b = appendList(b, c.Proposals, func(b []byte, p ProposalOrRef) []byte {
		if p.Proposal != nil {
			return append(append(b, 1), p.Proposal.raw...)
		}
		return codec.AppendVector(append(b, 2), p.Reference)
	})
	b = codec.AppendOptional(b, c.Path != nil)
	if c.Path != nil {
		b = c.Path.AppendTo(b)
	}
	return b
}

// AppendTo appends the encoding. The leaf must be sealed.
func (p *UpdatePath) AppendTo(b []byte) []byte {
	b = append(b, p.Leaf.raw...)
	return appendList(b, p.Nodes, func(b []byte, n UpdatePathNode) []byte {
		b = codec.AppendVector(b, n.EncryptionKey)
		return appendList(b, n.Secrets, func(b []byte, c HPKECiphertext) []byte { return c.AppendTo(b) })
	})
}

// AppendTo appends the encoding.
func (c HPKECiphertext) AppendTo(b []byte) []byte {
	return codec.AppendVector(codec.AppendVector(b, c.KEMOutput), c.Ciphertext)
}
