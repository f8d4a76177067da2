package hub_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(materialRoot) // of the tests, whose results are known
		os.Exit(code)
	}))
}

const (
	hubDomain = "hub.example"
	suite     = mls.CipherSuite(1)
)

// material is made once: key directories are slow to make.
var material = sync.OnceValues(func() (m struct {
	dir      string
	provider *keys.Set
}, err error,
) {
	m.dir = filepath.Join(materialRoot, "hub")
	now := time.Now()
	if err = keys.Generate(m.dir, keys.Hub, hubDomain, nil, now); err != nil {
		return m, err
	}
	p := filepath.Join(materialRoot, "provider")
	if err = keys.Generate(p, keys.Provider, "a.example", nil, now); err != nil {
		return m, err
	}
	m.provider, err = keys.Load(p, keys.Provider, "a.example")
	return m, err
})

// world is a hub in memory whose handlers are called directly. The providers'
// relays are out of reach, so that the outboxes keep what is sent.
type world struct {
	t      *testing.T
	h      *hub.Hub
	keys   *keys.Set
	store  *faultyKV
	outbox *queue.Memory
	box    queue.Store // what the hub sees of it
	log    *bytes.Buffer
	queue  *primitive.KEMPrivateKey // queue key 1 of both providers
	real   pseudonym.RealIdentity
	rates  hub.Rates
}

// handedOver are the names of pending records in the order of their removal.
func (w *world) handedOver() []string {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return slices.Clone(w.store.handed)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	m, err := material()
	if err != nil {
		t.Fatal(err)
	}
	outbox := queue.NewMemory()
	w := &world{t: t, store: &faultyKV{Store: kv.NewMemory()}, outbox: outbox, box: outbox, log: new(bytes.Buffer), rates: hub.Rates{Requests: 100_000, Commits: 100_000}}
	if w.keys, err = keys.Load(m.dir, keys.Hub, hubDomain); err != nil {
		t.Fatal(err)
	}
	if w.queue, err = primitive.GenerateKEMKey(primitive.X25519); err != nil {
		t.Fatal(err)
	}
	key, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pseudonym.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := m.provider.IssueCredential(csr, "someone", "someones-phone", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.real = pseudonym.RealIdentity{Chain: chain, Key: key}
	w.start()
	t.Cleanup(func() { w.h.Close() })
	return w
}

// start starts a hub process on the world's stores.
func (w *world) start() {
	w.t.Helper()
	m, err := material()
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := grpcserver.LoadCertificate(filepath.Join(m.dir, "tls.crt"), filepath.Join(m.dir, "tls.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	pool, err := keys.Pool(filepath.Join(m.dir, "operator.crt"))
	if err != nil {
		w.t.Fatal(err)
	}
	peers, err := peer.New(cert, pool, []peer.Peer{
		{Name: peer.Name{Role: peer.Provider, Domain: "a.example"}, Addr: "127.0.0.1:1"}, {Name: peer.Name{Role: peer.Provider, Domain: "b.example"}, Addr: "127.0.0.1:1"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(peers.Close)
	w.h, err = hub.New(hub.Config{
		Domain: hubDomain, Keys: w.keys, Peers: peers, Store: w.store, Outbox: w.box, Logger: redact.NewLogger(&lockedBuffer{b: w.log}, slog.LevelDebug),
		Registerer: prometheus.NewRegistry(), Rates: w.rates,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.h.PublishQueueKey("a.example", 1)
	w.h.PublishQueueKey("b.example", 1)
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  *bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// call is one request to a handler, as the gateway would pass it on.
type call struct {
	method  string
	groupID []byte
	kind    seal.AuthKind
	leaf    uint32
	signer  *primitive.SigningKey
	issuer  string
	now     time.Time
	ear     primitive.Secret
}

func do[Res proto.Message](w *world, c call, body proto.Message, res Res) (Res, error) {
	w.t.Helper()
	b, err := proto.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := &seal.Request{Audience: seal.HubAudience(hubDomain), Method: c.method, GroupID: c.groupID, Body: b, EARKey: c.ear, Auth: seal.RequestAuth{Kind: seal.AuthNone}}
	if c.kind != 0 && c.kind != seal.AuthNone {
		if err := r.Sign(c.kind, c.leaf, c.signer); err != nil {
			w.t.Fatal(err)
		}
	}
	if c.now.IsZero() {
		c.now = time.Now()
	}
	out, err := w.h.Methods()[c.method].Handle(context.Background(), &gateway.Call{Request: r, Issuer: c.issuer, Now: c.now})
	if err != nil {
		return res, err
	}
	if err := proto.Unmarshal(out, res); err != nil {
		w.t.Fatal(err)
	}
	return res, nil
}

func (w *world) wantCode(err error, want mmrerr.Code) {
	w.t.Helper()
	got, ok := mmrerr.Of(err)
	if want == mmrerr.OK {
		if err != nil {
			w.t.Errorf("refused: %v", err)
		}
		return
	}
	if err == nil || !ok || got != want {
		w.t.Errorf("error %v, want %s", err, want)
	}
}

// leafSpec is a leaf in the making: zero fields are right.
type leafSpec struct {
	user       pseudonym.ID
	client     pseudonym.ID
	domain     string // of the provider
	keyID      uint8
	signer     *member.SigningKey
	tbsKey     []byte // in the credential, if not the signer's
	kind       mls.CredentialType
	body       func([]byte) []byte // changes the credential
	delivery   []byte              // extension data
	noDelivery bool
	caps       func(*mls.Capabilities)
	extensions []mls.Extension // besides
}

// identity is a leaf with all its secrets.
type identity struct {
	*member.Identity
	tbs      pseudonym.TBS
	signer   *member.SigningKey
	linkKey  primitive.Secret
	delivery *primitive.KEMPrivateKey
	ext      mls.Extension
}

func (w *world) id(host string, kind pseudonym.Kind) pseudonym.ID {
	w.t.Helper()
	id, err := pseudonym.NewID(host, kind)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) identity(s leafSpec) *identity {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	if s.user.String() == "" {
		s.user = w.id("a.example", pseudonym.User)
	}
	if s.client.String() == "" {
		s.client = w.id(s.user.Host(), pseudonym.Client)
	}
	if s.domain == "" {
		s.domain = s.user.Host()
	}
	if s.keyID == 0 {
		s.keyID = 1
	}
	if s.signer == nil {
		s.signer, err = member.GenerateSigner(suite)
		must(err)
	}
	if s.kind == 0 {
		s.kind = mls.CredentialType(pseudonym.CredentialPseudonymous)
	}
	i := &identity{signer: s.signer, linkKey: primitive.NewSecret(), tbs: pseudonym.TBS{Client: s.client, User: s.user, Key: s.signer.Public()}}
	if s.tbsKey != nil {
		i.tbs.Key = s.tbsKey
	}
	cred, err := pseudonym.NewCredential(i.tbs, i.linkKey, w.real)
	must(err)
	body, err := cred.AppendBinary(nil)
	must(err)
	if s.body != nil {
		body = s.body(body)
	}
	i.delivery, err = primitive.GenerateKEMKey(primitive.X25519)
	must(err)
	d, err := seal.NewDelivery(w.queue.Public(), s.domain, s.keyID, seal.QueueConfig{QueueID: [16]byte{1}, NotAfterDay: seal.Day(time.Now()) + 30}, i.delivery.Public())
	must(err)
	data, err := d.AppendBinary(nil)
	must(err)
	if s.delivery != nil {
		data = s.delivery
	}
	i.ext = mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionDelivery), Data: data}
	caps := capabilities()
	if s.caps != nil {
		s.caps(&caps)
	}
	var es []mls.Extension
	if !s.noDelivery {
		es = append(es, i.ext)
	}
	i.Identity = &member.Identity{Suite: suite, Credential: mls.CustomCredential(s.kind, body), Signer: s.signer, Capabilities: caps, Extensions: append(es, s.extensions...)}
	if s.kind == mls.CredentialBasic {
		i.Credential = mls.BasicCredential(body)
	}
	return i
}

func capabilities() mls.Capabilities {
	u := pseudonym.UniformLeaf(uint16(suite))
	return mls.Capabilities{
		Versions: convert[mls.ProtocolVersion](u.Versions), Suites: convert[mls.CipherSuite](u.CipherSuites),
		Extensions: convert[mls.ExtensionType](u.Extensions), Credentials: convert[mls.CredentialType](u.Credentials),
	}
}

func convert[T ~uint16](xs []uint16) []T {
	out := make([]T, len(xs))
	for i, x := range xs {
		out[i] = T(x)
	}
	return out
}

func lifetime() mls.Lifetime {
	nb, na := pseudonym.Lifetime(time.Now())
	return mls.Lifetime{NotBefore: nb, NotAfter: na}
}

// options let members do what they like: the hub is to be the judge.
func options() member.Options {
	return member.Options{Options: mls.Options{Rules: mls.OpenRules{}, Limits: mls.Limits{MaxLifetime: -1}}}
}

func (i *identity) key(t *testing.T) *primitive.SigningKey {
	t.Helper()
	return signingKey(t, i.signer)
}

func signingKey(t *testing.T, s *member.SigningKey) *primitive.SigningKey {
	t.Helper()
	secret, err := primitive.ParseSecret(s.Private())
	if err != nil {
		t.Fatal(err)
	}
	k, err := primitive.ParseSigningKey(primitive.Ed25519, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// party is a member of the room under test.
type party struct {
	*identity
	w       *world
	g       *member.Group
	wrapper primitive.Secret
	k       seal.DeliveryKey
}

func (w *world) extensions(policy *pseudonym.Room) []mls.Extension {
	w.t.Helper()
	data, err := policy.AppendBinary(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	required := mls.RequiredCapabilities{
		Extensions:  convert[mls.ExtensionType](pseudonym.RequiredExtensions()),
		Credentials: []mls.CredentialType{mls.CredentialType(pseudonym.CredentialPseudonymous)},
	}
	senders := mls.ExternalSendersExtension(mls.ExternalSender{SignatureKey: w.keys.Identity().Public().Bytes(), Credential: mls.X509Credential(w.keys.IdentityCertificates()...)})
	return []mls.Extension{required.Extension(), senders, {Type: mls.ExtensionType(pseudonym.ExtensionRoom), Data: data}}
}

func policyOf(creator pseudonym.ID) *pseudonym.Room {
	return &pseudonym.Room{
		Requirement: pseudonym.RequireAll, Scheme: pseudonym.SchemeStatic, DefaultRole: pseudonym.Member, JoinRule: pseudonym.JoinByLink,
		Roles: []pseudonym.RoleEntry{{User: creator, Role: pseudonym.Admin}}, Limits: pseudonym.DefaultLimits(),
	}
}

// creation is a CreateRoom in the making.
type creation struct {
	id         *identity
	policy     *pseudonym.Room
	extensions func([]mls.Extension) []mls.Extension
	info       member.GroupInfoOptions
	request    func(*hubv1.CreateRoomRequest)
	call       func(*call)
}

func (w *world) create(c creation) (*party, error) {
	w.t.Helper()
	if c.id == nil {
		c.id = w.identity(leafSpec{})
	}
	if c.policy == nil {
		c.policy = policyOf(c.id.tbs.User)
	}
	es := w.extensions(c.policy)
	if c.extensions != nil {
		es = c.extensions(es)
	}
	groupID := member.RandomGroupID()
	g, err := member.Create(c.id.Identity, groupID, member.CreateOptions{Options: options(), Extensions: es, Lifetime: lifetime()})
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := g.GroupInfo(c.info)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &party{identity: c.id, w: w, g: g, wrapper: primitive.NewSecret()}
	d := primitive.NewSecret()
	p.k = seal.NewDeliveryKey(d, groupID, 0, c.id.signer.Public())
	req := &hubv1.CreateRoomRequest{GroupInfo: info, LinkEntry: pseudonym.WrapStatic(p.wrapper, groupID, c.id.tbs.Hash(), c.id.linkKey), DeliverySecret: d.Bytes()}
	if c.request != nil {
		c.request(req)
	}
	k := call{method: seal.MethodCreateRoom, groupID: groupID, kind: seal.AuthNewLeaf, signer: c.id.key(w.t), issuer: "a.example"}
	if c.call != nil {
		c.call(&k)
	}
	_, err = do(w, k, req, new(hubv1.CreateRoomResponse))
	return p, err
}

// room creates a room, which must work.
func (w *world) room(shape ...func(*pseudonym.Room)) *party {
	w.t.Helper()
	id := w.identity(leafSpec{})
	policy := policyOf(id.tbs.User)
	for _, f := range shape {
		f(policy)
	}
	p, err := w.create(creation{id: id, policy: policy})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// commit is an Update in the making: zero fields are right.
type commit struct {
	adds      []*member.KeyPackage
	entries   pseudonym.AddAAD // nil: right ones
	linkKeys  []*identity      // of the adds
	proposals []*mls.ProposalBody
	aad       func(pseudonym.AAD) []byte
	leaf      *member.LeafOptions
	samePath  bool // keep the leaf's extensions
	options   func(*member.CommitOptions)
	info      member.GroupInfoOptions
	request   func(*hubv1.UpdateRequest)
	call      func(*call)
}

func (w *world) keyPackage(i *identity, last bool) *member.KeyPackage {
	w.t.Helper()
	o := member.KeyPackageOptions{Lifetime: lifetime()}
	if last {
		o.Extensions = []mls.Extension{{Type: mls.ExtensionType(pseudonym.ExtensionLastResort), Data: []byte{}}}
	}
	kp, err := member.NewKeyPackage(i.Identity, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return kp
}

// sent is a commit that was sent.
type sent struct {
	staged *member.Staged
	g      *member.Group
	req    *hubv1.UpdateRequest
	call   call
	d      primitive.Secret
	res    *hubv1.UpdateResponse
}

// commit sends a commit; the party's state is as before unless the hub accepts.
func (p *party) commit(c commit) (*sent, error) {
	p.w.t.Helper()
	s := p.stage(c)
	var err error
	s.res, err = do(p.w, s.call, s.req, new(hubv1.UpdateResponse))
	if err != nil {
		return s, err
	}
	p.adopt(s)
	return s, nil
}

func (p *party) adopt(s *sent) {
	p.w.t.Helper()
	g, _, err := s.g.Confirm()
	if err != nil {
		p.w.t.Fatal(err)
	}
	leaf := s.staged.Public().Leaf(s.staged.OwnLeaf())
	p.g = g
	p.k = seal.NewDeliveryKey(s.d, g.Public().GroupID(), g.Epoch(), leaf.SignatureKey)
}

func (p *party) stage(c commit) *sent {
	w := p.w
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	groupID := p.g.Public().GroupID()
	o := member.CommitOptions{ByValue: c.proposals, Leaf: c.leaf, Now: time.Now(), Welcome: member.WelcomeOptions{WithoutTree: true}}
	entries := c.entries
	for i, kp := range c.adds {
		o.ByValue = append(o.ByValue, mls.AddProposal(kp.Public()))
		if c.entries == nil {
			entries = append(entries, pseudonym.WrapStatic(p.wrapper, groupID, c.linkKeys[i].tbs.Hash(), c.linkKeys[i].linkKey))
		}
	}
	items := pseudonym.AAD{}
	if len(entries) > 0 {
		data, err := entries.AppendBinary(nil)
		must(err)
		items = append(items, pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: data})
	}
	var err error
	if c.aad != nil {
		o.AAD = c.aad(items)
	} else {
		o.AAD, err = items.AppendBinary(nil)
		must(err)
	}
	if c.leaf == nil && !c.samePath {
		fresh := w.identity(leafSpec{user: p.tbs.User})
		o.Leaf = &member.LeafOptions{Extensions: []mls.Extension{fresh.ext}}
	}
	if c.options != nil {
		c.options(&o)
	}
	g, staged, err := p.g.Stage(o)
	must(err)
	if !c.info.WithoutTree {
		c.info.WithoutTree = true
	}
	info, err := staged.GroupInfo(c.info)
	must(err)
	s := &sent{staged: staged, g: g, d: primitive.NewSecret()}
	s.req = &hubv1.UpdateRequest{Commit: staged.Commit(), Welcome: staged.Welcome(), GroupInfo: info}
	if !o.NoPath {
		s.req.DeliverySecret = s.d.Bytes()
	}
	if c.request != nil {
		c.request(s.req)
	}
	s.call = call{method: seal.MethodUpdate, groupID: groupID, kind: seal.AuthLeaf, leaf: uint32(p.g.OwnLeaf()), signer: signingKey(w.t, p.signer)}
	if c.call != nil {
		c.call(&s.call)
	}
	return s
}

// add adds somebody, who joins by the Welcome. It must work.
func (p *party) add(host string) *party {
	p.w.t.Helper()
	id := p.w.identity(leafSpec{user: p.w.id(host, pseudonym.User)})
	q, err := p.tryAdd(id, commit{})
	if err != nil {
		p.w.t.Fatal(err)
	}
	return q
}

func (p *party) tryAdd(id *identity, c commit) (*party, error) {
	p.w.t.Helper()
	kp := p.w.keyPackage(id, false)
	c.adds, c.linkKeys = append(c.adds, kp), append(c.linkKeys, id)
	s, err := p.commit(c)
	if err != nil {
		return nil, err
	}
	return p.welcome(s, id, kp), nil
}

// welcome makes the added party from a commit that was accepted.
func (p *party) welcome(s *sent, id *identity, kp *member.KeyPackage) *party {
	p.w.t.Helper()
	g, _, err := member.Join(s.staged.Welcome(), func([]byte) *member.KeyPackage { return kp }, member.JoinOptions{Options: options(), Tree: p.g.Public().TreeBytes()})
	if err != nil {
		p.w.t.Fatal(err)
	}
	return &party{identity: id, w: p.w, g: g, wrapper: p.wrapper}
}

// process takes a commit or proposal of somebody else.
func (p *party) process(msgs ...[]byte) {
	p.w.t.Helper()
	for _, m := range msgs {
		g, _, err := p.g.Process(m)
		if err != nil {
			p.w.t.Fatal(err)
		}
		p.g = g
	}
}

// message encrypts an application message.
func (p *party) message(text string) []byte {
	p.w.t.Helper()
	g, m, err := p.g.Send([]byte(text), member.SendOptions{AAD: []byte{0}, Padding: member.PadToBucket})
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.g = g
	return m
}

func (p *party) call(method string) call {
	return call{method: method, groupID: p.g.Public().GroupID(), kind: seal.AuthLeaf, leaf: uint32(p.g.OwnLeaf()), signer: p.key(p.w.t)}
}

func (p *party) submit(m []byte) (*hubv1.SubmitResponse, error) {
	p.w.t.Helper()
	return do(p.w, p.call(seal.MethodSubmit), &hubv1.SubmitRequest{Message: m}, new(hubv1.SubmitResponse))
}

func (p *party) catchUp(from uint64) ([]*seal.Event, error) {
	p.w.t.Helper()
	res, err := do(p.w, p.call(seal.MethodCatchUp), &hubv1.CatchUpRequest{FromSeq: from}, new(hubv1.CatchUpResponse))
	var es []*seal.Event
	for _, b := range res.GetEvents() {
		e, err := seal.ParseEvent(b)
		if err != nil {
			p.w.t.Fatal(err)
		}
		es = append(es, e)
	}
	return es, err
}

// sentTo waits until n rows are in a destination's outbox and returns them.
func (w *world) sentTo(domain string, n int) []hub.Row {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		var rows []hub.Row
		es, err := w.outbox.Read(context.Background(), hub.OutboxID(domain), 0, 100_000)
		if err == nil {
			for _, e := range es {
				r, ok := hub.ParseRow(e.Data)
				if !ok {
					w.t.Fatal("an outbox entry is no row")
				}
				rows = append(rows, r)
			}
		}
		if len(rows) >= n || time.Now().After(deadline) {
			if len(rows) != n {
				w.t.Fatalf("%d rows for %s, want %d", len(rows), domain, n)
			}
			return rows
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled waits until no rows are pending in the store.
func (w *world) settled(groupID []byte) {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for len(w.records(hub.RoomGroup(groupID), hub.PrefixPending)) > 0 {
		if time.Now().After(deadline) {
			w.t.Fatal("rows stay pending")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) records(group, prefix string) []kv.Record {
	w.t.Helper()
	var out []kv.Record
	for r, err := range w.store.Scan(context.Background(), group, prefix) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// dump returns all records of the rooms: what a refused request must not change.
func (w *world) dump() map[kv.Key]string {
	w.t.Helper()
	out := make(map[kv.Key]string)
	for _, r := range w.records("dirty", "") {
		w.settled([]byte(r.Key.Name))
	}
	for g, err := range w.store.Groups(context.Background(), "") {
		if err != nil {
			w.t.Fatal(err)
		}
		if g == "lease" {
			continue
		}
		for _, r := range w.records(g, "") {
			out[r.Key] = string(r.Value)
		}
	}
	return out
}

// restartWith starts a hub on another view of the outboxes.
func (w *world) restartWith(q queue.Store) {
	w.t.Helper()
	w.box = q
	w.start()
}

func removal(i mls.LeafIndex) []*mls.ProposalBody {
	return []*mls.ProposalBody{mls.RemoveProposal(i)}
}

// flip changes the last byte.
func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// unchanged compares the store with an earlier dump.
func (w *world) unchanged(before map[kv.Key]string) {
	w.t.Helper()
	after := w.dump()
	for k, v := range after {
		if old, ok := before[k]; !ok || old != v {
			w.t.Errorf("record %q of group %x was written", k.Name, k.Group)
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			w.t.Errorf("record %q of group %x was deleted", k.Name, k.Group)
		}
	}
}

// lawless is a member that obeys no rule and signs what it likes.
func (p *party) lawless() *mlstest.Lawless {
	p.w.t.Helper()
	c := mlstest.Client{W: &mlstest.World{T: p.w.t, Suite: suite, Hub: p.g.Public()}, Group: p.g, ID: p.Identity}
	l := c.Lawless()
	l.Signer = p.signer
	return l
}

func list[T any](xs ...T) []T { return xs }
