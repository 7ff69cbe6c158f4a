package blob

import (
	"strings"

	"github.com/ebb-compute/ebb/internal/fault"
)

// Retire lets nothing new into the containers whose names are name, or end in "-"
// and name, until the store is opened again: what a request is still sending when
// its workspace goes is refused when it has come. What is there stays, for the
// caller to delete. In a key that begins with "$" the second segment counts.
func (s *Store) Retire(name string) {
	s.names.Lock()
	defer s.names.Unlock()
	if s.retired == nil {
		s.retired = map[string]bool{}
	}
	s.retired[name] = true
}

// closed says why a blob may not be put under a key. The caller holds names.
func (s *Store) closed(key string) error {
	if len(s.retired) == 0 {
		return nil
	}
	container, rest, _ := strings.Cut(key, "/")
	if strings.HasPrefix(container, "$") {
		container, _, _ = strings.Cut(rest, "/")
	}
	for end, more := container, true; more; _, end, more = strings.Cut(end, "-") {
		if s.retired[end] {
			return fault.Coded(fault.NotFound, "ContainerNotFound", "", "The container of this blob was deleted.")
		}
	}
	return nil
}
