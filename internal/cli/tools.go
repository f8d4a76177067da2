package cli

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

func contextWithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

type pingCmd struct {
	Addr   string `help:"host:port of the listener." required:"" placeholder:"ADDR"`
	Domain string `help:"Domain in its certificate." required:"" placeholder:"DOMAIN"`
	CA     string `help:"PEM bundle of roots: operators.pem of a trust directory." required:"" type:"existingfile" placeholder:"FILE"`
	Keys   string `help:"Key directory whose certificate is presented, for listeners of peers." type:"existingdir" placeholder:"DIR"`
}

func (k *pingCmd) Run(e *env) error {
	roots, err := keys.Pool(k.CA)
	if err != nil {
		return err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: k.Domain}
	if k.Keys != "" {
		cert, err := tls.LoadX509KeyPair(k.Keys+"/tls.crt", k.Keys+"/tls.key")
		if err != nil {
			return err
		}
		t.Certificates = []tls.Certificate{cert}
	}
	conn, err := grpc.NewClient(k.Addr, grpc.WithTransportCredentials(credentials.NewTLS(t)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing depends on it
	ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
	defer cancel()
	start := time.Now()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("no answer: %w\nhint: listeners of peers ask for a certificate: --keys", err)
	}
	if res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return errors.New("the service says that it is not serving")
	}
	d := time.Since(start).Round(time.Millisecond)
	return e.print(map[string]any{"domain": k.Domain, "status": "serving", "ms": d.Milliseconds()}, fmt.Sprintf("%s is serving (%v)", k.Domain, d))
}

type inspectCmd struct {
	What string `arg:"" help:"An MLSMessage in hex or base64, a file that holds one, or a join link."`
}

func (k *inspectCmd) Run(e *env) error {
	if l, err := pseudonym.ParseJoinLink(k.What); err == nil {
		at := time.Unix(int64(l.NotAfter), 0).UTC().Format(time.RFC3339)
		return e.print(map[string]string{"type": "join link", "room": pseudonym.RoomURI(l.HubDomain, l.GroupID), "inviter": l.Inviter.String(), "not_after": at},
			fmt.Sprintf("join link to %s by %s, until %s", pseudonym.RoomURI(l.HubDomain, l.GroupID), l.Inviter, at))
	}
	raw, err := inspectBytes(k.What)
	if err != nil {
		return err
	}
	m, err := mls.ParseMessage(raw, nil)
	if err != nil {
		return fmt.Errorf("not an MLSMessage: %w", err)
	}
	out := map[string]any{"type": fmt.Sprint(m.Format), "bytes": len(raw)}
	if id := m.GroupID(); id != nil {
		out["group_id"], out["epoch"] = hex.EncodeToString(id), m.Epoch()
	}
	return e.print(out, fmt.Sprint(out))
}

func inspectBytes(s string) ([]byte, error) {
	if data, err := os.ReadFile(s); err == nil {
		return data, nil
	}
	s = strings.TrimSpace(s)
	if b, err := hex.DecodeString(s); err == nil {
		return b, nil
	}
	if b, err := base64.StdEncoding.DecodeString(s); err == nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: neither a file, hex, base64 nor a join link", errUsage)
}
