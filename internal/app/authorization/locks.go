package authorization

import (
	"context"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Levels of a lock.
const (
	canNotDelete = "CanNotDelete"
	readOnly     = "ReadOnly"
)

const mostNotes = 512 // characters

func lockKey(scope, name string) row.Key {
	return row.Key{Kind: row.Lock, ID: armid.Key(scope + "/providers/" + Namespace + "/locks/" + name)}
}

// PutLock puts a lock on a scope, or changes the one of that name.
func (s *Service) PutLock(ctx context.Context, p access.Principal, scope, name string, body map[string]any) (Document, error) {
	if err := may(p, scope, "locks/write"); err != nil {
		return Document{}, err
	}
	at, err := s.scope(ctx, scope)
	if err != nil {
		return Document{}, err
	}
	if len(name) > 90 || strings.ContainsAny(name, `<>%&\?/`) {
		return Document{}, invalid("name", "The lock's name must have at most 90 characters, and none of <>%%&\\?/.")
	}
	given, _ := body["properties"].(map[string]any)
	props := map[string]any{}
	level, _ := given["level"].(string)
	switch {
	case strings.EqualFold(level, canNotDelete):
		props["level"] = canNotDelete
	case strings.EqualFold(level, readOnly):
		props["level"] = readOnly
	default:
		return Document{}, fault.Coded(fault.Invalid, "LockLevelNotSupported", "properties.level", "The lock level '%.64s' is not supported. It must be CanNotDelete or ReadOnly.", level)
	}
	if notes, ok := given["notes"].(string); ok && notes != "" {
		if len([]rune(notes)) > mostNotes {
			return Document{}, invalid("properties.notes", "The notes of a lock have at most %d characters.", mostNotes)
		}
		props["notes"] = notes
	}
	if owners, ok := given["owners"].([]any); ok && len(owners) > 0 {
		props["owners"] = owners
	}
	lock := map[string]any{"id": at + "/providers/" + Namespace + "/locks/" + name, "name": name, "type": Namespace + "/locks", "properties": props}
	for try := 0; ; try++ {
		doc, err := s.put(ctx, p, lockKey(at, name), armid.Key(at), lock)
		if !again(err, try) {
			return doc, err
		}
	}
}

// Lock returns a lock.
func (s *Service) Lock(ctx context.Context, p access.Principal, scope, name string) (map[string]any, error) {
	if err := may(p, scope, "locks/read"); err != nil {
		return nil, err
	}
	if _, err := s.scope(ctx, scope); err != nil {
		return nil, err
	}
	return s.get(ctx, lockKey(scope, name), fault.Coded(fault.NotFound, "LockNotFound", name, "The lock '%s' could not be found at the scope '%s'.", name, scope))
}

// DeleteLock removes a lock; false: there was none.
func (s *Service) DeleteLock(ctx context.Context, p access.Principal, scope, name string) (bool, error) {
	if err := may(p, scope, "locks/delete"); err != nil {
		return false, err
	}
	was, err := s.drop(ctx, p, lockKey(scope, name))
	return was != nil, err
}

// Locks returns the locks of a scope and of all below it; atScope: of all above it instead.
func (s *Service) Locks(ctx context.Context, p access.Principal, scope string, atScope bool) ([]map[string]any, error) {
	if err := may(p, scope, "locks/read"); err != nil {
		return nil, err
	}
	at, err := s.scope(ctx, scope)
	if err != nil {
		return nil, err
	}
	recs, err := s.locksOf(ctx, at)
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, rec := range recs {
		on, _ := rec.Row.Index()
		if on != armid.Key(at) && (atScope && !under(armid.Key(at), on) || !atScope && !under(on, armid.Key(at))) {
			continue
		}
		var body map[string]any
		if err := decode(rec, &body); err != nil {
			return nil, err
		}
		list = append(list, body)
	}
	return list, nil
}

// locksOf returns every lock of a scope's subscription: there are few.
func (s *Service) locksOf(ctx context.Context, scope string) ([]row.Record, error) {
	parts := strings.SplitN(armid.Key(scope), "/", 4)
	if len(parts) < 3 {
		return nil, nil
	}
	return s.all(ctx, row.Query{Kind: row.Lock, Prefix: "/" + parts[1] + "/" + parts[2] + "/"})
}

// Check refuses a write or a deletion that a lock forbids. id is the path of
// what is written: locks hold there and below; a deletion would take what is
// locked below it along.
func (s *Service) Check(ctx context.Context, id string, deletes bool) error {
	recs, err := s.locksOf(ctx, id)
	if err != nil || len(recs) == 0 {
		return err
	}
	id = armid.Key(id)
	if strings.Contains(id, strings.ToLower("/providers/"+Namespace+"/locks/")) {
		return nil // or no lock could ever be taken off
	}
	verb := "write"
	if deletes {
		verb = "delete"
	}
	for _, rec := range recs {
		var lock struct {
			ID, Name   string
			Properties struct{ Level string }
		}
		if err := decode(rec, &lock); err != nil {
			return err
		}
		on, _ := rec.Row.Index()
		if under(id, on) && (deletes || lock.Properties.Level == readOnly) || deletes && under(on, id) {
			scope := lock.ID[:strings.LastIndex(lock.ID, "/providers/")]
			return fault.Coded(fault.Conflict, "ScopeLocked", scope,
				"The scope '%s' cannot perform %s operation because following scope(s) are locked: '%s'. The lock is '%s', of level %s. Please remove the lock and try again.", id, verb, scope, lock.Name, lock.Properties.Level)
		}
	}
	return nil
}
