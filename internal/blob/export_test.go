package blob

import "os"

// File is what an append needs of a file.
type File = file

// Disk puts something between appends and their files.
func (s *Store) Disk(between func(*os.File) File) { s.disk = between }
