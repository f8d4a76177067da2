package client

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// contentKind says whom the body of a message is for.
type contentKind uint8

const (
	contentText   contentKind = 1 // the application
	contentDevice contentKind = 2 // another device of the same user
)

const contentVersion = 1

// content is the application_data of a message (docs/spec.md §11):
//
//	struct { uint8 version = 1; uint8 kind; opaque salt[16]; opaque sender<V>; opaque room_uri<V>;
//	         uint64 seq; opaque chain[32]; opaque body<V>; } Content;
//
// Sender and room make it fit for franking (SPEC.md R-130); seq and chain are
// the sender's place in the room's order, by which members notice that the hub
// shows them different rooms.
type content struct {
	kind   contentKind
	salt   [seal.FrankSaltSize]byte
	sender pseudonym.ID
	room   string
	seq    uint64
	chain  [32]byte
	body   []byte
}

func (m *content) marshal() []byte {
	b := []byte{contentVersion, byte(m.kind)}
	b = append(b, m.salt[:]...)
	b = codec.AppendVector(b, m.sender.String())
	b = codec.AppendVector(b, m.room)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	b = append(b, m.chain[:]...)
	return codec.AppendVector(b, m.body)
}

func parseContent(b []byte) (*content, error) {
	r := codec.NewReader(b)
	version := r.Uint8()
	m := &content{kind: contentKind(r.Uint8())}
	r.Copy(m.salt[:])
	sender := string(r.Vector(512))
	m.room = string(r.Vector(1024))
	m.seq = r.Uint64()
	r.Copy(m.chain[:])
	m.body = r.Vector(len(b))
	if r.Done() != nil || version != contentVersion {
		return nil, mmrerr.Malformed
	}
	var err error
	m.sender, err = pseudonym.ParseID(sender)
	return m, err
}

// newContent makes the content of a message and its authenticated data.
func (r *room) newContent(kind contentKind, body []byte) (data, aad []byte, err error) {
	user, err := r.user()
	if err != nil {
		return nil, nil, err
	}
	m := &content{kind: kind, salt: [seal.FrankSaltSize]byte(random(seal.FrankSaltSize)), sender: user, room: r.st.uri(), seq: r.st.Seq, body: body}
	copy(m.chain[:], r.st.Chain)
	data = m.marshal()
	tag := seal.FrankingTag(m.salt, data)
	aad, err = pseudonym.AAD{{Type: pseudonym.AADFrank, Data: tag[:]}}.AppendBinary(nil)
	return data, aad, err
}

// openContent checks a message's content against who sent it and what the hub
// attested (SPEC.md R-130). A message that could not be reported is refused.
func (r *room) openContent(e *seal.Event, body *seal.MessageEvent, ev *mls.Event, hub primitive.PublicKey) (*content, error) {
	m, err := parseContent(ev.Data)
	if err != nil {
		return nil, err
	}
	cred, err := credentialOf(ev.Leaf)
	if err != nil {
		return nil, err
	}
	if m.sender != cred.User || m.room != r.st.uri() || body.Frank == nil {
		return nil, ErrUnverified
	}
	aad, err := pseudonym.ParseAAD(ev.AAD)
	if err != nil {
		return nil, err
	}
	tag := seal.FrankingTag(m.salt, ev.Data)
	if got, ok := aad.Get(pseudonym.AADFrank); !ok || string(got) != string(tag[:]) {
		return nil, ErrUnverified
	}
	return m, body.Frank.Verify(hub, seal.FrankContext{SenderURI: m.sender.String(), RoomURI: m.room, AcceptedMS: e.AcceptedMS})
}

// chainPoint is a place in a room's hash chain.
type chainPoint struct {
	Seq   uint64
	Chain []byte
}

// maxChains is how many places a client remembers to compare with others'.
const maxChains = 256

// remember keeps the current place in the chain.
func (r *room) remember() {
	r.st.Chains = append(r.st.Chains, chainPoint{r.st.Seq, r.st.Chain})
	if n := len(r.st.Chains); n > maxChains {
		r.st.Chains = r.st.Chains[n-maxChains:]
	}
}

// forkedFrom reports whether a member saw another history than we did: two
// values of the chain at one place (SPEC.md R-74).
func (r *room) forkedFrom(seq uint64, chain [32]byte) bool {
	for _, p := range r.st.Chains {
		if p.Seq == seq {
			return string(p.Chain) != string(chain[:])
		}
	}
	return false
}
