package member

import (
	"bytes"
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// A saved state is two blobs, which belong together: the public one holds the
// tree and changes with handshakes, the private one holds every secret and
// changes with every message. Each is a magic number, a version, and sections
// in ascending order, id and opaque<V>. A section with the top bit of its id set
// may be ignored by a reader that does not know it; any other is an error.
const (
	publicMagic  = "mlsG"
	privateMagic = "mlsM"
	stateVersion = 1

	publicState   = 1 // group.State: current, last, or what an external join starts from
	publicPast    = 2 // context and changed leaves of each past epoch, newest first
	publicPending = 3 // the staged commit and its Welcome
	publicLast    = publicPending

	privateHead       = 1 // status, counter, number of resumption secrets, confirmation tag of publicState
	privateEpoch      = 2 // the epoch's secrets, keys, updates and secret tree
	privatePast       = 3 // of each past epoch: sender data secret and secret tree
	privateResumption = 4 // of each past epoch kept: number and secret
	privatePending    = 5 // the staged epoch, as privateEpoch, with a hash of its commit
	privateLast       = privatePending

	sectionOptional = 0x8000
)

var errState = wire.RefuseAs(wire.RuleState, wire.ClassDecode)

// AppendPublic appends the public part of the state: it changes with proposals,
// staged commits and epochs, not with messages.
func (g *Group) AppendPublic(b []byte) ([]byte, error) {
	if g.retired.Load() {
		return nil, ErrWiped
	}
	b = append(append(b, publicMagic...), stateVersion)
	b = section(b, publicState, g.public().AppendTo)
	if len(g.past) > 0 {
		b = section(b, publicPast, func(b []byte) []byte {
			for _, p := range g.past {
				b = p.appendPublic(b)
			}
			return b
		})
	}
	if p := g.pending; p != nil {
		b = section(b, publicPending, func(b []byte) []byte {
			b = codec.AppendVector(b, p.auth.Raw())
			b = codec.AppendVector(b, p.commit)
			return codec.AppendVector(b, p.welcome)
		})
	}
	return b, nil
}

// AppendPrivate appends the private part of the state, which changes with every
// step. The caller encrypts it, and stores it before a message leaves.
func (g *Group) AppendPrivate(b []byte) ([]byte, error) {
	if g.retired.Load() {
		return nil, ErrWiped
	}
	b = append(append(b, privateMagic...), stateVersion)
	b = section(b, privateHead, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint64(append(b, byte(g.Status())), g.counter)
		b = binary.BigEndian.AppendUint16(b, uint16(len(g.resumption)))
		return codec.AppendVector(b, g.public().ConfirmationTag())
	})
	if g.cur != nil {
		b = section(b, privateEpoch, g.cur.append)
	}
	if len(g.past) > 0 {
		b = section(b, privatePast, func(b []byte) []byte {
			for _, p := range g.past {
				b = p.tree.AppendBinary(secret.AppendSecret(b, p.senderData))
			}
			return b
		})
	}
	if len(g.resumption) > 0 {
		b = section(b, privateResumption, func(b []byte) []byte {
			for _, r := range g.resumption {
				b = secret.AppendSecret(binary.BigEndian.AppendUint64(b, r.epoch), r.secret)
			}
			return b
		})
	}
	if p := g.pending; p != nil {
		b = section(b, privatePending, func(b []byte) []byte {
			b = codec.AppendVector(b, p.base.Suite().Hash(p.commit))
			return p.next.append(b)
		})
	}
	return b, nil
}

func section(b []byte, id uint16, f func(b []byte) []byte) []byte {
	return codec.AppendVectorFunc(binary.BigEndian.AppendUint16(b, id), f)
}

func (e *epoch) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(e.own))
	b = e.secrets.AppendBinary(b)
	b = e.keys.AppendBinary(b)
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, u := range e.updates {
			b = codec.AppendVector(b, u.public)
			b = secret.AppendSecret(b, u.private)
			b = codec.AppendVector(b, u.signer.Public())
		}
		return b
	})
	return e.tree.AppendBinary(b)
}

func (p *past) appendPublic(b []byte) []byte {
	b = codec.AppendVector(b, p.context.Raw())
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, i := range sortedLeaves(p.leaves) {
			b = binary.BigEndian.AppendUint32(b, uint32(i))
			leaf := p.leaves[i]
			b = codec.AppendOptional(b, leaf != nil)
			if leaf != nil {
				b = codec.AppendVector(b, leaf.Raw())
			}
		}
		return b
	})
}

// ParseGroup reads what AppendPublic and AppendPrivate wrote. signer returns the
// Signer for a public key: that of the own leaf, and those that a staged commit
// or an own Update may bring; see Signers. The bytes are parsed as strictly as
// messages, but the leaf signatures of the tree are not verified again. A staged
// commit is checked again in full, so that Rules.Commit sees it once more.
func ParseGroup(public, private []byte, signer func(publicKey []byte) mls.Signer, o *Options) (*Group, error) {
	pub, err := sections(public, publicMagic, publicLast)
	if err != nil {
		return nil, err
	}
	priv, err := sections(private, privateMagic, privateLast)
	if err != nil {
		return nil, err
	}
	state, err := group.ParseState(pub[publicState], &o.Options)
	if err != nil {
		return nil, err
	}
	l := &loader{state: state, signer: signer, opts: o}
	g := newGroup(o, nil)
	status, resumptions, err := l.head(priv[privateHead], g)
	if err != nil {
		return nil, err
	}
	// Each status has exactly its sections.
	for _, want := range []struct{ have, want bool }{
		{priv[privateEpoch] != nil, status == Active},
		{priv[privatePast] != nil, pub[publicPast] != nil},
		{priv[privatePending] != nil, pub[publicPending] != nil},
		{status == Joining && pub[publicPending] == nil, false},
		{status != Active && (pub[publicPast] != nil || priv[privateResumption] != nil), false},
		{status == Removed && pub[publicPending] != nil, false},
		{priv[privateResumption] != nil, resumptions > 0},
	} {
		if want.have != want.want {
			return nil, errState
		}
	}
	switch status {
	case Active:
		if err := l.current(priv[privateEpoch], g); err != nil {
			return nil, err
		}
		if err := l.history(pub[publicPast], priv[privatePast], priv[privateResumption], g); err != nil {
			return nil, err
		}
		if len(g.resumption) != resumptions {
			return nil, errState
		}
	case Removed:
		g.last = state
	}
	if pub[publicPending] != nil {
		if err := l.pending(pub[publicPending], priv[privatePending], g); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// sections splits a blob. The values alias it.
func sections(b []byte, magic string, last uint16) (map[uint16][]byte, error) {
	r := codec.NewReader(bytes.Clone(b))
	if string(r.Bytes(len(magic))) != magic || r.Uint8() != stateVersion {
		return nil, errState
	}
	found := map[uint16][]byte{}
	for previous := uint16(0); !r.Empty(); {
		id, v := r.Uint16(), r.Vector(codec.MaxVector)
		if r.Err() != nil || id <= previous || id > last && id < sectionOptional {
			return nil, errState
		}
		previous, found[id] = id, v
	}
	return found, nil
}
