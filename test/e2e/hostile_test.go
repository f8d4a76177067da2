package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// outcome is all that an asker can see of an answer.
type outcome struct {
	Status codes.Code  // of gRPC
	Code   mmrerr.Code // of the status or of the encapsulated response
	Detail string
	Size   int // of the encapsulated response
}

func (o outcome) String() string {
	return fmt.Sprintf("%s %s detail %x, %d bytes", o.Status, o.Code, o.Detail, o.Size)
}

// gate is one gateway as a stranger sees it.
type gate struct {
	raw
	svc      *service
	conn     *grpc.ClientConn
	audience string
	key      seal.KeyConfig
	issuer   *service // whose tokens are used
	account  *grpc.ClientConn
	pot      map[string][][]byte // tokens by audience
	covered  map[string]bool
}

// send passes bytes to the gateway as they are.
func (g *gate) send(encapsulated []byte, open func([]byte) ([]byte, error)) outcome {
	g.tb.Helper()
	res, err := gatewayv1.NewGatewayServiceClient(g.conn).Call(context.Background(), &gatewayv1.CallRequest{Encapsulated: encapsulated})
	if err != nil {
		return outcome{Status: status.Code(err), Code: grpcserver.CodeOf(err)}
	}
	if open == nil {
		return outcome{Size: len(res.GetEncapsulated())}
	}
	pt, err := open(res.GetEncapsulated())
	if err != nil {
		g.tb.Fatalf("the answer does not open: %v", err)
	}
	r, err := seal.ParseResponse(pt)
	if err != nil {
		g.tb.Fatalf("the answer does not parse: %v", err)
	}
	if r.Code != mmrerr.OK && len(r.Body) != 0 {
		g.tb.Errorf("a refusal (%s) has a body", r.Code)
	}
	return outcome{Code: r.Code, Detail: string(r.Detail), Size: len(res.GetEncapsulated())}
}

// plain encapsulates any bytes.
func (g *gate) plain(pt []byte) outcome {
	g.tb.Helper()
	enc, opener, err := seal.Encapsulate(g.key, pt)
	if err != nil {
		g.tb.Fatal(err)
	}
	return g.send(enc, opener.Open)
}

// ask is one request in the making: what a test does not change is right.
type ask struct {
	seal.Request
	kind   seal.AuthKind
	leaf   uint32
	signer *primitive.SigningKey
	late   func(*seal.Request) // after signing
}

func (g *gate) ask(a ask) outcome {
	g.tb.Helper()
	b := g.serialize(a)
	return g.plain(b)
}

func (g *gate) serialize(a ask) []byte {
	g.tb.Helper()
	r := a.Request
	if r.Audience == "" {
		r.Audience = g.audience
	}
	if r.Timestamp == 0 {
		r.Timestamp = seal.Timestamp(time.Now())
	}
	if r.RequestID == [16]byte{} {
		r.RequestID = id16()
	}
	r.Auth = seal.RequestAuth{Kind: seal.AuthNone}
	if a.kind != seal.AuthNone && a.kind != 0 {
		if err := r.Sign(a.kind, a.leaf, a.signer); err != nil {
			g.tb.Fatal(err)
		}
	}
	if a.late != nil {
		a.late(&r)
	}
	b, err := r.AppendBinary(nil)
	if err != nil {
		g.tb.Fatal(err)
	}
	return b
}

// token returns a fresh token for an audience.
func (g *gate) token(audience string) []byte {
	g.tb.Helper()
	if len(g.pot[audience]) == 0 {
		g.pot[audience] = g.tokens(g.account, g.issuer, audience, 32)
	}
	t := g.pot[audience][0]
	g.pot[audience] = g.pot[audience][1:]
	return t
}

// spec is how a method is asked rightly.
type spec struct {
	method   string
	token    bool
	kind     seal.AuthKind
	leaf     uint32
	signer   *primitive.SigningKey
	groupID  []byte
	ear      primitive.Secret // the key at rest of the room
	body     proto.Message
	badSig   mmrerr.Code // signed with a foreign key
	unknown  func(proto.Message, *ask)
	refused  mmrerr.Code // the answer to unknown, and to whatever must look like it
	existing []variant   // must look exactly like unknown
	cases    []variant
}

// variant is one way to break a request.
type variant struct {
	name string
	body func() proto.Message
	ask  func(*ask)
	want mmrerr.Code
}

func (g *gate) right(s spec) ask {
	g.tb.Helper()
	b, err := proto.Marshal(s.body)
	if err != nil {
		g.tb.Fatal(err)
	}
	a := ask{Request: seal.Request{Method: s.method, GroupID: s.groupID, EARKey: s.ear, Body: b}, kind: s.kind, leaf: s.leaf, signer: s.signer}
	if s.token {
		a.Token = g.token(g.audience)
	}
	return a
}

func (g *gate) with(s spec, v variant) ask {
	g.tb.Helper()
	if v.body != nil {
		s.body = v.body()
	}
	a := g.right(s)
	if v.ask != nil {
		v.ask(&a)
	}
	return a
}

// method runs everything that applies to all methods, then the method's own cases.
func (g *gate) method(t *testing.T, s spec) {
	g.covered[s.method] = true
	expect := func(name string, got outcome, want mmrerr.Code) {
		t.Helper()
		if got.Status != codes.OK || got.Code != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	foreign, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	generic := []variant{
		{"garbage body", nil, func(a *ask) { a.Body = []byte{0xff, 0xff, 0xff, 0xff, 0xff} }, mmrerr.Malformed},
		{"unknown field in the body", nil, func(a *ask) { a.Body = append(slices.Clone(a.Body), 0xa2, 0x06, 0x01, 0x00) }, mmrerr.Malformed},
		{"other audience", nil, func(a *ask) { a.Audience = "hub:elsewhere.example" }, mmrerr.Audience},
		{"old", nil, func(a *ask) { a.Timestamp = seal.Timestamp(time.Now().Add(-5 * time.Minute)) }, mmrerr.Stale},
		{"of the future", nil, func(a *ask) { a.Timestamp = seal.Timestamp(time.Now().Add(5 * time.Minute)) }, mmrerr.Stale},
	}
	if s.token {
		generic = append(generic,
			variant{"no token", nil, func(a *ask) { a.Token = nil }, mmrerr.TokenRequired},
			variant{"garbage token", nil, func(a *ask) { a.Token = randomBytes(354) }, mmrerr.TokenInvalid},
			variant{"truncated token", nil, func(a *ask) { a.Token = a.Token[:200] }, mmrerr.TokenInvalid},
			variant{"token for another service", nil, func(a *ask) { a.Token = g.token("relay:a.example") }, mmrerr.TokenInvalid},
		)
		spent := g.with(s, variant{ask: func(a *ask) {
			if s.badSig != mmrerr.OK {
				a.signer = foreign
			}
		}})
		g.ask(spent)
		again := g.right(s)
		again.Token = spent.Token
		expect("spent token", g.ask(again), mmrerr.TokenSpent)
	} else {
		generic = append(generic, variant{"a token nobody asked for", nil, func(a *ask) { a.Token = randomBytes(354) }, mmrerr.Malformed})
	}
	if s.badSig != mmrerr.OK {
		generic = append(generic,
			variant{"foreign signature", nil, func(a *ask) { a.signer = foreign }, s.badSig},
			variant{"no signature bytes", nil, func(a *ask) { a.late = func(r *seal.Request) { r.Auth.Signature = nil } }, s.badSig},
			variant{"signed other body", nil, func(a *ask) {
				a.late = func(r *seal.Request) { r.RequestID = id16() }
			}, s.badSig})
	}
	for _, v := range append(generic, s.cases...) {
		got := g.ask(g.with(s, v))
		expect(v.name, got, v.want)
		if v.want == mmrerr.Stale && len(got.Detail) != 8 {
			t.Errorf("%s: no clock in the detail", v.name)
		}
	}
	g.alike(t, s, foreign)
	g.replayed(t, s)
}

// alike compares unknown things with existing ones that are refused.
func (g *gate) alike(t *testing.T, s spec, foreign *primitive.SigningKey) {
	if s.unknown == nil {
		return
	}
	unknown := func() outcome {
		m := proto.Clone(s.body)
		var change ask
		s.unknown(m, &change)
		a := g.with(s, variant{body: func() proto.Message { return m }})
		if change.GroupID != nil {
			a.GroupID = change.GroupID
		}
		return g.ask(a)
	}()
	if unknown.Code != s.refused {
		t.Errorf("unknown: %s, want %s", unknown, s.refused)
	}
	if s.badSig == s.refused {
		s.existing = append(s.existing, variant{name: "foreign signature", ask: func(a *ask) { a.signer = foreign }})
	}
	for _, v := range s.existing {
		if got := g.ask(g.with(s, v)); got != unknown {
			t.Errorf("%s: %s, but unknown: %s", v.name, got, unknown)
		}
	}
}

// replayed sends a refused request's very bytes again.
func (g *gate) replayed(t *testing.T, s spec) {
	enc, opener, err := seal.Encapsulate(g.key, g.serialize(g.with(s, variant{ask: func(a *ask) { a.Body = []byte{0xff} }})))
	if err != nil {
		t.Fatal(err)
	}
	if got := g.send(enc, opener.Open); got.Code != mmrerr.Malformed {
		t.Errorf("before the replay: %s", got)
	}
	if got := g.send(enc, opener.Open); got.Status == codes.OK || got.Code != mmrerr.Replay {
		t.Errorf("replayed: %s", got)
	}
}

// outer runs everything that is refused before a method is known.
func (g *gate) outer(t *testing.T) {
	good, _, err := seal.Encapsulate(g.key, g.serialize(ask{Request: seal.Request{Method: "no.such", Body: randomBytes(900)}}))
	if err != nil {
		t.Fatal(err)
	}
	flipped, wrongKey, wrongSuite := slices.Clone(good), slices.Clone(good), slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	wrongKey[0] ^= 0x80
	wrongSuite[6] ^= 1
	for _, c := range []struct {
		name string
		in   []byte
		want mmrerr.Code
	}{
		{"nothing", nil, mmrerr.PaddingBucket},
		{"one byte", []byte{1}, mmrerr.PaddingBucket},
		{"a byte less than a bucket", good[:len(good)-1], mmrerr.PaddingBucket},
		{"a byte more than a bucket", append(slices.Clone(good), 0), mmrerr.PaddingBucket},
		{"larger than the largest bucket", make([]byte, 3<<19), mmrerr.TooLarge},
		{"garbage", randomBytes(512), mmrerr.Malformed},
		{"zeros", make([]byte, 1<<20), mmrerr.Malformed},
		{"cut to a smaller bucket", good[:512], mmrerr.Malformed},
		{"flipped bit", flipped, mmrerr.Malformed},
		{"unknown key", wrongKey, mmrerr.Malformed},
		{"unknown suite", wrongSuite, mmrerr.Malformed},
	} {
		if got := g.send(c.in, nil); got.Status == codes.OK || got.Code != c.want {
			t.Errorf("outer %s: %s, want %s", c.name, got, c.want)
		}
	}
	request := g.serialize(ask{Request: seal.Request{Method: "hub.Submit", Body: randomBytes(50)}})
	inner := map[string][]byte{"nothing": nil, "garbage": randomBytes(300), "trailing byte": append(slices.Clone(request), 0), "other version": append([]byte{2}, request[1:]...)}
	for i := 0; i < len(request); i += 7 {
		inner[fmt.Sprintf("cut at %d", i)] = request[:i]
	}
	for name, b := range inner {
		if got := g.plain(b); got.Status != codes.OK || got.Code != mmrerr.Malformed {
			t.Errorf("inner %s: %s", name, got)
		}
	}
	if got := g.ask(ask{Request: seal.Request{Method: "no.such"}}); got.Code != mmrerr.Malformed {
		t.Errorf("unknown method: %s", got)
	}
	if got := g.ask(ask{Request: seal.Request{Method: strings.Repeat("x", 60)}}); got.Code != mmrerr.Malformed {
		t.Errorf("long method: %s", got)
	}
}

// garbageCodec sends any bytes as a message.
type garbageCodec struct{}

func (garbageCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (garbageCodec) Unmarshal([]byte, any) error   { return nil }
func (garbageCodec) Name() string                  { return "proto" }

// undecodable calls every RPC of a listener with bytes that are no message, and
// with messages larger than the listener takes.
func undecodable(t *testing.T, conn *grpc.ClientConn, rpcs map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, rpc := range slices.Sorted(maps.Keys(rpcs)) {
		for what, b := range map[string][]byte{"garbage": {0xff, 0xff, 0xff, 0xff}, "oversized": make([]byte, 5<<20)} {
			desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
			s, err := conn.NewStream(ctx, desc, "/"+rpc, grpc.ForceCodec(garbageCodec{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SendMsg(b); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("%s %s: sending: %v", rpc, what, err)
				continue
			}
			_ = s.CloseSend() // the answer tells
			var out []byte
			for err == nil {
				err = s.RecvMsg(&out)
			}
			switch code := status.Code(err); {
			case what == "oversized" && code != codes.ResourceExhausted, what == "garbage" && code != codes.Internal:
				if code != codes.Unimplemented { // served on the other listener
					t.Errorf("%s %s: %v", rpc, what, err)
				}
			}
		}
	}
}

// unchanged compares what services have at rest before and after.
func (w *world) unchanged(t *testing.T, f func()) {
	t.Helper()
	services := append([]*service{w.hub}, slices.Collect(maps.Values(w.relays))...)
	read := func() map[string]map[string]string {
		states := make(map[string]map[string]string)
		for _, s := range services {
			states[s.domain] = s.state(t)
		}
		return states
	}
	before := read()
	for calm := 0; calm < 4; { // clients may still acknowledge what they have got
		time.Sleep(250 * time.Millisecond)
		now := read()
		calm++
		if !maps.EqualFunc(before, now, maps.Equal) {
			calm = 0
		}
		before = now
	}
	f()
	for _, s := range services {
		after := s.state(t)
		for _, k := range slices.Sorted(maps.Keys(after)) {
			if old, ok := before[s.domain][k]; !ok {
				t.Errorf("%s has a new record %s", s.domain, k)
			} else if old != after[k] {
				t.Errorf("%s changed record %s: %s", s.domain, k, cmp.Diff(old, after[k]))
			}
			delete(before[s.domain], k)
		}
		for k := range before[s.domain] {
			t.Errorf("%s lost record %s", s.domain, k)
		}
	}
	if log := w.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "\"ERROR\"") {
		for line := range strings.Lines(log) {
			if strings.Contains(line, "panic") || strings.Contains(line, "\"ERROR\"") {
				t.Errorf("log: %s", line)
			}
		}
	}
}

// quiet waits until nothing is on its way any more.
func (w *world) quiet(tb testing.TB) {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		waiting := 0
		for _, id := range w.hub.queues.list() {
			st, err := w.hub.queues.Stat(context.Background(), id)
			if err == nil {
				waiting += st.Entries
			}
		}
		for _, e := range w.hub.atRest(tb) {
			if e.place == "hub" && len(e.group) == 33 && strings.HasPrefix(e.name, "o") {
				waiting++
			}
		}
		if waiting == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	tb.Fatal("the hub is not done")
}

var _ = client.KindMessage

func protoBytes(b []byte) protoreflect.Value { return protoreflect.ValueOfBytes(b) }
