package store_test

import (
	"testing"
	"time"

	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/store"
)

// The time lasts with the commit that was made at it, however the life ends.
func TestTimeIsKeptWithEachCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var want time.Time
	for life := range 3 {
		s, err := store.Open(t.Context(), dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Time(t.Context()); err != nil || !got.Equal(want) {
			t.Errorf("life %d begins after %v, %v; want %v", life, got, err, want)
		}
		s.KeepTime(func() time.Time { return now })
		for range 2 {
			now = now.Add(time.Second)
			if _, err := s.Commit(t.Context(), row.Put(row.Document{Kind: row.Datum, ID: "x", Body: []byte("1")})); err != nil {
				t.Fatal(err)
			}
			want = now
		}
		now = now.Add(time.Hour) // nothing was committed then
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
