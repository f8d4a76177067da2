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

	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/pkg/mls"
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
	ilks   map[[32]byte]primitive.Secret // link keys of all identities by TBS hash
	rates  hub.Rates
	limits hub.Limits
	idle   int // months
	cover  float64
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
	w := &world{t: t, store: &faultyKV{Store: kv.NewMemory()}, outbox: outbox, box: outbox, log: new(bytes.Buffer), ilks: make(map[[32]byte]primitive.Secret), rates: hub.Rates{Requests: 100_000, Commits: 100_000}}
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
		Registerer: prometheus.NewRegistry(), Rates: w.rates, IdleMonths: w.idle, Limits: w.limits, CoverRate: w.cover,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.h.Close) // before its peers
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

func (w *world) resetLimits() { w.h.ResetLimits() }

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

func removal(i mls.LeafIndex) []*mls.ProposalBody {
	return []*mls.ProposalBody{mls.RemoveProposal(i)}
}

// flip changes the last byte.
func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// lawless is a member that obeys no rule and signs what it likes.
func (p *party) lawless() *mlstest.Lawless {
	p.w.t.Helper()
	c := mlstest.Client{W: &mlstest.World{T: p.w.t, Suite: suite, Server: p.g.Public()}, Group: p.g, ID: p.Identity}
	l := c.Lawless()
	l.Signer = p.signer
	return l
}

func list[T any](xs ...T) []T { return xs }
