package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/admin"
	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/api/data"
	"github.com/ebb-compute/ebb/internal/api/exec"
	"github.com/ebb-compute/ebb/internal/api/login"
	"github.com/ebb-compute/ebb/internal/api/mgmt"
	"github.com/ebb-compute/ebb/internal/api/nodes"
	"github.com/ebb-compute/ebb/internal/api/schema"
	"github.com/ebb-compute/ebb/internal/api/storage"
	"github.com/ebb-compute/ebb/internal/api/studio"
	"github.com/ebb-compute/ebb/internal/app/accounts"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/authorization"
	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/app/deployments"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/app/resources"
	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/backup"
	"github.com/ebb-compute/ebb/internal/blob"
	"github.com/ebb-compute/ebb/internal/clock"
	"github.com/ebb-compute/ebb/internal/config"
	"github.com/ebb-compute/ebb/internal/control"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/engine/local"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/node"
	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/pki"
	"github.com/ebb-compute/ebb/internal/store"
	"github.com/ebb-compute/ebb/internal/token"
)

// server is everything that is open while a server runs.
type server struct {
	conf  config.Config
	log   *slog.Logger
	store *store.Store
	blobs *blob.Store
	clock *clock.Clock
	keys  *token.Keys
	ca    *pki.CA
	loop  *control.Loop
	seed  workspaces.Client

	workspaces *workspaces.Service
	resources  *resources.Service

	authorization *authorization.Service
	computes      *computes.Service
	jobs          *jobs.Service
	assets        *assets.Service
	accounts      *accounts.Service
	deployments   *deployments.Service

	images json.RawMessage // settings of nodes
}

// open opens the data folder, makes on the first start what a server needs, and
// wires the rooms. The store comes first: its lock keeps a second server out.
func open(ctx context.Context, conf config.Config, log *slog.Logger) (_ *server, err error) {
	s := &server{conf: conf, log: log}
	whole := func() error { return backup.Check(conf.Data) }
	if s.store, err = store.Open(ctx, conf.Data, store.Options{Log: log, Held: whole}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if s.blobs, err = blob.Open(filepath.Join(conf.Data, "blobs")); err != nil {
		return nil, fmt.Errorf("open the blobs: %w", err)
	}
	saved, err := s.savedTime(ctx)
	if err != nil {
		return nil, err
	}
	s.clock = clock.New(saved, clock.Options{})
	s.store.KeepTime(s.clock.Now)
	if s.keys, err = token.Open(filepath.Join(conf.Data, "keys")); err != nil {
		return nil, fmt.Errorf("open the keys: %w", err)
	}
	host, _, _ := net.SplitHostPort(conf.Listen)
	names := conf.Names
	if host != "" && !net.ParseIP(host).IsUnspecified() {
		names = append([]string{host}, names...)
	}
	if s.ca, err = pki.Ensure(filepath.Join(conf.Data, "pki"), names, time.Now); err != nil {
		return nil, fmt.Errorf("open the certificate authority: %w", err)
	}
	if s.images, err = imageSettings(conf.Images); err != nil {
		return nil, err
	}
	s.services()
	if s.assets.Curated, err = assets.ReadCurated(conf.Images.Curated); err != nil {
		return nil, err
	}
	if s.seed, err = s.workspaces.Seed(ctx); err != nil {
		return nil, fmt.Errorf("make the first workspace: %w", err)
	}
	if err := s.accounts.Index(ctx); err != nil {
		return nil, err
	}
	s.loop = &control.Loop{
		Store: s.store, Engine: s.engine(), Now: s.clock.Now, Term: s.store.Term(), Epoch: s.store.Epoch(), Log: log,
		Installation: s.seed.TenantID,
		Token: func(node string) string {
			t, err := s.keys.SignNode(node)
			if err != nil {
				log.Error("node token not made", "node", node, "err", err)
			}
			return t
		},
	}
	if s.loop.Restored, err = s.restored(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// restored reports whether the state was restored and nobody has held it yet
// against what the engine has.
func (s *server) restored(ctx context.Context) (bool, error) {
	r, err := s.store.Get(ctx, control.StockKey)
	if errors.Is(err, fault.NotFound) {
		return s.store.Epoch() > 0, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the stock: %w", err)
	}
	return control.StockOf(r.Row.(row.Document)) != s.store.Epoch(), nil
}

func (s *server) close() error {
	var errs []error
	if s.clock != nil {
		errs = append(errs, s.saveTime(context.Background()))
	}
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	return errors.Join(append(errs, s.store.Close())...)
}

func newID() string { return uuid.NewString() }

func (s *server) services() {
	files := data.Store{Blobs: s.blobs}
	rows := held{s.store}
	s.workspaces = &workspaces.Service{Store: s.store, Now: s.clock.Now, NewID: newID, Log: s.log, Files: prunable{s.blobs}}
	s.authorization = &authorization.Service{Store: rows, Now: s.clock.Now, NewID: newID}
	s.resources = &resources.Service{Store: rows, Groups: s.workspaces, Now: s.clock.Now, NewID: newID}
	s.computes = &computes.Service{Store: rows, Workspaces: s.workspaces, Now: s.clock.Now, NewID: newID, Log: s.log, Large: s.conf.LargeClusters}
	s.deployments = &deployments.Service{Store: rows, Scopes: s.workspaces, Secrets: s.keys, Now: s.clock.Now, NewID: newID, Log: s.log}
	s.jobs = &jobs.Service{Store: rows, Now: s.clock.Now, NewID: newID, Log: s.log}
	s.accounts = &accounts.Service{Store: s.store, Workspaces: s.workspaces, Deriver: s.keys, Now: s.clock.Now}
	s.assets = &assets.Service{Store: rows, Files: files, Secrets: s.keys, Now: s.clock.Now, NewID: newID}
}

// held is the store for those who write into workspaces and groups: what these are
// not there for any more is refused.
type held struct{ *store.Store }

func (h held) Commit(ctx context.Context, changes ...row.Change) (int64, error) {
	return workspaces.Commit(ctx, h.Store, changes...)
}

// engine is this machine.
func (s *server) engine() *local.Engine {
	return &local.Engine{
		Dir:             filepath.Join(s.conf.Data, "nodes"),
		Server:          filepath.Join(s.conf.Data, "server.json"),
		Cache:           filepath.Join(s.conf.Data, "cache"),
		Readable:        s.conf.Local.Readable,
		Networks:        s.conf.Local.InputNetworks,
		Images:          s.images,
		EndAttempt:      node.EndAttempt,
		EndNode:         node.EndNode,
		Container:       local.Container(s.conf.Container),
		NvidiaSMI:       s.conf.Local.NvidiaSMI,
		NoOversubscribe: !s.conf.Local.Oversubscribe,
		GPURequired:     s.conf.Local.GPU == "required",
		Log:             s.log,
	}
}

// handler is everything the server answers, on one listener. Blobs come first:
// their host or their container tells them from the rest.
func (s *server) handler(ctx context.Context, url string) (http.Handler, error) {
	tenant, err := s.workspaces.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(url[len("https://"):])
	if err != nil {
		return nil, err
	}
	origins := []string{url, "https://localhost:" + port}
	for _, name := range s.conf.Names {
		origins = append(origins, "https://"+net.JoinHostPort(name, port))
	}
	verifier := login.NewVerifier(s.keys, tenant, origins, s.clock.Now)
	verifier.Living = func(run string, fence int64) bool {
		a, ok := s.store.View().AttemptOf(run)
		return ok && a.Fence == fence
	}
	metrics := admin.NewMetrics(version, s.store.View, s.store.Revision)
	router := &arm.Router{
		Auth: verifier,
		Log:  s.log, Tenant: tenant, NewID: newID, Observe: metrics.Observe, Guard: mgmt.Guard(s.authorization, s.workspaces),
	}
	rt := schema.Checked(router)
	admin.Register(rt, admin.Services{Version: version, Ping: s.ping, Auth: router.Auth, Metrics: metrics, Pruner: s.retention(), Quarantine: quarantined(s.loop), End: s.loop.End})
	login.Register(rt, login.Services{Tenant: tenant, URL: url, Clients: s.workspaces, Devices: s.workspaces, Keys: s.keys, Now: s.clock.Now})
	mgmt.Register(rt, mgmt.Services{Workspaces: s.workspaces, Computes: s.computes, Ledger: s.computes, Records: s.resources, Authorization: s.authorization})
	mgmt.RegisterJobs(rt, mgmt.JobServices{Jobs: s.jobs, Assets: s.assets})
	mgmt.RegisterAccounts(rt, s.accounts)
	mgmt.RegisterAssets(rt, mgmt.AssetServices{Jobs: s.jobs, Assets: s.assets, Accounts: s.accounts, Keys: s.keys, Now: s.clock.Now})
	s.deployments.Calls, s.deployments.Writable = mgmt.Inside{Router: router}, mgmt.Writable(s.authorization, s.workspaces)
	mgmt.RegisterDeployments(rt, s.deployments)
	files := data.Store{Blobs: s.blobs}
	data.Register(rt, data.Services{Jobs: s.jobs, Assets: s.assets, Blobs: files, Keys: s.keys, Now: s.clock.Now})
	studio.Register(rt)
	broker := &exec.Broker{}
	exec.Register(rt, exec.Services{Jobs: s.jobs, View: s.store.View, VerifyNode: s.keys.VerifyNode, Broker: broker})
	agents := nodes.Services{
		Aside:  s.loop.Aside,
		Epoch:  s.store.Epoch(),
		Tokens: s.keys, Sessions: sessions{s.loop}, Rows: s.store, Blobs: appender{files, s.blobs},
		Assets: s.assets, Workspaces: s.workspaces, Execs: broker, Now: s.clock.Now, Log: s.log,
	}
	if err := nodes.Resume(ctx, agents); err != nil {
		return nil, err
	}
	nodes.Register(rt, agents)
	blobs := storage.Handler(storage.Service{
		Blobs: s.blobs, Keys: s.keys, Accounts: storageAccounts{s.accounts}, Bearer: verifier.Verify, Tenant: tenant, Now: s.clock.Now, Log: s.log,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if storage.Matches(r) {
			blobs.ServeHTTP(w, r)
			return
		}
		router.ServeHTTP(w, r)
	}), nil
}

// storageAccounts are the accounts as api/storage sees them.
type storageAccounts struct{ accounts *accounts.Service }

func (s storageAccounts) Account(ctx context.Context, name string) (storage.Account, error) {
	a, err := s.accounts.Find(ctx, name)
	if err != nil {
		return storage.Account{}, err
	}
	out := storage.Account{Unique: a.Unique, Scope: a.Scope, Generations: a.Generations}
	if a.Workspace != "" {
		place := assets.Place{GUID: a.Workspace}
		out.Containers, out.Owns = []string{place.ArtifactContainer(), place.DatastoreContainer()}, place.Owns
	}
	return out, nil
}

// living reports whether the account is there whose containers are named so.
func (s storageAccounts) living(ctx context.Context) func(unique string) (bool, error) {
	return func(unique string) (bool, error) {
		name, _, _ := strings.Cut(unique, "@")
		a, err := s.accounts.Find(ctx, name)
		if errors.Is(err, fault.NotFound) {
			return false, nil
		}
		return a.Unique == unique, err
	}
}

// ping reads a row, which need not be there.
func (s *server) ping(ctx context.Context) error {
	if _, err := s.store.Get(ctx, timeKey); err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// sessions is control as api/nodes sees it.
type sessions struct{ loop *control.Loop }

func (s sessions) Connect(ctx context.Context, h nodeproto.Hello) (nodes.Session, error) {
	session, err := s.loop.Connect(ctx, h)
	if err != nil {
		return nil, err
	}
	return session, nil
}

// timeKey is where the site clock is kept.
var timeKey = row.Key{Kind: row.Datum, ID: "clock"}

// savedTime reads the site's time as it was last kept: with the last commit, and
// before commits kept it, in a row of its own.
func (s *server) savedTime(ctx context.Context) (time.Time, error) {
	last, err := s.store.Time(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the site's time: %w", err)
	}
	r, err := s.store.Get(ctx, timeKey)
	if errors.Is(err, fault.NotFound) {
		return last, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the site's time: %w", err)
	}
	var t time.Time
	if err := t.UnmarshalJSON(r.Row.(row.Document).Body); err != nil {
		return time.Time{}, fmt.Errorf("read the site's time: %w", err)
	}
	if last.After(t) {
		t = last
	}
	return t, nil
}

func (s *server) saveTime(ctx context.Context) error {
	now := s.clock.Now()
	body, err := now.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = s.store.Commit(ctx, row.Put(row.Document{Kind: timeKey.Kind, ID: timeKey.ID, Body: body, Created: now, Modified: now}))
	return err
}

// keepTime keeps the site's time once a minute, beside what each commit keeps: a
// crash loses no more.
func (s *server) keepTime(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.saveTime(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "site time not kept", "err", err)
			}
		}
	}
}
