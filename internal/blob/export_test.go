package blob

import (
	"os"
	"time"
)

// File is what an append needs of a file.
type File = file

// Disk puts something between appends and their files.
func (s *Store) Disk(between func(*os.File) File) { s.disk = between }

// HalfMove is a move that a crash broke off after its first step.
func (s *Store) HalfMove(from, to string) error {
	old, err := pathOf(from)
	if err != nil {
		return err
	}
	path, err := pathOf(to)
	if err != nil {
		return err
	}
	return s.root.Rename(overlay(old), overlay(path))
}

// Patience sets how long it is waited for the end of a backup's hold.
func (s *Store) Patience(d time.Duration) { s.patience = d }

// Had makes the copy one that has had a file.
func (c *Copy) Had(rel string) { c.have[rel] = copied{} }
