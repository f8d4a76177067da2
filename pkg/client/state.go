package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Names of records. Everything that one step changes is written together.
const (
	recAccount   = "account"
	recMailbox   = "mailbox"
	recConn      = "conn/"    // + user URI
	recPackage   = "kp/"      // + base64url of the KeyPackageRef
	recConnKey   = "cp/"      // + base64url of the package hash
	recRoom      = "room/"    // + base64url of the group id: everything but the group state
	recPublic    = "public/"  // + the same: changes once per epoch
	recPrivate   = "private/" // + the same: changes with every message
	recInbox     = "inbox/"   // + number: events the application has not taken yet
	recHeld      = "held/"    // + number: envelopes that fit no room yet
	recTokens    = "tokens/"  // + audience
	recPeer      = "peer/"    // + user URI
	recTell      = "tell/"    // + number: what the user's other devices are to be told
	recWant      = "want/"    // + base64url of the group id: rooms of other devices to join
	stateVersion = 1
	maxHeld      = 256 // SPEC.md R-75
	heldFor      = 24 * 3600
	maxPackages  = 1024 // SPEC.md R-72: outstanding KeyPackages
	laterEpochs  = 32   // SPEC.md R-75
	maxEarly     = 256  // events of a room that wait for earlier ones; more are read again
	maxEarlySize = 4 << 20
	maxRounds    = 256 // of one catch-up: a hub may make up events without end
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// accountState is who this client is.
type accountState struct {
	Version int
	Domain  string
	Relay   string // host:port of the own relay
	Partner string // host:port of the partner relay, "" if there is none
	// PartnerDomain is the partner's domain.
	PartnerDomain string
	User, Device  string

	Credential    [][]byte // real credential, leaf first
	CredentialKey []byte   // PKCS #8
	Session       [][]byte
	SessionKey    []byte // PKCS #8
	// CredentialCSR and SessionCSR are there until the keys are certified.
	CredentialCSR, SessionCSR []byte `json:",omitempty"`
	Published                 bool   // connection packages were published

	QueueID  []byte // empty until the mailbox is there
	QueueKey []byte // Ed25519 seed
	// QueueRequest is the id of the request for the mailbox, until that is there.
	QueueRequest []byte `json:",omitempty"`

	SlotID []byte // this client's slot in its pools

	DeviceKey  []byte   `json:",omitempty"` // X25519, while a device waits to be added
	DeviceRoom []byte   `json:",omitempty"` // the room of this user's devices
	Ousted     []string `json:",omitempty"` // lost devices, to be removed from rooms
}

// mailboxState is how far the mailbox was read.
type mailboxState struct {
	Cursor    uint64 // last entry that was taken
	Dropped   uint64 // envelopes the mailbox had refused when we last looked
	NextInbox uint64
	NextHeld  uint64
}

// connectionState is one connection (SPEC.md §14): made when a request is sent
// or accepted, complete when both sides have each other's keys.
type connectionState struct {
	Peer     string // user URI
	Complete bool

	OwnKey    []byte // connection_key given to the peer; derives link keys of our pool's credentials
	OwnToken  []byte // opens our pool
	UploadKey []byte // Ed25519 seed of the pool
	PoolSeed  []byte // derives user pseudonyms
	PoolNext  uint64
	Room      []byte            // connection room
	Slots     map[string][]byte `json:",omitempty"` // in the pool, by device of this user

	PeerKey      []byte
	PeerToken    []byte
	PeerProvider string

	// Of a request that waits for its answer.
	ResponseKey []byte
	RequestHash []byte
	LinkID      []byte

	Joining  bool     // complete when the join of the connection room is accepted
	Settle   bool     // the connection room still has its link, or the peer is not admin
	Unwanted []uint32 // leaves in the connection room that are to be removed
}

// packageState is an outstanding KeyPackage.
type packageState struct {
	KeyPackage  []byte // member.KeyPackage with its private keys
	SignerKey   []byte
	DeliveryKey []byte
	LinkKey     []byte
	Peer        string // whose pool it is in
	LastResort  bool
	Used        int
	NotAfter    uint64
}

// connKeyState is the private half of a connection package.
type connKeyState struct {
	Key        []byte
	NotAfter   uint64
	LastResort bool
}

// roomState is a room without its MLS state.
type roomState struct {
	GroupID []byte
	Hub     string
	Suite   uint16
	Peer    string     `json:",omitempty"` // the connection room of this peer
	Device  bool       `json:",omitempty"` // the room of this user's devices
	Wrapper []byte     `json:",omitempty"` // identity_link_wrapper_key, static scheme
	Wrap    *wrapState `json:",omitempty"` // treewrap scheme
	EAR     []byte     `json:",omitempty"` // ear_key of the room
	Locked  bool       `json:",omitempty"` // nobody can compute the next ear_key

	Signers  map[string][]byte // private signature keys of own leaves, by public key (base64url)
	LinkKeys map[uint32][]byte // of current leaves
	Seen     map[uint32]string // verified user by leaf, to notice changes

	Epoch     uint64 // epoch of K
	K         []byte
	PrevK     []byte // of the epoch before, for re-deliveries
	PrevEpoch uint64
	PrevUntil int64 // Unix seconds

	Seq      uint64
	Chain    []byte
	Heard    int64             // Unix seconds of the last event
	GapSince int64             // Unix milliseconds; 0: no gap
	Buffer   map[uint64][]byte // serialized events that came early
	Sent     map[string]bool   // hashes of own messages that have not come back in the room's order
	Forked   bool
	Removed  bool
	Gone     bool `json:",omitempty"` // the hub does not know our leaf, and has said so for long

	Leaving *leavingState `json:",omitempty"` // a leave whose answer is not known
	Stuck   *stuckState   `json:",omitempty"` // an accepted commit that could not be processed
	Rejoin  *rejoinState  `json:",omitempty"` // a resync whose answer is not known
	Suspect bool          `json:",omitempty"` // hub and a committer broke the room's rules (SPEC.md R-118)
	Banned  []string      `json:",omitempty"` // users removed by Ban
	// WrongPub says that the hub's GroupInfo has a wrong external_pub (SPEC.md R-126).
	WrongPub bool         `json:",omitempty"`
	Chains   []chainPoint `json:",omitempty"` // the latest places in the hash chain, to compare with others'

	Outgoing *outgoingState // an application message whose answer is not known
	Pending  *pendingState  // a commit whose fate is not known
}

// outgoingState is an application message that was sent, or will be.
type outgoingState struct {
	Kind      contentKind
	Data      []byte // in the clear: the message is made again if its epoch has passed
	Message   []byte
	RequestID []byte
}

// pendingState is a staged commit that was sent or will be (SPEC.md R-77).
type pendingState struct {
	Commit      []byte
	ExternalPub []byte
	Request     []byte // the body of hub.Update or, with Join, of hub.ExternalJoin
	RequestID   []byte
	D           []byte
	LinkKeys    map[uint32][]byte // of the leaves it adds
	Delta       []byte            `json:",omitempty"` // of the link key tree
	Wrap        *wrapState        `json:",omitempty"` // after it
	EAR         []byte            `json:",omitempty"` // the next ear_key, if it rotates
	Join        bool
	Sibling     bool   `json:",omitempty"` // a join by sibling proof, which costs no token
	LeafKey     []byte // public key of the committer's new leaf
}

func (r *roomState) uri() string { return pseudonym.RoomURI(r.Hub, r.GroupID) }

// batch collects the records of one step.
type batch map[string][]byte

func (b batch) put(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b[name] = data
	return nil
}

func (b batch) del(name string) { b[name] = nil }

// load reads a record into v.
func load(m map[string][]byte, name string, v any) error {
	data, ok := m[name]
	if !ok {
		return fmt.Errorf("client: record %s is missing", name[:strings.IndexByte(name+"/", '/')])
	}
	return json.Unmarshal(data, v)
}

// each calls f for every record whose name begins with prefix.
func each[T any](m map[string][]byte, prefix string, f func(rest string, v *T)) error {
	for name, data := range m {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		v := new(T)
		if err := json.Unmarshal(data, v); err != nil {
			return err
		}
		f(rest, v)
	}
	return nil
}
