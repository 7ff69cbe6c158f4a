package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"crypto/tls"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/api/storage"
	"github.com/ebb-compute/ebb/internal/cli"
	"github.com/ebb-compute/ebb/internal/config"
)

// serve runs a server until ctx ends. What runs on nodes goes on without it.
func serve(ctx context.Context, flags cli.ServeFlags) error {
	data, err := filepath.Abs(flags.Data)
	if err != nil {
		return err
	}
	conf, err := config.Load(flags.Config, data)
	if err != nil {
		return err
	}
	if flags.Listen != "" {
		conf.Listen = flags.Listen
	}
	if err := conf.Validate(); err != nil {
		return err
	}
	log := logger(conf.LogLevel)
	listener, err := listen(conf.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := os.MkdirAll(conf.Data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	s, err := open(ctx, conf, log)
	if err != nil {
		return err
	}
	return errors.Join(s.run(ctx, listener), s.close())
}

// webLog has what net/http says of connections: scanners and clients that left are
// of no interest, all else (a panic) is.
type webLog struct{ log *slog.Logger }

func (w webLog) Write(line []byte) (int, error) {
	level, text := slog.LevelWarn, strings.TrimSpace(string(line))
	if strings.HasPrefix(text, "http: TLS handshake error") || strings.HasPrefix(text, "http2: ") && !strings.HasPrefix(text, "http2: panic") {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, text)
	return len(line), nil
}

// listen takes the address, before anything is made in the data folder.
func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s: choose another address with --listen (127.0.0.1:0 takes any free port). If it is a server of yours, \"ebb status\" says so", address)
	}
	return listener, err
}

func logger(level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // Validate has seen it
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
}

// run says "ready", and serves until ctx ends.
func (s *server) run(ctx context.Context, listener net.Listener) error {
	url := "https://" + reachable(listener.Addr().(*net.TCPAddr), s.conf.Listen)
	handler, err := s.handler(ctx, url)
	if err != nil {
		return err
	}
	if err := s.publish(ctx, url); err != nil {
		return err
	}
	web := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          log.New(webLog{s.log}, "", 0),
	}

	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		stop() // first, or a server that cannot serve would wait for ever
		wg.Wait()
	}()
	wg.Go(func() { s.loop.Run(ctx) })
	wg.Go(func() { s.keepTime(ctx) })
	wg.Go(func() { s.keepTidy(ctx) })
	wg.Go(func() {
		if err := storage.Tidy(ctx, s.blobs, storageAccounts{s.accounts}.living(ctx)); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "deleted containers not emptied", "err", err)
		}
	})
	wg.Go(func() { s.workspaces.Run(ctx) })
	wg.Go(func() { s.deployments.Run(ctx) })
	failed := make(chan error, 1)
	secure := s.ca.TLSConfig()
	secure.DynamicRecordSizingDisabled = true // a hundred small records first would serve slow links, at a system call each
	wg.Go(func() { failed <- web.Serve(tls.NewListener(listener, secure)) })
	fmt.Println("ready " + url)
	s.log.InfoContext(ctx, "served", "url", url, "data", s.conf.Data, "version", version, "term", s.store.Term())

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.log.Info("stopped", "url", url)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := web.Shutdown(grace); err != nil {
		_ = web.Close() // a long poll or an agent's connection: both come back
	}
	return nil
}

// reachable is the host:port that clients on this machine use: a server that
// listens everywhere is reached on loopback.
func reachable(addr *net.TCPAddr, asked string) string {
	host, _, _ := net.SplitHostPort(asked)
	if host == "" || addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// publish writes where the server is: for agents, and for clients.
func (s *server) publish(ctx context.Context, url string) error {
	bundle := filepath.Join(s.conf.Data, "ca-bundle.pem")
	if err := s.ca.Bundle(bundle); err != nil {
		return fmt.Errorf("write the bundle of authorities: %w", err)
	}
	at := map[string]string{"url": url, "ca": bundle}
	if err := writeFile(filepath.Join(s.conf.Data, "server.json"), at); err != nil {
		return fmt.Errorf("write server.json: %w", err)
	}
	want := client.File{
		URL: url, CA: s.ca.Path(), TenantID: s.seed.TenantID, ClientID: s.seed.ClientID, ClientSecret: s.seed.Secret,
		SubscriptionID: s.seed.SubscriptionID, ResourceGroup: s.seed.ResourceGroup, WorkspaceName: s.seed.Workspace,
	}
	err := keepClientFile(filepath.Join(s.conf.Data, "client.json"), want, func() (string, error) {
		c, err := s.workspaces.NewSecret(ctx)
		return c.Secret, err
	})
	if err != nil {
		return fmt.Errorf("write client.json: %w", err)
	}
	return nil
}
