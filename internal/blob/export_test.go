package blob

import "os"

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
