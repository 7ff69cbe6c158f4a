// Package cow has the two collections that a view is made of: [Map] and [List].
// Both are immutable: a change returns a new collection that shares all but the
// touched path with the old one, so that a hundred thousand entries cost no more
// to change than a thousand, and whoever holds an old view keeps it whole.
//
// The zero value of each is empty and ready.
package cow

import (
	"iter"
	"slices"
)

// A trie of 16-way nodes over the key's hash; leaves hold up to leafMax entries
// before they are split. Depth is limited by the hash's 16 nibbles.
const (
	fanout  = 16
	nibble  = 4
	depth   = 64 / nibble
	leafMax = 8
)

// Map is an immutable map with string keys. Its order is fixed by the keys
// alone, but means nothing.
type Map[V any] struct {
	root *node[V]
	n    int
}

type node[V any] struct {
	kids *[fanout]*node[V] // nil: a leaf
	leaf []entry[V]
}

type entry[V any] struct {
	hash uint64
	key  string
	val  V
}

// The hash is FNV-1a and not seeded: the same rows make the same trie in every
// process, so that a simulation replays exactly. Ids are ours, not an attacker's;
// and equal hashes only make a leaf longer.
func hashOf(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h ^ h>>32 // FNV's low bits are its weakest, and the trie starts with them
}

// Len returns the number of entries.
func (m Map[V]) Len() int { return m.n }

// Get returns the value at key.
func (m Map[V]) Get(key string) (V, bool) {
	h := hashOf(key)
	n := m.root
	for at := h; n != nil; at >>= nibble {
		if n.kids == nil {
			for i := range n.leaf {
				if e := &n.leaf[i]; e.hash == h && e.key == key {
					return e.val, true
				}
			}
			break
		}
		n = n.kids[at%fanout]
	}
	var none V
	return none, false
}

// With returns the map with v at key.
func (m Map[V]) With(key string, v V) Map[V] {
	root, added := m.root.with(entry[V]{hashOf(key), key, v}, 0)
	if added {
		m.n++
	}
	return Map[V]{root, m.n}
}

// Without returns the map with nothing at key.
func (m Map[V]) Without(key string) Map[V] {
	root, removed := m.root.without(hashOf(key), key, 0)
	if !removed {
		return m
	}
	return Map[V]{root, m.n - 1}
}

// All yields every entry.
func (m Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { m.root.each(yield) }
}

// Unlike yields the keys at which m and old differ, those of one alone included,
// some of them twice. What the two share is passed over, so that it costs no more
// than what was changed between them.
func (m Map[V]) Unlike(old Map[V], same func(a, b V) bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		alike := func(key string) bool {
			a, here := m.Get(key)
			b, there := old.Get(key)
			return here == there && (!here || same(a, b))
		}
		unlike(m.root, old.root, func(key string, _ V) bool { return alike(key) || yield(key) })
	}
}

// unlike gives f every entry of the parts that two tries do not share.
func unlike[V any](a, b *node[V], f func(string, V) bool) bool {
	switch {
	case a == b:
		return true
	case a == nil || b == nil || a.kids == nil || b.kids == nil:
		return a.each(f) && b.each(f)
	}
	for i := range a.kids {
		if !unlike(a.kids[i], b.kids[i], f) {
			return false
		}
	}
	return true
}

func (n *node[V]) with(e entry[V], level int) (*node[V], bool) {
	switch {
	case n == nil:
		return &node[V]{leaf: []entry[V]{e}}, true
	case n.kids != nil:
		i := e.hash >> (level * nibble) % fanout
		kid, added := n.kids[i].with(e, level+1)
		kids := *n.kids
		kids[i] = kid
		return &node[V]{kids: &kids}, added
	}
	if i := n.find(e.hash, e.key); i >= 0 {
		leaf := slices.Clone(n.leaf)
		leaf[i] = e
		return &node[V]{leaf: leaf}, false
	}
	if len(n.leaf) < leafMax || level == depth {
		leaf := make([]entry[V], 0, len(n.leaf)+1)
		return &node[V]{leaf: append(append(leaf, n.leaf...), e)}, true
	}
	split := &node[V]{kids: new([fanout]*node[V])}
	for _, old := range n.leaf {
		i := old.hash >> (level * nibble) % fanout
		split.kids[i], _ = split.kids[i].with(old, level+1)
	}
	i := e.hash >> (level * nibble) % fanout
	split.kids[i], _ = split.kids[i].with(e, level+1)
	return split, true
}

func (n *node[V]) without(hash uint64, key string, level int) (*node[V], bool) {
	if n == nil {
		return nil, false
	}
	if n.kids == nil {
		i := n.find(hash, key)
		switch {
		case i < 0:
			return n, false
		case len(n.leaf) == 1:
			return nil, true
		}
		leaf := make([]entry[V], 0, len(n.leaf)-1)
		return &node[V]{leaf: append(append(leaf, n.leaf[:i]...), n.leaf[i+1:]...)}, true
	}
	at := hash >> (level * nibble) % fanout
	kid, removed := n.kids[at].without(hash, key, level+1)
	if !removed {
		return n, false
	}
	kids := *n.kids
	kids[at] = kid
	if kid == nil && !slices.ContainsFunc(kids[:], func(k *node[V]) bool { return k != nil }) {
		return nil, true // or a map that grew once would keep its empty branches for ever
	}
	return &node[V]{kids: &kids}, true
}

func (n *node[V]) find(hash uint64, key string) int {
	return slices.IndexFunc(n.leaf, func(e entry[V]) bool { return e.hash == hash && e.key == key })
}

func (n *node[V]) each(yield func(string, V) bool) bool {
	if n == nil {
		return true
	}
	for _, e := range n.leaf {
		if !yield(e.key, e.val) {
			return false
		}
	}
	if n.kids != nil {
		for _, kid := range n.kids {
			if !kid.each(yield) {
				return false
			}
		}
	}
	return true
}

// chunkMax is the most entries in one chunk of a [List]. A change copies one
// chunk and the list of chunks: at 100,000 entries about 4 KiB and 15 KiB.
const chunkMax = 256

// List is an immutable list, kept in the order that its methods are given. The
// same order must be given to every method of one list.
type List[T any] struct {
	chunks [][]T // none is empty
	n      int
}

// Len returns the number of entries.
func (l List[T]) Len() int { return l.n }

// Mark is equal (==) for two lists only if they are the same list: every change
// makes another.
func (l List[T]) Mark() *[]T {
	if len(l.chunks) == 0 {
		return nil
	}
	return &l.chunks[0]
}

// All yields the entries in order.
func (l List[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, c := range l.chunks {
			for _, v := range c {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// With returns the list with v in its place. An entry that compares equal is
// replaced.
func (l List[T]) With(v T, compare func(a, b T) int) List[T] {
	ci, vi, found := l.search(v, compare)
	if len(l.chunks) == 0 {
		return List[T]{[][]T{{v}}, 1}
	}
	if ci == len(l.chunks) { // after all others: into the last chunk
		ci, vi = ci-1, len(l.chunks[ci-1])
	}
	old := l.chunks[ci]
	if found {
		chunk := slices.Clone(old)
		chunk[vi] = v
		chunks := slices.Clone(l.chunks)
		chunks[ci] = chunk
		return List[T]{chunks, l.n}
	}
	chunk := make([]T, 0, len(old)+1)
	chunk = append(append(append(chunk, old[:vi]...), v), old[vi:]...)
	chunks := make([][]T, 0, len(l.chunks)+1)
	chunks = append(chunks, l.chunks[:ci]...)
	if len(chunk) > chunkMax {
		half := len(chunk) / 2
		chunks = append(chunks, chunk[:half:half], chunk[half:])
	} else {
		chunks = append(chunks, chunk)
	}
	return List[T]{append(chunks, l.chunks[ci+1:]...), l.n + 1}
}

// Without returns the list without the entry that compares equal to v.
func (l List[T]) Without(v T, compare func(a, b T) int) List[T] {
	ci, vi, found := l.search(v, compare)
	if !found {
		return l
	}
	old := l.chunks[ci]
	chunks := make([][]T, 0, len(l.chunks))
	chunks = append(chunks, l.chunks[:ci]...)
	if len(old) > 1 {
		chunk := make([]T, 0, len(old)-1)
		chunk = append(append(chunk, old[:vi]...), old[vi+1:]...)
		// A chunk that has become small joins the one before it, or a queue
		// that is served from its head would turn into chunks of one.
		if ci > 0 && len(chunk)+len(l.chunks[ci-1]) <= chunkMax/2 {
			chunks[ci-1] = slices.Concat(l.chunks[ci-1], chunk)
		} else {
			chunks = append(chunks, chunk)
		}
	}
	return List[T]{append(chunks, l.chunks[ci+1:]...), l.n - 1}
}

// search returns where v is, or would be.
func (l List[T]) search(v T, compare func(a, b T) int) (chunk, index int, found bool) {
	chunk, _ = slices.BinarySearchFunc(l.chunks, v, func(c []T, v T) int { return compare(c[len(c)-1], v) })
	if chunk == len(l.chunks) {
		return chunk, 0, false
	}
	index, found = slices.BinarySearchFunc(l.chunks[chunk], v, compare)
	return chunk, index, found
}
