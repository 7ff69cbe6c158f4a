package workspaces

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// What the first start makes is called so.
const (
	firstGroup     = "ebb"
	firstWorkspace = "main"
	firstRegion    = "westus2"
)

// installation is the row that says the first start is done.
var installation = row.Key{Kind: row.Datum, ID: "installation"}

// Client is what a client needs to sign in and find the first workspace.
type Client struct {
	TenantID       string `json:"tenant"`
	ClientID       string `json:"client"`
	Secret         string `json:"-"` // only as it is made; its hash is kept
	ObjectID       string `json:"object"`
	SubscriptionID string `json:"subscription"`
	ResourceGroup  string `json:"group"`
	Workspace      string `json:"workspace"`
}

// credential is a client's, as it is kept. A secret has 256 bits, so that one
// round of SHA-256 is all the hashing it needs.
type credential struct {
	ClientID string   `json:"client"`
	ObjectID string   `json:"object"`
	Name     string   `json:"name"`
	Tenant   string   `json:"tenant"`
	Hashes   []string `json:"hashes"` // SHA-256 of the secrets that open it, hexadecimal; the newest last
}

// Seed makes the tenant, a subscription, the resource group "ebb", the workspace
// "main" and a client, once, in one commit. Later calls return the same with an
// empty Secret: only its hash is kept ([Service.NewSecret] makes another).
func (s *Service) Seed(ctx context.Context) (Client, error) {
	have, err := s.seeded(ctx)
	if err == nil || !errors.Is(err, fault.NotFound) {
		return have, err
	}
	c := Client{
		TenantID: s.NewID(), ClientID: s.NewID(), ObjectID: s.NewID(), SubscriptionID: s.NewID(),
		ResourceGroup: firstGroup, Workspace: firstWorkspace, Secret: newSecret(),
	}
	changes, err := s.first(c)
	if err != nil {
		return Client{}, err
	}
	if _, err := s.Store.Commit(ctx, changes...); err != nil {
		if errors.Is(err, fault.Precondition) { // another call was first
			return s.seeded(ctx)
		}
		return Client{}, fmt.Errorf("seed the store: %w", err)
	}
	s.logger().InfoContext(ctx, "seeded", "tenant", c.TenantID, "subscription", c.SubscriptionID, "workspace", c.Workspace)
	return c, nil
}

func (s *Service) seeded(ctx context.Context) (Client, error) {
	rec, err := s.Store.Get(ctx, installation)
	if err != nil {
		return Client{}, fmt.Errorf("get the installation: %w", err)
	}
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return Client{}, fmt.Errorf("installation row is a %T", rec.Row)
	}
	var c Client
	if err := json.Unmarshal(doc.Body, &c); err != nil {
		return Client{}, fmt.Errorf("decode the installation: %w", err)
	}
	return c, nil
}

// first returns the rows of the first start.
func (s *Service) first(c Client) ([]row.Change, error) {
	now := s.Now()
	region := s.region()
	sub, group := armid.Subscription(c.SubscriptionID), armid.Group(c.SubscriptionID, c.ResourceGroup)
	ws := armid.Workspace(c.SubscriptionID, c.ResourceGroup, c.Workspace)
	resource := s.workspace(c, ws, region, now)
	bodies := []struct {
		kind       row.Kind
		id, parent string
		body       any
	}{
		{row.Datum, installation.ID, "", c},
		{row.Datum, clientRow(c.ClientID).ID, "", credential{c.ClientID, c.ObjectID, "ebb", c.TenantID, []string{hash(c.Secret)}}},
		{row.Subscription, c.SubscriptionID, "", map[string]any{
			"id": sub, "subscriptionId": c.SubscriptionID, "displayName": "Ebb", "tenantId": c.TenantID, "state": "Enabled",
			"authorizationSource": "RoleBased", "managedByTenants": []any{}, "subscriptionPolicies": map[string]any{"locationPlacementId": "Public_2014-09-01", "quotaId": "Internal_2014-09-01", "spendingLimit": "Off"},
		}},
		{row.ResourceGroup, group, sub, map[string]any{
			"id": group, "name": c.ResourceGroup, "type": "Microsoft.Resources/resourceGroups", "location": region, "tags": map[string]any{},
			"properties": map[string]any{"provisioningState": "Succeeded"},
		}},
		{row.Workspace, ws, group, workspaceBody{c.TenantID, resource}},
		{row.Event, s.NewID(), ws, map[string]any{
			"who": c.ObjectID, "what": "installed", "when": now.Format(time.RFC3339Nano), "why": "The server started for the first time.",
		}},
	}
	changes := []row.Change{row.Create(AccountOwner(account(resource), row.Key{Kind: row.Workspace, ID: strings.ToLower(ws)}, now))}
	for _, b := range bodies {
		raw, err := json.Marshal(b.body)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", b.kind, b.id, err)
		}
		doc := row.Document{Kind: b.kind, ID: strings.ToLower(b.id), Parent: strings.ToLower(b.parent), Body: raw, Created: now, Modified: now, By: c.ObjectID}
		if b.kind == row.Event {
			doc.Sort = row.SortTime(now)
		}
		changes = append(changes, row.Create(doc))
	}
	return changes, nil
}

func (s *Service) workspace(c Client, id, region string, now time.Time) map[string]any {
	guid := s.NewID()
	account := armid.Account(guid)
	return map[string]any{
		"id": id, "name": c.Workspace, "type": armid.WorkspaceType, "location": region, "tags": map[string]any{}, "kind": "Default",
		"sku":      map[string]any{"name": "Basic", "tier": "Basic"},
		"identity": map[string]any{"type": "SystemAssigned", "principalId": s.NewID(), "tenantId": c.TenantID},
		"properties": map[string]any{
			"friendlyName": c.Workspace, "description": "", "workspaceId": guid, "provisioningState": "Succeeded",
			"storageAccount":      armid.Group(c.SubscriptionID, c.ResourceGroup) + "/providers/Microsoft.Storage/storageAccounts/" + account,
			"keyVault":            nil,
			"applicationInsights": nil,
			"containerRegistry":   nil,
			"creationTime":        now.Format("2006-01-02T15:04:05.0000000+00:00"),
			"hbiWorkspace":        false, "v1LegacyMode": false, "publicNetworkAccess": "Enabled",
			"tenantId": c.TenantID, "storageHnsEnabled": false, "isPrivateLinkEnabled": false,
		},
		"systemData": map[string]any{
			"createdAt": now.Format(time.RFC3339Nano), "createdBy": c.ObjectID, "createdByType": "Application",
			"lastModifiedAt": now.Format(time.RFC3339Nano), "lastModifiedBy": c.ObjectID, "lastModifiedByType": "Application",
		},
	}
}

// NewSecret gives the first client another secret, for a client.json that is
// lost or was never written. The secret before it keeps working, so that a
// crash between this and the writing locks nobody out; older ones end.
func (s *Service) NewSecret(ctx context.Context) (Client, error) {
	c, err := s.seeded(ctx)
	if err != nil {
		return Client{}, err
	}
	rec, cred, err := s.credential(ctx, c.ClientID)
	if err != nil {
		return Client{}, err
	}
	c.Secret = newSecret()
	cred.Hashes = append(cred.Hashes[max(0, len(cred.Hashes)-1):], hash(c.Secret))
	raw, err := json.Marshal(cred)
	if err != nil {
		return Client{}, fmt.Errorf("encode the credential of %s: %w", c.ClientID, err)
	}
	doc, _ := rec.Row.(row.Document) // credential has seen that it is one
	doc.Body, doc.Modified = raw, s.Now()
	if _, err := s.Store.Commit(ctx, row.Update(doc, rec.Rev)); err != nil {
		return Client{}, fmt.Errorf("keep the credential of %s: %w", c.ClientID, err)
	}
	return c, nil
}

// Tenant returns the guid of the one tenant.
func (s *Service) Tenant(ctx context.Context) (string, error) {
	c, err := s.seeded(ctx)
	return c.TenantID, err
}

// Check returns who a client is if its secret is right. An empty tenant means the
// one there is. The refusals have Entra's codes and say nothing that the caller did not know.
func (s *Service) Check(ctx context.Context, tenant, clientID, secret string) (access.Principal, error) {
	home, err := s.Tenant(ctx)
	if err != nil {
		return access.Principal{}, err
	}
	if tenant != "" && !strings.EqualFold(tenant, home) {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "AADSTS90002", "", "AADSTS90002: Tenant '%.64s' not found. This server has one tenant; its id is in client.json.", tenant)
	}
	_, cred, err := s.credential(ctx, clientID)
	if errors.Is(err, fault.NotFound) {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "AADSTS700016", "", "AADSTS700016: Application with identifier '%.64s' was not found in the directory. The id that this server knows is in client.json.", clientID)
	}
	if err != nil {
		return access.Principal{}, err
	}
	given, right := []byte(hash(secret)), 0
	for _, h := range cred.Hashes {
		right |= subtle.ConstantTimeCompare(given, []byte(h))
	}
	if right != 1 {
		return access.Principal{}, fault.Coded(fault.Unauthorized, "AADSTS7000215", "", "AADSTS7000215: Invalid client secret provided for app '%.64s'. The secret of this server is in client.json.", clientID)
	}
	return access.Principal{ID: cred.ObjectID, App: cred.ClientID, Name: cred.Name, Tenant: cred.Tenant, Kind: access.Application}, nil
}

func (s *Service) credential(ctx context.Context, clientID string) (row.Record, credential, error) {
	rec, err := s.Store.Get(ctx, clientRow(clientID))
	if err != nil {
		return row.Record{}, credential{}, fmt.Errorf("get the credential of a client: %w", err)
	}
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return row.Record{}, credential{}, fmt.Errorf("credential row is a %T", rec.Row)
	}
	var c credential
	if err := json.Unmarshal(doc.Body, &c); err != nil {
		return row.Record{}, credential{}, fmt.Errorf("decode the credential of a client: %w", err)
	}
	return rec, c, nil
}

// ClientPrefix is what the ids of clients' rows begin with.
const ClientPrefix = "client/"

func clientRow(id string) row.Key {
	return row.Key{Kind: row.Datum, ID: ClientPrefix + strings.ToLower(id)}
}

func newSecret() string { return rand.Text() + rand.Text() } // 2 × 128 bits or more

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (s *Service) region() string {
	if s.Region == "" {
		return firstRegion
	}
	return armid.Region(s.Region)
}

func (s *Service) logger() *slog.Logger {
	if s.Log == nil {
		return slog.Default()
	}
	return s.Log
}
