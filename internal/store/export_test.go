package store

import "context"

// LimitPages makes the disk look full: the file may not grow past so many pages,
// or past what it has. Zero takes the limit away again.
func (s *Store) LimitPages(n int64) error {
	_, err := s.submit(context.Background(), &request{do: func(w *writer) error {
		w.limit = n
		w.disconnect()
		return nil
	}})
	return err
}
