package client

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// auditWorld is a room without a hub: whatever a member commits is accepted.
type auditWorld struct {
	t     *testing.T
	alice *member.Group // watches
	bob   *member.Group
	info  []byte // of alice's epoch
	users map[string]pseudonym.ID
}

func (w *auditWorld) user(name string) pseudonym.ID {
	if id, ok := w.users[name]; ok {
		return id
	}
	id, err := pseudonym.NewID("b.example", pseudonym.User)
	if err != nil {
		w.t.Fatal(err)
	}
	w.users[name] = id
	return id
}

// identity makes a leaf of a user.
func (w *auditWorld) identity(name string) *member.Identity {
	w.t.Helper()
	signer, err := member.GenerateSigner(Suite)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := pseudonym.NewID("b.example", pseudonym.Client)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		w.t.Fatal(err)
	}
	cred, err := pseudonym.NewCredential(pseudonym.TBS{Client: id, User: w.user(name), Key: signer.Public()}, primitive.NewSecret(), pseudonym.RealIdentity{Chain: [][]byte{[]byte("certificate")}, Key: key})
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := cred.AppendBinary(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	q, err := primitive.GenerateKEMKey(primitive.X25519)
	if err != nil {
		w.t.Fatal(err)
	}
	delivery, err := seal.NewDelivery(q.Public(), "b.example", 1, seal.QueueConfig{QueueID: [16]byte(random(16)), Handle: [16]byte(random(16)), NotAfterDay: 30_000}, q.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := delivery.AppendBinary(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return identityOf(Suite, body, signer, mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionDelivery), Data: data})
}

func (w *auditWorld) keyPackage(id *member.Identity) *member.KeyPackage {
	w.t.Helper()
	kp, err := member.NewKeyPackage(id, member.KeyPackageOptions{Lifetime: lifetime(time.Now())})
	if err != nil {
		w.t.Fatal(err)
	}
	return kp
}

func newAuditWorld(t *testing.T) *auditWorld {
	t.Helper()
	w := &auditWorld{t: t, users: make(map[string]pseudonym.ID)}
	policy := &pseudonym.Room{
		Requirement: pseudonym.RequireAll, Scheme: pseudonym.SchemeTree, EAR: true, JoinRule: pseudonym.JoinByLink, DefaultRole: pseudonym.Member,
		Roles: []pseudonym.RoleEntry{{User: w.user("alice"), Role: pseudonym.Admin}}, Limits: pseudonym.DefaultLimits(),
	}
	policy.Limits.AddMinRole, policy.Limits.MaxLeavesPerUser = pseudonym.Moderator, 1
	es, err := groupExtensions(policy, mls.ExternalSendersExtension())
	if err != nil {
		t.Fatal(err)
	}
	if w.alice, err = member.Create(w.identity("alice"), member.RandomGroupID(), member.CreateOptions{Options: memberOptions(), Extensions: es, Lifetime: lifetime(time.Now())}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bob", "carol"} {
		kp := w.keyPackage(w.identity(name))
		g, staged, err := w.alice.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{mls.AddProposal(kp.Public())}, AAD: []byte{0}})
		if err != nil {
			t.Fatal(err)
		}
		if w.bob != nil {
			if w.bob, _, err = w.bob.Process(staged.Commit()); err != nil {
				t.Fatal(err)
			}
		} else if w.bob, _, err = member.Join(staged.Welcome(), func([]byte) *member.KeyPackage { return kp }, member.JoinOptions{Options: memberOptions()}); err != nil {
			t.Fatal(err)
		}
		if w.alice, _, err = g.Confirm(); err != nil {
			t.Fatal(err)
		}
	}
	if w.info, err = w.alice.GroupInfo(member.GroupInfoOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// hosted is a room of alice alone at a hub with that key, whose certificate is
// nothing that anybody would accept now.
func (w *auditWorld) hosted(hub *primitive.SigningKey) *member.Group {
	w.t.Helper()
	policy := &pseudonym.Room{
		Requirement: pseudonym.RequireAll, Scheme: pseudonym.SchemeTree, EAR: true, JoinRule: pseudonym.JoinByLink, DefaultRole: pseudonym.Member,
		Roles: []pseudonym.RoleEntry{{User: w.user("alice"), Role: pseudonym.Admin}}, Limits: pseudonym.DefaultLimits(),
	}
	es, err := groupExtensions(policy, mls.ExternalSendersExtension(mls.ExternalSender{
		SignatureKey: hub.Public().Bytes(), Credential: mls.X509Credential([]byte("expired")),
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	g, err := member.Create(w.identity("alice"), member.RandomGroupID(), member.CreateOptions{Options: memberOptions(), Extensions: es, Lifetime: lifetime(time.Now())})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// judge is what alice says of a commit.
func (w *auditWorld) judge(commit []byte) error {
	w.t.Helper()
	r := &room{g: w.alice}
	policy, err := r.policy()
	if err != nil {
		w.t.Fatal(err)
	}
	_, ev, err := w.alice.Process(commit)
	if err != nil {
		w.t.Fatal(err)
	}
	return audit(policy, ev.Commit)
}

// TestAudit: a member notices what a hub should have refused (SPEC.md R-118).
func TestAudit(t *testing.T) {
	w := newAuditWorld(t)
	changed := func(f func(*pseudonym.Room)) *mls.ProposalBody {
		r := &room{g: w.bob}
		p, err := r.policy()
		if err != nil {
			t.Fatal(err)
		}
		f(p)
		b, err := r.policyChange(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	uneven := w.identity("dave")
	uneven.Capabilities.Extensions = slices.Clone(uneven.Capabilities.Extensions)
	slices.Reverse(uneven.Capabilities.Extensions)
	capabilitiesChanged := slices.Clone(w.bob.Public().Context().Extensions)
	for i, e := range capabilitiesChanged {
		if e.Type == mls.ExtensionRequiredCapabilities {
			capabilitiesChanged[i] = mls.RequiredCapabilities{Extensions: []mls.ExtensionType{mls.ExtensionType(pseudonym.ExtensionRoom)}}.Extension()
		}
	}
	add := func(id *member.Identity) *mls.ProposalBody { return mls.AddProposal(w.keyPackage(id).Public()) }
	for name, c := range map[string]struct {
		proposal *mls.ProposalBody
		want     mmrerr.Code
	}{
		"an empty commit":                       {nil, mmrerr.OK},
		"a member removes another":              {mls.RemoveProposal(2), mmrerr.Role},
		"a member adds somebody":                {add(w.identity("dave")), mmrerr.Role},
		"a member adds a leaf of the admin":     {add(w.identity("alice")), mmrerr.Role},
		"a member adds a device over the limit": {add(w.identity("bob")), mmrerr.Limit},
		"a member makes itself admin": {changed(func(p *pseudonym.Room) {
			p.Roles = append(p.Roles, pseudonym.RoleEntry{User: w.user("bob"), Role: pseudonym.Admin})
			slices.SortFunc(p.Roles, func(a, b pseudonym.RoleEntry) int {
				return slices.Compare([]byte(a.User.String()), []byte(b.User.String()))
			})
		}), mmrerr.Role},
		"a member changes limits":    {changed(func(p *pseudonym.Room) { p.Limits.MaxLeaves = 7 }), mmrerr.Role},
		"the scheme changes":         {changed(func(p *pseudonym.Room) { p.Scheme = pseudonym.SchemeStatic }), mmrerr.PolicyChange},
		"the capabilities change":    {mls.ExtensionsProposal(capabilitiesChanged), mmrerr.PolicyChange},
		"a leaf that is not uniform": {add(uneven), mmrerr.Role},
	} {
		var by []*mls.ProposalBody
		if c.proposal != nil {
			by = append(by, c.proposal)
		}
		_, staged, err := w.bob.Stage(member.CommitOptions{ByValue: by, AAD: []byte{0}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := w.judge(staged.Commit()); c.want == mmrerr.OK && err != nil || c.want != mmrerr.OK && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// By external commit, under a pseudonym that is taken, without a proof.
	for name, want := range map[string]error{"carol": mmrerr.ParticipantMismatch, "erin": nil} {
		_, staged, err := member.JoinExternal(w.identity(name), w.info, member.ExternalOptions{Options: memberOptions(), AAD: []byte{0}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.judge(staged.Commit()); !errors.Is(err, want) {
			t.Errorf("a stranger joins as %s: %v, want %v", name, err, want)
		}
	}
}
