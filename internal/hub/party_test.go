package hub_test

import (
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// party is a member of the room under test.
type party struct {
	*identity
	w       *world
	g       *member.Group
	wrapper primitive.Secret
	k       seal.DeliveryKey
	view    *treewrap.View        // treewrap rooms
	ear     primitive.Secret      // rooms with ear = 1
	answer  *hubv1.SubmitResponse // to what it said last
	added   *sent                 // by which it was welcomed
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
	delta      func(*treewrap.Delta)
	noDelta    bool
	dry        bool // it is not sent
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
	p := &party{identity: c.id, w: w, g: g, wrapper: primitive.NewSecret()}
	d := primitive.NewSecret()
	p.k = seal.NewDeliveryKey(d, groupID, 0, c.id.signer.Public())
	req := &hubv1.CreateRoomRequest{DeliverySecret: d.Bytes()}
	if c.policy.Scheme == pseudonym.SchemeTree {
		p.view = treewrap.New(groupID)
		if c.policy.Requirement != pseudonym.RequireNone && !c.noDelta {
			var delta *treewrap.Delta
			delta, p.view = w.write(p.view, treeWrite{policy: c.policy}, g.Public(), g.Export, nil)
			c.info.Extensions = append(c.info.Extensions, deltaExtension(w.t, delta, c.delta))
		}
	} else {
		req.LinkEntry = pseudonym.WrapStatic(p.wrapper, groupID, c.id.tbs.Hash(), c.id.linkKey)
	}
	if c.policy.EAR {
		p.ear = export(w.t, g.Export, seal.LabelEAR)
	}
	if req.GroupInfo, err = g.GroupInfo(c.info); err != nil {
		w.t.Fatal(err)
	}
	if c.request != nil {
		c.request(req)
	}
	k := call{method: seal.MethodCreateRoom, groupID: groupID, kind: seal.AuthNewLeaf, signer: c.id.key(w.t), issuer: "a.example", ear: p.ear}
	if c.call != nil {
		c.call(&k)
	}
	if c.dry {
		return p, nil
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
	tree      treeWrite
	rotate    bool // the key at rest, also without Remove
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
	view   *treewrap.View
	delta  *treewrap.Delta // nil: none
	ear    primitive.Secret
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
	p.g, p.view, p.ear = g, s.view, s.ear
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
		if c.entries == nil && p.view == nil {
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
	s := &sent{staged: staged, g: g, d: primitive.NewSecret(), view: p.view, ear: p.ear}
	if p.view != nil && !c.tree.none && roomOf(w.t, staged.Public()).Requirement != pseudonym.RequireNone {
		c.tree.policy = roomOf(w.t, staged.Public())
		s.delta, s.view = w.write(p.view, c.tree, staged.Public(), staged.Export, staged.Event().Commit.Added)
		c.info.Extensions = append(c.info.Extensions, deltaExtension(w.t, s.delta, c.tree.change))
	}
	info, err := staged.GroupInfo(c.info)
	must(err)
	s.req = &hubv1.UpdateRequest{Commit: staged.Commit(), Welcome: staged.Welcome(), GroupInfo: info}
	if p.ear.Present() && (c.rotate || len(staged.Event().Commit.Removed) > 0) {
		s.ear = export(w.t, staged.Export, seal.LabelEAR)
		s.req.NextEarKey = s.ear.Bytes()
	}
	if !o.NoPath {
		s.req.DeliverySecret = s.d.Bytes()
	}
	if c.request != nil {
		c.request(s.req)
	}
	s.call = call{method: seal.MethodUpdate, groupID: groupID, kind: seal.AuthLeaf, leaf: uint32(p.g.OwnLeaf()), signer: signingKey(w.t, p.signer), ear: p.ear}
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
	q := &party{identity: id, w: p.w, g: g, wrapper: p.wrapper, ear: s.ear, added: s}
	if s.view != nil {
		q.view, err = treewrap.Read(g.Public().GroupID(), s.view.State(), export(p.w.t, g.Export, treewrap.LabelTreeWrap))
		if err != nil {
			p.w.t.Fatal(err)
		}
	}
	return q
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
	return call{method: method, groupID: p.g.Public().GroupID(), kind: seal.AuthLeaf, leaf: uint32(p.g.OwnLeaf()), signer: p.key(p.w.t), ear: p.ear}
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
