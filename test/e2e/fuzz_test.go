package e2e_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// The fuzz targets below mutate requests that were right, field by field, and
// send them with right signatures and tokens, so that they reach the depth of
// the handlers: nothing may panic, be an internal error, or keep the service
// from serving the next request.

// mutate changes a message as data says: three bytes choose a field, a kind of
// change and its size, and what follows is material.
func mutate(m protoreflect.Message, data []byte) {
	for len(data) >= 3 {
		field, kind, n := data[0], data[1], int(data[2])
		data = data[3:]
		material := data[:min(n, len(data))]
		if kind&0x80 != 0 { // else the next change uses the same bytes
			data = data[len(material):]
		}
		fields := m.Descriptor().Fields()
		if fields.Len() == 0 {
			return
		}
		mutateField(m, fields.Get(int(field)%fields.Len()), kind&0x7f, material, data)
	}
}

func mutateField(m protoreflect.Message, fd protoreflect.FieldDescriptor, kind byte, material, rest []byte) {
	switch {
	case kind%8 == 0:
		m.Clear(fd)
	case fd.IsList():
		l := m.Mutable(fd).List()
		switch {
		case kind%8 == 1 && l.Len() > 0:
			l.Truncate(l.Len() - 1)
		case kind%8 == 2 && l.Len() > 0: // many
			for range min(len(material)*8, 600) {
				l.Append(l.Get(0))
			}
		case fd.Message() != nil && l.Len() > 0:
			mutate(l.Get(int(kind)%l.Len()).Message(), rest)
		case fd.Message() != nil:
			mutate(l.AppendMutable().Message(), rest)
		case l.Len() > 0 && kind%8 > 4:
			i := int(kind/8) % l.Len()
			l.Set(i, scalar(fd, l.Get(i), kind, material))
		default:
			l.Append(scalar(fd, l.NewElement(), kind, material))
		}
	case fd.Message() != nil:
		mutate(m.Mutable(fd).Message(), rest)
	default:
		m.Set(fd, scalar(fd, m.Get(fd), kind, material))
	}
}

// scalar is another value of a field.
func scalar(fd protoreflect.FieldDescriptor, old protoreflect.Value, kind byte, material []byte) protoreflect.Value {
	var n uint64
	for _, b := range material[:min(8, len(material))] {
		n = n<<8 | uint64(b)
	}
	switch fd.Kind() {
	case protoreflect.BytesKind:
		b := slices.Clone(old.Bytes())
		switch at := int(n % uint64(len(b)+1)); {
		case kind%4 == 1:
			b = b[:at]
		case kind%4 == 2 && at < len(b):
			b[at] ^= kind
		case kind%4 == 3:
			b = slices.Insert(b, at, material...)
		default:
			b = slices.Clone(material)
		}
		return protoreflect.ValueOfBytes(b)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.ToValidUTF8(old.String()[:int(n%uint64(len(old.String())+1))]+string(material), "?"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(kind&8 != 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(n)))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(n)
	}
	return old
}

// fuzzed is what all executions of a target share.
type fuzzed struct {
	*badWorld
	read int // of the log
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0})
	f.Add([]byte{1, 0, 0x81, 4, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{2, 0, 2, 1, 7, 1, 0x82, 1, 9})
	f.Add([]byte{3, 2, 2, 80, 1, 2, 3, 4, 5, 6, 7, 8})
	for i := range byte(20) {
		f.Add([]byte{i, i % 5, 0x80 | i, 8, 0, 0, 0, 0, 0, 0, 0, 40, i / 2, 2, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	}
	return &fuzzed{badWorld: newBadWorld(f)}
}

// intact fails if a service has logged a panic or an internal error since the
// last execution.
func (w *fuzzed) intact(t *testing.T) {
	t.Helper()
	log := w.log.String()
	for line := range strings.Lines(log[w.read:]) {
		if strings.Contains(line, "panic") || strings.Contains(line, `"ERROR"`) {
			t.Errorf("log: %s", line)
		}
	}
	w.read = len(log)
}

// served fails on an answer that no request should get.
func (o outcome) served(t *testing.T) {
	t.Helper()
	if o.Status == codes.Internal || o.Status == codes.Unknown || o.Code == mmrerr.Unavailable {
		t.Errorf("answer: %s", o)
	}
}

// fuzzMethods asks one of a gateway's methods, mutated.
func (w *fuzzed) fuzzMethods(t *testing.T, g *gate, specs []spec, data []byte) {
	t.Helper()
	if len(data) == 0 {
		data = []byte{0}
	}
	g.tb = t
	s := specs[int(data[0])%len(specs)]
	s.body = proto.Clone(s.body)
	mutate(s.body.ProtoReflect(), data[1:])
	g.ask(g.right(s)).served(t)
	w.intact(t)
}

// FuzzHubMethods: every method of a hub, by a member and by somebody who comes.
func FuzzHubMethods(f *testing.F) {
	w := newFuzzed(f)
	g := w.gate(f, w.hub, raw{f, w.world}.peer("a.example", w.hub), "hub:hub.example")
	signer, leaf := w.alice.leafKey(w.room)
	carolKey, _ := w.carol.leafKey(w.room)
	ear := w.alice.ear(w.room)
	sample := func(method string, m proto.Message) proto.Message {
		if xs := w.hub.tap.of(method, w.groupID); len(xs) > 0 {
			if err := proto.Unmarshal(xs[len(xs)-1].Body, m); err != nil {
				f.Fatal(err)
			}
		}
		return m
	}
	member := func(method string, m proto.Message) spec {
		return spec{method: method, kind: seal.AuthLeaf, leaf: leaf, signer: signer, groupID: w.groupID, ear: ear, body: sample(method, m)}
	}
	code := w.link.Code()
	specs := []spec{
		member(seal.MethodUpdate, new(hubv1.UpdateRequest)),
		member(seal.MethodSubmit, new(hubv1.SubmitRequest)),
		member(seal.MethodGroupInfo, new(hubv1.GroupInfoRequest)),
		member(seal.MethodPutGroupInfo, new(hubv1.PutGroupInfoRequest)),
		member(seal.MethodCatchUp, new(hubv1.CatchUpRequest)),
		member(seal.MethodWrapState, new(hubv1.WrapStateRequest)),
		member(seal.MethodWrapRefresh, new(hubv1.WrapRefreshRequest)),
		member(seal.MethodPutSeals, new(hubv1.PutSealsRequest)),
		member(seal.MethodReportCommit, &hubv1.ReportCommitRequest{Epoch: 1, CommitHash: randomBytes(32)}),
		{method: seal.MethodLinkInfo, kind: seal.AuthNone, groupID: w.groupID, body: &hubv1.LinkInfoRequest{Code: code.Bytes()}},
		{method: seal.MethodExternalJoin, token: true, kind: seal.AuthNewLeaf, signer: carolKey, groupID: w.groupID, ear: ear, body: sample(seal.MethodExternalJoin, new(hubv1.ExternalJoinRequest))},
		{method: seal.MethodJoinState, kind: seal.AuthNewLeaf, signer: carolKey, groupID: w.groupID, ear: ear, body: sample(seal.MethodJoinState, &hubv1.JoinStateRequest{Epoch: 1, SignatureKey: carolKey.Public().Bytes()})},
		{method: seal.MethodReportAbuse, token: true, kind: seal.AuthNone, groupID: w.groupID, ear: ear, body: &hubv1.ReportAbuseRequest{ApplicationData: randomBytes(60), Salt: randomBytes(16), AcceptedMs: 1}},
		{method: seal.MethodCreateRoom, token: true, kind: seal.AuthNewLeaf, signer: carolKey, groupID: randomBytes(32), ear: ear, body: sample(seal.MethodCreateRoom, new(hubv1.CreateRoomRequest))},
	}
	have := make(map[string]bool)
	for _, s := range specs {
		have[s.method] = true
	}
	for _, m := range w.hub.tap.served() {
		if !have[m] {
			f.Fatalf("%s is served and not fuzzed", m)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { w.fuzzMethods(t, g, specs, data) })
}

// FuzzProviderMethods: every method of a provider, by owners and by anybody.
func FuzzProviderMethods(f *testing.F) {
	w := newFuzzed(f)
	relayB := w.relays["b.example"]
	g := w.gate(f, relayB, raw{f, w.world}.peer("a.example", relayB), "provider:b.example")
	bob := w.bob.secrets()
	conn := bob.Conns[w.alice.User()]
	token, err := primitive.ParseSecret(conn.OwnToken)
	if err != nil {
		f.Fatal(err)
	}
	pool, upload, queueKey, id := pseudonym.PoolID(token), signingKey(f, conn.UploadKey), signingKey(f, bob.Account.QueueKey), bob.Account.QueueID
	uploaded := new(relayv1.PoolUploadRequest)
	if xs := relayB.tap.all(seal.MethodPoolUpload); len(xs) > 0 {
		if err := proto.Unmarshal(xs[len(xs)-1].Body, uploaded); err != nil {
			f.Fatal(err)
		}
	}
	owner := func(method string, tok bool, m proto.Message) spec {
		return spec{method: method, token: tok, kind: seal.AuthPool, signer: upload, body: m}
	}
	reader := func(method string, m proto.Message) spec {
		return spec{method: method, kind: seal.AuthQueue, signer: queueKey, body: m}
	}
	anybody := func(method string, m proto.Message) spec {
		return spec{method: method, token: true, kind: seal.AuthNone, body: m}
	}
	specs := []spec{
		owner(seal.MethodPoolCreate, true, &relayv1.PoolCreateRequest{PoolId: randomBytes(32), UploadKey: upload.Public().Bytes(), Slots: [][]byte{randomBytes(16)}}),
		owner(seal.MethodPoolSlots, false, &relayv1.PoolSlotsRequest{PoolId: pool[:], Slots: [][]byte{bob.Account.SlotID}}),
		owner(seal.MethodPoolUpload, true, uploaded),
		owner(seal.MethodPoolList, false, &relayv1.PoolListRequest{PoolId: pool[:]}),
		owner(seal.MethodPoolDelete, false, &relayv1.PoolDeleteRequest{PoolId: randomBytes(32)}),
		anybody(seal.MethodFetchKeyPackages, &relayv1.FetchKeyPackagesRequest{ConnectionToken: conn.OwnToken, CipherSuite: 1, CredentialTypes: []uint32{2}}),
		anybody(seal.MethodFetchConnectionPackage, &relayv1.FetchConnectionPackageRequest{User: w.bob.User()}),
		anybody(seal.MethodSendConnectionRequest, &relayv1.SendConnectionRequestRequest{PackageRef: randomBytes(32), Sealed: randomBytes(4200)}),
		reader(seal.MethodQueueCreate, &relayv1.QueueCreateRequest{ReadKey: queueKey.Public().Bytes(), MaxAgeDays: 1}),
		reader(seal.MethodQueueBlock, &relayv1.QueueBlockRequest{QueueId: id, Handle: randomBytes(16)}),
		reader(seal.MethodQueueDelete, &relayv1.QueueDeleteRequest{QueueId: randomBytes(16)}),
		reader(seal.MethodQueueStat, &relayv1.QueueStatRequest{QueueId: id}),
		reader(seal.MethodQueueSetPush, &relayv1.QueueSetPushRequest{QueueId: id, Token: randomBytes(100)}),
	}
	specs[8].token = true
	have := make(map[string]bool)
	for _, s := range specs {
		have[s.method] = true
	}
	for _, m := range relayB.tap.served() {
		if !have[m] {
			f.Fatalf("%s is served and not fuzzed", m)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { w.fuzzMethods(t, g, specs, data) })
}

// FuzzAccount: the identified service and forwarding, on a session.
func FuzzAccount(f *testing.F) {
	w := newFuzzed(f)
	relayA := w.relays["a.example"]
	conn := raw{f, w.world}.session(w.alice, relayA)
	requests := []struct {
		method  string
		in, out proto.Message
	}{
		{relayv1.AccountService_Register_FullMethodName, &relayv1.RegisterRequest{User: "fuzz", Client: "fuzz-phone", CredentialCsr: csr(f), SessionCsr: csr(f), RegistrationCode: "let-me-in"}, new(relayv1.RegisterResponse)},
		{relayv1.AccountService_Renew_FullMethodName, &relayv1.RenewRequest{CredentialCsr: csr(f), SessionCsr: csr(f)}, new(relayv1.RenewResponse)},
		{relayv1.AccountService_IssueTokens_FullMethodName, &relayv1.IssueTokensRequest{Blinded: [][]byte{make([]byte, 256)}}, new(relayv1.IssueTokensResponse)},
		{relayv1.AccountService_PublishConnectionPackages_FullMethodName, &relayv1.PublishConnectionPackagesRequest{Packages: [][]byte{randomBytes(500)}, LastResort: randomBytes(500)}, new(relayv1.PublishConnectionPackagesResponse)},
		{relayv1.AccountService_ListConnectionRequests_FullMethodName, &relayv1.ListConnectionRequestsRequest{Max: 3}, new(relayv1.ListConnectionRequestsResponse)},
		{relayv1.AccountService_DeleteConnectionRequests_FullMethodName, &relayv1.DeleteConnectionRequestsRequest{Ids: [][]byte{randomBytes(16)}}, new(relayv1.DeleteConnectionRequestsResponse)},
		{relayv1.AccountService_RemoveClient_FullMethodName, &relayv1.RemoveClientRequest{Client: "other-phone"}, new(relayv1.RemoveClientResponse)},
		{relayv1.ForwardService_Forward_FullMethodName, &relayv1.ForwardRequest{TargetDomain: "hub.example", Role: relayv1.Role_ROLE_HUB, Encapsulated: make([]byte, 512)}, new(relayv1.ForwardResponse)},
		{relayv1.ForwardService_GetPublishedKeys_FullMethodName, &relayv1.GetPublishedKeysRequest{TargetDomain: "hub.example", Role: relayv1.Role_ROLE_HUB}, new(relayv1.GetPublishedKeysResponse)},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			data = []byte{0}
		}
		r := requests[int(data[0])%len(requests)]
		in := proto.Clone(r.in)
		mutate(in.ProtoReflect(), data[1:])
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err := conn.Invoke(ctx, r.method, in, proto.Clone(r.out))
		if code := status.Code(err); code == codes.Internal || code == codes.Unknown {
			t.Errorf("%s: %v", r.method, err)
		}
		w.intact(t)
	})
}

// FuzzDeliver: a hub that delivers batches of anything gets one status an item,
// or the end of its stream.
func FuzzDeliver(f *testing.F) {
	w := newFuzzed(f)
	relayB := w.relays["b.example"]
	c := deliveryv1.NewDeliveryServiceClient(raw{f, w.world}.peer("hub.example", relayB))
	item := func() *deliveryv1.Item {
		return &deliveryv1.Item{ItemId: randomBytes(16), KeyId: 1, Sealed: randomBytes(96), Envelope: randomBytes(512)}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		s, err := c.Deliver(ctx)
		if err != nil {
			t.Fatal(err)
		}
		in := &deliveryv1.DeliverRequest{Items: []*deliveryv1.Item{item(), item(), item()}}
		mutate(in.ProtoReflect(), data)
		if err := s.Send(in); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		_ = s.CloseSend() // what counts is the answer
		res, err := s.Recv()
		switch code := status.Code(err); {
		case errors.Is(err, io.EOF) && len(in.GetItems()) == 0, code == codes.InvalidArgument, code == codes.OutOfRange:
		case err != nil:
			t.Errorf("delivering %d items: %v", len(in.GetItems()), err)
		case len(res.GetStatus()) != len(in.GetItems()):
			t.Errorf("%d statuses for %d items", len(res.GetStatus()), len(in.GetItems()))
		}
		w.intact(t)
	})
}

// FuzzListen: who opens a mailbox stream with anything, and goes on with
// anything, ends it, and reads nothing without the key.
func FuzzListen(f *testing.F) {
	w := newFuzzed(f)
	relayB := w.relays["b.example"]
	c := relayv1.NewMailboxServiceClient(raw{f, w.world}.anonymous(relayB))
	id := w.bob.secrets().Account.QueueID
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		s, err := c.Listen(ctx)
		if err != nil {
			t.Fatal(err)
		}
		open := &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Open{Open: &relayv1.ListenOpen{QueueId: id}}}
		proof := &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Proof{Proof: &relayv1.ListenProof{Signature: randomBytes(64)}}}
		half := len(data) / 2
		mutate(open.ProtoReflect(), data[:half])
		mutate(proof.ProtoReflect(), data[half:])
		_, _ = s.Send(open), s.Send(proof) // the stream may be over
		_ = s.CloseSend()
		for {
			res, err := s.Recv()
			if res.GetBatch() != nil {
				t.Fatal("a mailbox was read without its key")
			}
			if err != nil {
				if code := status.Code(err); code == codes.Internal || code == codes.Unknown && !errors.Is(err, io.EOF) || code == codes.DeadlineExceeded {
					t.Errorf("listening: %v", err)
				}
				break
			}
		}
		w.intact(t)
	})
}
