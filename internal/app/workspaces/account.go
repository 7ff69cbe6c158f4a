package workspaces

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ebb-compute/ebb/internal/core/row"
)

// AccountKey is where it is kept to whom the storage account of a name belongs, so
// that finding it takes one look, and not one at everything. The names are the
// server's, not a group's.
func AccountKey(name string) row.Key { return row.Key{Kind: row.Datum, ID: "storage account/" + name} }

// accountOwner is the stored form.
type accountOwner struct {
	Kind row.Kind `json:"kind"`
	ID   string   `json:"id"`
}

// AccountOwner is the row that says that an account belongs to a workspace or to a
// record. The owner may be gone meanwhile: who reads it looks.
func AccountOwner(name string, of row.Key, now time.Time) row.Document {
	body, err := json.Marshal(accountOwner{of.Kind, of.ID})
	if err != nil {
		panic("workspaces: two strings cannot fail to encode: " + err.Error())
	}
	k := AccountKey(name)
	return row.Document{Kind: k.Kind, ID: k.ID, Body: body, Created: now, Modified: now}
}

// OwnerOf reads whom an account belongs to.
func OwnerOf(rec row.Record) (row.Key, error) {
	doc, ok := rec.Row.(row.Document)
	if !ok {
		return row.Key{}, fmt.Errorf("the owner of an account is a %T", rec.Row)
	}
	var o accountOwner
	if err := decode(doc, &o); err != nil {
		return row.Key{}, err
	}
	return row.Key{Kind: o.Kind, ID: o.ID}, nil
}
