//go:build mmrtap

package daemon

import (
	"context"
	"encoding/json"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/mmrelay/mmrelay/internal/gateway"
)

type tapFlags struct {
	TapFile string `help:"DEMO BUILD: append everything this daemon sees to a file." placeholder:"FILE"`
}

// tapRecord is one line of the file: JSON, bytes in base64.
type tapRecord struct {
	Place  string `json:"place"`          // client, peer or gateway
	Method string `json:"method"`         // gRPC method or method inside the encapsulation
	Who    string `json:"who,omitempty"`  // name in the caller's certificate
	Addr   string `json:"addr,omitempty"` // the caller's address
	Data   []byte `json:"data"`
}

type tapWriter struct {
	mu  sync.Mutex // guards enc
	enc *json.Encoder
}

func (w *tapWriter) write(r tapRecord) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.enc.Encode(r) // a demo that cannot write its file fails on reading it
}

func (f tapFlags) open() (*tap, error) {
	if f.TapFile == "" {
		return nil, nil
	}
	file, err := os.OpenFile(f.TapFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	w := &tapWriter{enc: json.NewEncoder(file)}
	return &tap{place: w.options, wrap: w.wrap, done: func() { _ = file.Close() }}, nil
}

func (w *tapWriter) message(ctx context.Context, place, method string, m any) {
	r := tapRecord{Place: place, Method: method}
	if p, ok := peer.FromContext(ctx); ok {
		r.Addr = p.Addr.String()
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.PeerCertificates) > 0 {
			c := t.State.PeerCertificates[0]
			r.Who = c.Subject.CommonName
			for _, u := range c.URIs {
				r.Who += " " + u.String()
			}
		}
	}
	if pm, ok := m.(proto.Message); ok {
		r.Data, _ = proto.Marshal(pm) // what was just received or is about to be sent
	}
	w.write(r)
}

func (w *tapWriter) options(place string) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			w.message(ctx, place, info.FullMethod, req)
			res, err := next(ctx, req)
			if err == nil {
				w.message(ctx, place, info.FullMethod+" answer", res)
			}
			return res, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &tapStream{ss, w, place, info.FullMethod})
		}),
	}
}

type tapStream struct {
	grpc.ServerStream
	w             *tapWriter
	place, method string
}

func (s *tapStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.w.message(s.Context(), s.place, s.method, m)
	}
	return err
}

func (s *tapStream) SendMsg(m any) error {
	s.w.message(s.Context(), s.place, s.method+" answer", m)
	return s.ServerStream.SendMsg(m)
}

func (w *tapWriter) wrap(method string, next gateway.Handler) gateway.Handler {
	return func(ctx context.Context, c *gateway.Call) ([]byte, error) {
		raw, _ := c.Request.AppendBinary(nil) // it was parsed from these bytes
		w.write(tapRecord{Place: "gateway", Method: method, Data: raw})
		res, err := next(ctx, c)
		w.write(tapRecord{Place: "gateway", Method: method + " answer", Data: res})
		return res, err
	}
}
