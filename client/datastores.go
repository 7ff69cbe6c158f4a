package client

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultDatastore is where local data goes that names no other.
const DefaultDatastore = "workspaceblobstore"

// Datastores are the calls about datastores.
type Datastores struct{ c *Client }

// Datastores returns the calls about the workspace's datastores.
func (c *Client) Datastores() Datastores { return Datastores{c} }

func (s Datastores) path(name string) string {
	return s.c.file.Workspace() + "/datastores/" + url.PathEscape(name)
}

// All yields every datastore.
func (s Datastores) All(ctx context.Context) iter.Seq2[Asset, error] {
	return all[Asset](ctx, s.c, s.c.file.Workspace()+"/datastores")
}

// Get returns one datastore.
func (s Datastores) Get(ctx context.Context, name string) (Asset, error) {
	var got Asset
	_, err := s.c.Do(ctx, http.MethodGet, s.path(name), nil, &got)
	return got, err
}

// Whole returns a datastore with its secrets, as it can be put back.
func (s Datastores) Whole(ctx context.Context, name string) (Asset, error) {
	got, err := s.Get(ctx, name)
	if err != nil {
		return got, err
	}
	credentials, _ := got.Properties["credentials"].(map[string]any)
	if kind, _ := credentials["credentialsType"].(string); kind == "" || kind == "None" {
		return got, nil
	}
	var secrets map[string]any
	_, err = s.c.Do(ctx, http.MethodPost, s.path(name)+"/listSecrets", map[string]any{}, &secrets)
	credentials["secrets"] = secrets
	return got, err
}

// Put makes or replaces a datastore.
func (s Datastores) Put(ctx context.Context, name string, properties map[string]any) (Asset, error) {
	var got Asset
	_, err := s.c.Do(ctx, http.MethodPut, s.path(name)+"?skipValidation=true", map[string]any{"properties": properties}, &got)
	return got, err
}

// Delete removes a datastore, not what is in it.
func (s Datastores) Delete(ctx context.Context, name string) error {
	_, err := s.c.Do(ctx, http.MethodDelete, s.path(name), nil, nil)
	return err
}

// Open returns a datastore's container, for reading and writing.
func (s Datastores) Open(ctx context.Context, name string) (*Container, error) {
	got, err := s.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	container, _ := got.Properties["containerName"].(string)
	if kind, _ := got.Properties["datastoreType"].(string); kind != "AzureBlob" || container == "" {
		return nil, fmt.Errorf("datastore %s is of the type %s; files are read from and written to AzureBlob ones only", name, kind)
	}
	var secrets struct {
		Type string `json:"secretsType"`
		SAS  string `json:"sasToken"`
		Key  string `json:"key"`
	}
	in := map[string]any{"expirableSecret": true, "expireAfterHours": 1}
	if _, err := s.c.Do(ctx, http.MethodPost, s.path(name)+"/listSecrets", in, &secrets); err != nil {
		return nil, err
	}
	account, _ := got.Properties["accountName"].(string)
	open := &Container{c: s.c, name: "/" + url.PathEscape(container)}
	switch secrets.Type {
	case "Sas":
		open.sas, err = url.ParseQuery(strings.TrimPrefix(secrets.SAS, "?"))
	case "AccountKey":
		open.sas, err = signedContainer(account, secrets.Key, container)
	}
	return open, err
}

// signedContainer signs leave to use a container with its account's key, as
// Azure's rules for a service SAS of version 2021-08-06 have it.
func signedContainer(account, key, container string) (url.Values, error) {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return nil, fmt.Errorf("the key of account %s is not base64", account)
	}
	q := url.Values{"sv": {"2021-08-06"}, "sr": {"c"}, "sp": {"racwdl"}, "spr": {"https"},
		"se": {time.Now().UTC().Add(time.Hour).Format("2006-01-02T15:04:05Z")}}
	lines := []string{q.Get("sp"), "", q.Get("se"), "/blob/" + account + "/" + container, "", "", q.Get("spr"), q.Get("sv"), q.Get("sr"), "", "", "", "", "", "", ""}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(strings.Join(lines, "\n")))
	q.Set("sig", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return q, nil
}
