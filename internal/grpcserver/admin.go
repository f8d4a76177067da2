package grpcserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mmrelay/mmrelay/internal/buildinfo"
)

// Admin serves /livez, /readyz and /metrics over plain HTTP on an address that
// only the operator reaches (default: loopback).
type Admin struct {
	srv *http.Server
	mux *http.ServeMux
	lis net.Listener
}

// NewRegistry returns a private registry with Go, process and build metrics.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mmr_build_info", Help: "Always 1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": buildinfo.Version(), "go": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return r
}

// NewAdmin listens on addr. ready is asked by /readyz and says whether the
// daemon can do its work (store answers, keys loaded); its error text is not shown.
func NewAdmin(addr, addrFile string, g prometheus.Gatherer, ready func(context.Context) error) (*Admin, error) {
	lis, err := Listen(addr, addrFile)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	return &Admin{lis: lis, mux: mux, srv: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
	}}, nil
}

// Handle serves something else too. It must be called before Run.
func (a *Admin) Handle(pattern string, h http.Handler) { a.mux.Handle(pattern, h) }

// Addr is where the listener is.
func (a *Admin) Addr() string { return a.lis.Addr().String() }

// Run serves until ctx ends.
func (a *Admin) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = a.srv.Close() }) // Serve reports the close
	defer stop()
	if err := a.srv.Serve(a.lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
