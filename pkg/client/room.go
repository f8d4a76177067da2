package client

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/leafcheck"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// room is one room with its MLS state.
type room struct {
	st   roomState
	g    *member.Group
	view *treewrap.View // of the link key tree; nil: static scheme, or not read yet

	revealed map[uint32]revealed // credentials opened lately
	lookup   *seal.Lookup        // of the present K and later ones; nil: not needed yet

	confirmed string    // hash of the own commit that made the current epoch
	upkeepAt  time.Time // when link keys are to be read or refreshed; zero: no need
	removeAt  time.Time // when the leave of others is to be carried out; zero: no need
	restUntil time.Time // no upkeep before, since it failed
	goneSince time.Time // since when the hub says that it does not know our leaf; zero: it does
	failures  int       // of upkeep, one after another
}

func (r *room) id() string { return b64(r.st.GroupID) }

func memberOptions() member.Options {
	return member.Options{Options: mls.Options{Rules: leafcheck.Rules{}, Limits: mls.Limits{MaxLifetime: -1}}}
}

func (c *Client) loadRooms(m map[string][]byte) error {
	var failed error
	err := each(m, recRoom, func(id string, st *roomState) {
		r := &room{st: *st}
		o := memberOptions()
		var err error
		if r.g, err = member.ParseGroup(m[recPublic+id], m[recPrivate+id], r.signer, &o); err != nil {
			failed = fmt.Errorf("client: reading a room: %w", err)
			return
		}
		if r.view, err = st.Wrap.view(st.GroupID, st.LinkKeys); err != nil {
			failed = fmt.Errorf("client: reading the link keys of a room: %w", err)
			return
		}
		c.rooms[id] = r
	})
	if err != nil {
		return err
	}
	return failed
}

// signer returns the signer of one of the room's own leaf keys.
func (r *room) signer(public []byte) mls.Signer {
	raw, ok := r.st.Signers[b64(public)]
	if !ok {
		return nil
	}
	k, err := member.NewSigner(mls.CipherSuite(r.st.Suite), raw)
	if err != nil {
		return nil
	}
	return k
}

// leafSigner signs requests to the hub with a leaf's key.
type leafSigner struct {
	signer mls.Signer
	public primitive.PublicKey
}

func newLeafSigner(suite mls.CipherSuite, s mls.Signer) (leafSigner, error) {
	alg, ok := primitive.SuiteAlgorithm(uint16(suite))
	if !ok {
		return leafSigner{}, mmrerr.WireFormat
	}
	pub, err := primitive.ParsePublicKey(alg, s.Public())
	return leafSigner{s, pub}, err
}

func (l leafSigner) Public() primitive.PublicKey { return l.public }

func (l leafSigner) SignWithLabel(label string, content []byte) ([]byte, error) {
	return mls.SignWithLabel(l.signer, label, content)
}

// own returns the signer of the room's current own leaf.
func (r *room) own() (leafSigner, error) {
	leaf := r.g.Public().Leaf(r.g.OwnLeaf())
	if leaf == nil {
		return leafSigner{}, ErrRemoved
	}
	return newLeafSigner(r.g.Public().Suite(), r.signer(leaf.SignatureKey))
}

// ownKey is the signature key of the current own leaf.
func (r *room) ownKey() string {
	if leaf := r.g.Public().Leaf(r.g.OwnLeaf()); leaf != nil {
		return string(leaf.SignatureKey)
	}
	return ""
}

func (r *room) policy() (*pseudonym.Room, error) {
	data, ok := r.g.Public().Extension(mls.ExtensionType(pseudonym.ExtensionRoom))
	if !ok {
		return nil, ErrUnverified
	}
	return pseudonym.ParseRoom(data)
}

// credential returns the pseudonymous credential of a leaf.
func credentialOf(l *mls.LeafNode) (pseudonym.Credential, error) {
	return pseudonym.ParseCredential(uint16(l.Credential.Type), l.Credential.Body)
}

// save adds the room to a batch. public says that the epoch changed.
func (r *room) save(b batch, public bool) error {
	if err := b.put(recRoom+r.id(), &r.st); err != nil {
		return err
	}
	priv, err := r.g.AppendPrivate(nil)
	if err != nil {
		return err
	}
	b[recPrivate+r.id()] = priv
	if !public {
		return nil
	}
	pub, err := r.g.AppendPublic(nil)
	if err != nil {
		return err
	}
	b[recPublic+r.id()] = pub
	return nil
}

func (r *room) deliveryKey() seal.DeliveryKey {
	k, err := primitive.ParseSecret(r.st.K)
	if err != nil {
		return seal.DeliveryKey{}
	}
	return seal.StoredDeliveryKey(r.st.Epoch, k)
}

// setK moves K on and keeps the old one for re-deliveries (SPEC.md R-75).
func (r *room) setK(k seal.DeliveryKey, now time.Time) {
	r.st.PrevK, r.st.PrevEpoch, r.st.PrevUntil = r.st.K, r.st.Epoch, now.Add(prevKFor).Unix()
	r.st.K, r.st.Epoch = slices.Clone(k.Secret().Bytes()), k.Epoch()
}

const prevKFor = 10 * time.Minute

// prune forgets signers and link keys that no leaf needs any more (SPEC.md R-7).
func (r *room) prune() {
	keep := make(map[string]bool)
	present := make(map[uint32]bool)
	own := r.g.OwnLeaf()
	for i, l := range r.g.Public().Members() {
		present[uint32(i)] = true
		if i == own {
			keep[b64(l.SignatureKey)] = true
		}
	}
	if s, ok := r.g.Pending(); ok {
		if l := s.Public().Leaf(s.OwnLeaf()); l != nil {
			keep[b64(l.SignatureKey)] = true
		}
	}
	for k := range r.st.Signers {
		if !keep[k] {
			delete(r.st.Signers, k)
		}
	}
	for i := range r.st.LinkKeys {
		if !present[i] {
			delete(r.st.LinkKeys, i)
			delete(r.st.Seen, i)
		}
	}
}

// find finds a room by its URI or id, whatever its state; nil if there is none.
func (c *Client) find(uri string) *room {
	if _, groupID, err := pseudonym.ParseRoomURI(uri); err == nil {
		return c.rooms[b64(groupID)]
	}
	return c.rooms[uri]
}

// lookup finds a room in which this client can do something.
func (c *Client) lookup(uri string) (*room, error) {
	r := c.find(uri)
	if r == nil {
		return nil, ErrNoRoom
	}
	return r, r.usable()
}

// usable says why nothing may be sent to the room, if so. What an event brings
// may change it: ask again after every catch-up, before anything is sent.
func (r *room) usable() error {
	switch {
	case r.st.Removed:
		return ErrRemoved
	case r.st.Suspect:
		return ErrSuspect
	case r.st.Stuck != nil:
		return ErrStuck
	case r.st.Forked:
		return ErrForked
	case r.st.Locked:
		return ErrLocked
	case r.g.Status() != member.Active:
		return ErrNoRoom
	}
	return nil
}

// RoomInfo describes a room to the application.
type RoomInfo struct {
	// Room is the room's URI.
	Room string
	// Hub is the hub's domain.
	Hub string
	// Epoch is the room's MLS epoch.
	Epoch uint64
	// Seq is the number of the room's last event that this client has.
	Seq uint64
	// Members are the members, in the order of their leaves.
	Members []MemberInfo
	// Removed says that this client is no longer a member, Forked that the hub
	// showed it two histories, Locked that nobody can compute the room's key at the
	// hub, Stuck that a commit could not be processed, Suspect that hub and sender
	// of a commit broke the room's rules, Gone that the hub has said for an hour that
	// this client is not in the room.
	Removed, Forked, Locked, Stuck, Suspect, Gone bool
}

// MemberInfo is one member's leaf.
type MemberInfo struct {
	// Leaf is the leaf index.
	Leaf uint32
	// User and Device are the verified identifiers, empty if Verified is false.
	User, Device string
	// Verified says that the credential was opened and its chain leads to the CA
	// of its provider (SPEC.md R-4).
	Verified bool
	// Identity says how sure it is who this is.
	Identity Identity
	// Shared says that the same real user appears under another pseudonym too.
	Shared bool
	// Pseudonym is the user pseudonym that the hub knows.
	Pseudonym string
	// Role is the role in the room.
	Role string
	// Own marks this client's leaf.
	Own bool
}

// Rooms lists the rooms, without connection rooms.
func (c *Client) Rooms() []RoomInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []RoomInfo
	for _, r := range c.rooms {
		if r.st.Peer == "" && !r.st.Device && r.g.Status() != member.Joining {
			out = append(out, c.info(r))
		}
	}
	slices.SortFunc(out, func(a, b RoomInfo) int {
		switch {
		case a.Room < b.Room:
			return -1
		case a.Room > b.Room:
			return 1
		}
		return 0
	})
	return out
}

// Room describes one room.
func (c *Client) Room(uri string) (RoomInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.find(uri)
	if r == nil || r.g.Status() == member.Joining {
		return RoomInfo{}, ErrNoRoom
	}
	return c.info(r), nil
}

var roleNames = map[pseudonym.Role]string{
	pseudonym.Observer: "observer", pseudonym.Member: "member", pseudonym.Moderator: "moderator", pseudonym.Admin: "admin",
}

func (c *Client) info(r *room) RoomInfo {
	info := RoomInfo{Room: r.st.uri(), Hub: r.st.Hub, Removed: r.st.Removed, Forked: r.st.Forked, Locked: r.st.Locked, Stuck: r.st.Stuck != nil, Suspect: r.st.Suspect, Gone: r.st.Gone}
	if r.st.Removed {
		return info
	}
	info.Epoch, info.Seq = r.g.Epoch(), r.st.Seq
	policy, err := r.policy()
	if err != nil {
		return info
	}
	leaves := c.resolve(r)
	for _, i := range slices.Sorted(maps.Keys(leaves)) {
		l := leaves[i]
		m := MemberInfo{
			Leaf: i, Pseudonym: l.cred.User.String(), Role: roleNames[policy.RoleOf(l.cred.User)], Own: i == uint32(r.g.OwnLeaf()),
			Identity: Unverified, Shared: l.shared,
		}
		if l.verified {
			m.Verified, m.User, m.Device, m.Identity = true, l.real.User.String(), l.real.Client.String(), c.identity(l.real)
		}
		info.Members = append(info.Members, m)
	}
	return info
}
