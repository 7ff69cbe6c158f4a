package workspaces

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	devicePrefix = "device/"
	deviceLife   = 15 * time.Minute // Entra's
	mostDevices  = 1000             // that wait at once
	// letters of a user code: none looks like another.
	letters = "BCDFGHJKLMNPQRSTVWXZ"
)

// Device is a sign-in that waits for a person to approve it somewhere else.
type Device struct {
	Code    string // the client's secret, to ask with
	User    string // what the person types
	Expires time.Time
}

// device is its stored form. The code itself is not kept.
type device struct {
	User     string            `json:"user"`
	Expires  time.Time         `json:"expires"`
	Approved *access.Principal `json:"approved,omitempty"` // by whom
}

// BeginDevice begins a sign-in, and forgets those that nobody approved in time.
func (s *Service) BeginDevice(ctx context.Context) (Device, error) {
	recs, err := s.all(ctx, row.Query{Kind: row.Datum, Prefix: devicePrefix})
	if err != nil {
		return Device{}, fmt.Errorf("list sign-ins: %w", err)
	}
	var changes []row.Change
	waiting := 0
	for _, rec := range recs {
		d, err := readDevice(rec)
		if err != nil {
			return Device{}, err
		}
		if !s.Now().After(d.Expires) {
			waiting++
		}
		if s.Now().After(d.Expires.Add(deviceLife)) { // until then it is told from one that never was
			changes = append(changes, row.Drop(rec.Row.Key()))
		}
	}
	if waiting >= mostDevices {
		return Device{}, fault.New(fault.Exhausted, "", "%d sign-ins wait to be approved; try again in some minutes.", waiting)
	}
	made := Device{Code: newSecret(), User: userCode(), Expires: s.Now().Add(deviceLife)}
	doc, err := deviceRow(deviceKey(made.Code), device{User: made.User, Expires: made.Expires}, s.Now())
	if err != nil {
		return Device{}, err
	}
	if _, err := s.Store.Commit(ctx, append(changes, row.Create(doc))...); err != nil {
		return Device{}, fmt.Errorf("keep a sign-in: %w", err)
	}
	return made, nil
}

func deviceKey(code string) row.Key { return row.Key{Kind: row.Datum, ID: devicePrefix + hash(code)} }

func userCode() string {
	code := make([]byte, 8)
	_, _ = rand.Read(code) // never fails, by its documentation
	for i, b := range code {
		code[i] = letters[int(b)%len(letters)]
	}
	return string(code)
}

func readDevice(rec row.Record) (device, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return device{}, fmt.Errorf("sign-in row is a %T", rec.Row)
	}
	var d device
	return d, decode(doc, &d)
}

func deviceRow(k row.Key, d device, now time.Time) (row.Document, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return row.Document{}, fmt.Errorf("encode a sign-in: %w", err)
	}
	return row.Document{Kind: k.Kind, ID: k.ID, Body: raw, Created: now, Modified: now}, nil
}

// TakeDevice returns who approved a sign-in, once. Until somebody has it is
// fault.Conflict; after its time fault.Precondition; one that is not known, or
// was taken before, is fault.NotFound.
func (s *Service) TakeDevice(ctx context.Context, code string) (access.Principal, error) {
	rec, err := s.Store.Get(ctx, deviceKey(code))
	if errors.Is(err, fault.NotFound) {
		return access.Principal{}, fault.New(fault.NotFound, "", "There is no such sign-in.")
	}
	if err != nil {
		return access.Principal{}, fmt.Errorf("get a sign-in: %w", err)
	}
	d, err := readDevice(rec)
	switch {
	case err != nil:
		return access.Principal{}, err
	case s.Now().After(d.Expires):
		return access.Principal{}, fault.New(fault.Precondition, "", "The sign-in was not approved in time.")
	case d.Approved == nil:
		return access.Principal{}, fault.New(fault.Conflict, "", "The sign-in has not been approved yet.")
	}
	doc, _ := rec.Row.(row.Document) // readDevice has seen that it is one
	// Taken on condition that nobody else did: two who ask at once are not both let in.
	if _, err := s.Store.Commit(ctx, row.Update(doc, rec.Rev), row.Drop(doc.Key())); err != nil {
		if errors.Is(err, fault.Precondition) {
			return access.Principal{}, fault.New(fault.NotFound, "", "There is no such sign-in.")
		}
		return access.Principal{}, fmt.Errorf("take a sign-in: %w", err)
	}
	return *d.Approved, nil
}

// ApproveDevice lets a sign-in go on as p, by the code that its client shows.
func (s *Service) ApproveDevice(ctx context.Context, p access.Principal, user string) error {
	if p.Kind == access.RunIdentity {
		return mayChange(p, "/", "approve a sign-in")
	}
	user = strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(user))
	recs, err := s.all(ctx, row.Query{Kind: row.Datum, Prefix: devicePrefix})
	if err != nil {
		return fmt.Errorf("list sign-ins: %w", err)
	}
	for _, rec := range recs {
		d, err := readDevice(rec)
		if err != nil {
			return err
		}
		if d.User != user || s.Now().After(d.Expires) || d.Approved != nil {
			continue
		}
		p.Kind = access.User // a person stands behind it
		d.Approved = &p
		doc, err := deviceRow(rec.Row.Key(), d, s.Now())
		if err != nil {
			return err
		}
		if _, err := s.Store.Commit(ctx, row.Update(doc, rec.Rev), s.event(p, "/", "sign-in approved", "Asked for by "+p.Name+".")); err != nil {
			return fmt.Errorf("approve a sign-in: %w", err)
		}
		return nil
	}
	return fault.Coded(fault.NotFound, "DeviceCodeNotFound", "", "No sign-in waits with the code '%.32s'. A code is good for %v, and once.", user, deviceLife)
}

// Mark returns what tells a client's newest secret from its others, and opens nothing.
func (s *Service) Mark(ctx context.Context, clientID string) (string, error) {
	_, c, err := s.credential(ctx, clientID)
	if err != nil || len(c.Hashes) == 0 {
		return "", err
	}
	return mark(c.Hashes[len(c.Hashes)-1]), nil
}

func mark(secretHash string) string { return hash("mark of " + secretHash)[:16] }

// Known returns who a client is by its id, while it has the secret of that mark:
// what was proved with a secret ends with it.
func (s *Service) Known(ctx context.Context, clientID, secret string) (access.Principal, error) {
	_, c, err := s.credential(ctx, clientID)
	if err != nil {
		return access.Principal{}, err
	}
	if !slices.ContainsFunc(c.Hashes, func(h string) bool { return mark(h) == secret }) {
		return access.Principal{}, fault.New(fault.NotFound, "", "The client's secret is another one by now.")
	}
	return access.Principal{ID: c.ObjectID, App: c.ClientID, Name: c.Name, Tenant: c.Tenant, Kind: access.Application}, nil
}
