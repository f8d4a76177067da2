package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// deviceMessage is what the devices of a user tell each other. Exactly one field
// is set.
type deviceMessage struct {
	Connections []*connectionState       `json:",omitempty"`
	ConnKeys    map[string]*connKeyState `json:",omitempty"`
	Gone        string                   `json:",omitempty"` // a connection that was ended
	Left        []byte                   `json:",omitempty"` // a room that was left with all devices
	Rooms       []sharedRoom             `json:",omitempty"`
	Leaf        *siblingLeaf             `json:",omitempty"`
	Proof       *siblingProof            `json:",omitempty"`
}

// sharedRoom is a room that the user's other devices may join.
type sharedRoom struct {
	GroupID []byte
	Hub     string
	Peer    string `json:",omitempty"`
	User    string // the user pseudonym in the room
}

// siblingLeaf asks for a proof for the leaf with which a device will join a room
// (SPEC.md R-24).
type siblingLeaf struct {
	GroupID []byte
	Client  string // client pseudonym
	Key     []byte
}

// siblingProof answers siblingLeaf: the proof, the key at rest, and what the room
// is like, so that the hub cannot show the new device another one.
type siblingProof struct {
	GroupID    []byte
	Key        []byte // that the proof is for
	Proof      []byte
	EAR        []byte `json:",omitempty"`
	Wrapper    []byte `json:",omitempty"`
	Epoch      uint64
	TreeHash   []byte
	Transcript []byte
}

// wantedRoom is a room that another device of the user is in and this one is not.
type wantedRoom struct {
	sharedRoom
	Leaf  *storedLeaf   `json:",omitempty"` // that a proof was asked for
	Asked int64         `json:",omitempty"` // Unix seconds
	Tries int           `json:",omitempty"` // how often
	Proof *siblingProof `json:",omitempty"`
}

// askedLately reports whether a proof was asked for and may still come, or has
// not helped so often that the next one has time: after the first ones, which
// others' commits may have spoilt, each is longer in coming.
func (w *wantedRoom) askedLately(now time.Time) bool {
	const atOnce = 8
	if w.Asked == 0 || w.Leaf == nil && w.Tries < atOnce {
		return false
	}
	return now.Unix() <= w.Asked+int64(askAgain/time.Second)<<min(max(w.Tries-atOnce, 0), maxRest)
}

const (
	askAgain       = 10 * time.Minute
	proofFor       = 30 * time.Minute
	connsPerSync   = 16
	maxWantedRooms = 10_000
	maxTold        = 10_000
	maxPoolNext    = 1 << 20
)

// tellDevices queues a message to the user's other devices, in the same step as
// what it is about.
func (c *Client) tellDevices(m *deviceMessage, b batch) error {
	if len(c.account.DeviceRoom) == 0 {
		return nil
	}
	if r := c.rooms[b64(c.account.DeviceRoom)]; r == nil || r.st.Removed || r.st.Forked || r.st.Locked || len(c.tell) >= maxTold {
		return nil // there is nobody to tell it to
	}
	n := uint64(1)
	if len(c.tell) > 0 {
		n = slices.Max(slices.Collect(maps.Keys(c.tell))) + 1
	}
	c.tell[n] = m
	return b.put(recTell+strconv.FormatUint(n, 10), m)
}

// shareRoom tells the other devices of a room that not all of them are in.
func (c *Client) shareRoom(r *room, b batch) error {
	if r.st.Device || len(c.account.DeviceRoom) == 0 {
		return nil
	}
	user, err := r.user()
	if err != nil || c.complete(r, user) {
		return err
	}
	return c.tellDevices(&deviceMessage{Rooms: []sharedRoom{{GroupID: r.st.GroupID, Hub: r.st.Hub, Peer: r.st.Peer, User: user.String()}}}, b)
}

// complete reports whether a room has as many leaves of this user as the user has
// devices.
func (c *Client) complete(r *room, user pseudonym.ID) bool {
	devices := c.devices()
	if devices == nil {
		return true
	}
	leaves := 0
	for _, l := range r.g.Public().Members() {
		if cred, err := credentialOf(l); err == nil && cred.User == user {
			leaves++
		}
	}
	return leaves >= devices.g.Public().Len()
}

// shareAll tells a device that has just come of everything.
func (c *Client) shareAll(b batch) error {
	var conns []*connectionState
	for _, peer := range slices.Sorted(maps.Keys(c.conns)) {
		if conn := c.conns[peer]; conn.Complete {
			conns = append(conns, conn)
		}
	}
	for part := range slices.Chunk(conns, connsPerSync) {
		if err := c.tellDevices(&deviceMessage{Connections: part}, b); err != nil {
			return err
		}
	}
	if len(c.connKeys) > 0 {
		if err := c.tellDevices(&deviceMessage{ConnKeys: c.connKeys}, b); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.rooms)) {
		if r := c.rooms[id]; r.g.Status() == member.Active && !r.st.Removed {
			if err := c.shareRoom(r, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// deviceEvent takes a message of another device of this user.
func (c *Client) deviceEvent(data []byte, b batch) error {
	m := new(deviceMessage)
	if err := json.Unmarshal(data, m); err != nil {
		c.opts.log.Warn("a message of another device was not understood")
		return nil //nolint:nilerr // of a newer version
	}
	var errs []error
	for _, conn := range m.Connections {
		errs = append(errs, c.learnConnection(conn, b))
	}
	for hash, k := range m.ConnKeys {
		if _, ok := c.connKeys[hash]; !ok && k != nil && len(k.Key) == 32 && len(c.connKeys) < maxPackages {
			c.connKeys[hash] = k
			errs = append(errs, b.put(recConnKey+hash, k))
		}
	}
	if m.Gone != "" {
		c.dropConnection(m.Gone, b)
	}
	if w := c.want[b64(m.Left)]; w != nil {
		delete(c.want, b64(m.Left))
		b.del(recWant + b64(m.Left))
	}
	if r := c.rooms[b64(m.Left)]; r != nil && len(m.Left) > 0 {
		errs = append(errs, c.left(r, b))
	}
	for _, s := range m.Rooms {
		errs = append(errs, c.learnRoom(s, b))
	}
	if m.Leaf != nil {
		errs = append(errs, c.proveSibling(m.Leaf, b))
	}
	if p := m.Proof; p != nil {
		if w := c.want[b64(p.GroupID)]; w != nil && w.Leaf != nil && string(w.Leaf.Public) == string(p.Key) {
			w.Proof = p
			errs = append(errs, b.put(recWant+b64(p.GroupID), w))
		}
	}
	return errors.Join(errs...)
}

// learnConnection takes over a connection that another device has made or
// completed.
func (c *Client) learnConnection(conn *connectionState, b batch) error {
	if conn == nil || !conn.wellFormed() {
		return nil
	}
	old := c.conns[conn.Peer]
	if old != nil && old.Complete && string(old.OwnToken) == string(conn.OwnToken) {
		if len(conn.Slots) > 0 && !maps.EqualFunc(conn.Slots, old.Slots, bytes.Equal) {
			old.Slots = conn.Slots
			return b.put(recConn+conn.Peer, old)
		}
		return nil
	}
	conn.Settle, conn.Joining, conn.Unwanted = false, false, nil // the other device's to do
	c.conns[conn.Peer] = conn
	if err := b.put(recConn+conn.Peer, conn); err != nil {
		return err
	}
	if old != nil && old.Complete {
		return nil
	}
	return c.emit(b, Event{Kind: KindConnected, User: conn.Peer, Accepted: time.Now().UTC()})
}

// wellFormed reports whether a connection is one that can be used: another
// device's mistake must not become this one's.
func (s *connectionState) wellFormed() bool {
	peer, err := pseudonym.ParseHandle(s.Peer)
	if err != nil || peer.Kind() != pseudonym.User || !s.Complete || s.PoolNext > maxPoolNext || !seal.ValidDomain(s.PeerProvider) {
		return false
	}
	for _, secret := range [][]byte{s.OwnKey, s.OwnToken, s.UploadKey, s.PoolSeed, s.PeerKey, s.PeerToken} {
		if len(secret) != primitive.SecretSize {
			return false
		}
	}
	return true
}

func (c *Client) learnRoom(s sharedRoom, b batch) error {
	id := b64(s.GroupID)
	if c.rooms[id] != nil || c.want[id] != nil || len(s.GroupID) != pseudonym.GroupIDSize || len(c.want) >= maxWantedRooms {
		return nil
	}
	if _, err := pseudonym.ParseID(s.User); err != nil || !seal.ValidDomain(s.Hub) {
		return nil //nolint:nilerr // not a room
	}
	w := &wantedRoom{sharedRoom: s}
	c.want[id] = w
	return b.put(recWant+id, w)
}

// proveSibling signs for a device of this user that wants to join a room, and
// tells it what the room is like.
func (c *Client) proveSibling(l *siblingLeaf, b batch) error {
	r := c.rooms[b64(l.GroupID)]
	if r == nil || r.st.Device || r.g.Status() != member.Active || r.usable() != nil {
		return nil //nolint:nilerr // a room that is no good to the other device either
	}
	own, err := r.own()
	if err != nil {
		return err
	}
	user, err := r.user()
	if err != nil {
		return err
	}
	id, err := pseudonym.ParseID(l.Client)
	if err != nil {
		return nil //nolint:nilerr // not a leaf
	}
	proof, err := pseudonym.NewSiblingProof(r.st.GroupID, uint32(r.g.OwnLeaf()), uint64(time.Now().Add(proofFor).Unix()), pseudonym.TBS{Client: id, User: user, Key: l.Key}, own)
	if err != nil {
		return err
	}
	raw, err := proof.AppendBinary(nil)
	if err != nil {
		return err
	}
	ctx := r.g.Public().Context()
	return c.tellDevices(&deviceMessage{Proof: &siblingProof{
		GroupID: r.st.GroupID, Key: l.Key, Proof: raw, EAR: r.st.EAR, Wrapper: r.st.Wrapper,
		Epoch: ctx.Epoch, TreeHash: ctx.TreeHash, Transcript: ctx.ConfirmedTranscriptHash,
	}}, b)
}

// syncDevices sends what is queued for the other devices, and joins rooms that
// they are in. mu is held.
func (c *Client) syncDevices(ctx context.Context) error {
	r := c.devices()
	if r == nil {
		return nil
	}
	if err := c.sendTold(ctx, r); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(c.want)) {
		if err := c.pursue(ctx, id, c.want[id]); err != nil {
			return err
		}
	}
	return c.sendTold(ctx, r)
}

// sendTold sends what is queued for the other devices.
func (c *Client) sendTold(ctx context.Context, r *room) error {
	for _, n := range slices.Sorted(maps.Keys(c.tell)) {
		data, err := json.Marshal(c.tell[n])
		if err != nil {
			return err
		}
		if err := c.settle(ctx, r); err != nil {
			return err
		}
		if err := c.sendContent(ctx, r, contentDevice, data); err != nil && !refused(err) {
			return err
		}
		b := make(batch)
		b.del(recTell + strconv.FormatUint(n, 10))
		if err := c.store.Write(b); err != nil {
			return err
		}
		delete(c.tell, n)
	}
	return nil
}

// pursue brings a wanted room nearer: it asks for a proof, or joins with it.
func (c *Client) pursue(ctx context.Context, id string, w *wantedRoom) error {
	b := make(batch)
	switch {
	case c.rooms[id] != nil:
		delete(c.want, id)
		b.del(recWant + id)
	case w.Proof != nil:
		proof := w.Proof
		w.Proof = nil
		err := c.joinSibling(ctx, w, proof)
		if err != nil {
			c.opts.log.Warn("joining a room of another device did not work yet")
			w.Leaf = nil
			return errors.Join(b.put(recWant+id, w), c.store.Write(b))
		}
		delete(c.want, id)
		b.del(recWant + id)
	case !w.askedLately(time.Now()):
		user, err := pseudonym.ParseID(w.User)
		if err != nil {
			return err
		}
		leaf, err := c.makeLeaf(ctx, Suite, user, nil)
		if err != nil {
			return err
		}
		w.Leaf, w.Asked = leaf.stored(), time.Now().Unix()
		w.Tries++
		ask := &deviceMessage{Leaf: &siblingLeaf{GroupID: w.GroupID, Client: leaf.tbs.Client.String(), Key: leaf.tbs.Key}}
		if err := errors.Join(c.tellDevices(ask, b), b.put(recWant+id, w)); err != nil {
			return err
		}
	default:
		return nil
	}
	return c.store.Write(b)
}

// joinSibling joins a room as a further device (SPEC.md ).
func (c *Client) joinSibling(ctx context.Context, w *wantedRoom, p *siblingProof) error {
	var ear primitive.Secret
	var err error
	if len(p.EAR) > 0 {
		if ear, err = secretOf(p.EAR); err != nil {
			return err
		}
	}
	in := entry{hub: w.Hub, groupID: w.GroupID, peer: w.Peer, sibling: true}
	if len(p.Wrapper) > 0 {
		if in.wrapper, err = secretOf(p.Wrapper); err != nil {
			return err
		}
	}
	leaf, err := w.Leaf.leaf()
	if err != nil {
		return err
	}
	signer, err := newLeafSigner(Suite, leaf.signer)
	if err != nil {
		return err
	}
	info := new(hubv1.GroupInfoResponse)
	err = c.do(ctx, call{
		to: hubOf(w.Hub), method: seal.MethodGroupInfo, groupID: w.GroupID, ear: ear, kind: seal.AuthNewLeaf, signer: signer,
		body: &hubv1.GroupInfoRequest{
			SiblingProof: p.Proof, ClientPseudonym: leaf.tbs.Client.String(), UserPseudonym: leaf.tbs.User.String(), SignatureKey: leaf.tbs.Key,
		},
	}, info)
	if err != nil {
		return err
	}
	o := memberOptions()
	g, err := mls.NewPublicGroup(info.GetGroupInfo(), info.GetRatchetTree(), &o.Options)
	if err != nil {
		return err
	}
	if at := g.Context(); string(at.GroupID) != string(w.GroupID) || at.Epoch != p.Epoch || string(at.TreeHash) != string(p.TreeHash) || string(at.ConfirmedTranscriptHash) != string(p.Transcript) {
		return mmrerr.WrongEpoch // or not the sibling's room
	}
	policy, _, err := c.checkRoom(w.Hub, g)
	if err != nil {
		return err
	}
	aad, err := siblingAAD(in, policy, g, info.GetGroupInfo(), leaf, p.Proof)
	if err != nil {
		return err
	}
	joining, staged, err := member.JoinExternal(leaf.identity, info.GetGroupInfo(), member.ExternalOptions{Options: memberOptions(), Tree: info.GetRatchetTree(), AAD: aad})
	if err != nil {
		return err
	}
	r := newRoom(in, ear, leaf, joining, staged)
	return c.commitJoin(ctx, r, in, info, &foundRoom{policy: policy, epoch: g.Epoch()}, signer, staged)
}

// siblingAAD is the authenticated data of a further device's external commit:
// its link key for the members, and the sibling's proof.
func siblingAAD(in entry, policy *pseudonym.Room, g *mls.PublicGroup, groupInfo []byte, leaf *newLeaf, proof []byte) ([]byte, error) {
	items, err := linkItems(policy, leaf.tbs, leaf.linkKey, stored(in.wrapper), g, groupInfo)
	if err != nil {
		return nil, err
	}
	return append(items, pseudonym.AADItem{Type: pseudonym.AADSiblingProof, Data: proof}).AppendBinary(nil)
}
