package memo_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ebb-compute/ebb/internal/core/memo"
)

func TestMap(t *testing.T) {
	t.Parallel()
	m := memo.Map[string, int, string]{Size: 3}
	holds := func(k string, at int, want string) {
		t.Helper()
		if got, ok := m.Get(k, at); got != want || ok != (want != "") {
			t.Errorf("%s of %d: %q, %v; want %q", k, at, got, ok, want)
		}
	}
	holds("a", 1, "")
	m.Put("a", 1, "one", 1)
	holds("a", 1, "one")
	holds("a", 2, "")
	holds("b", 1, "")
	m.Put("a", 2, "two", 1)
	holds("a", 1, "")
	holds("a", 2, "two")

	// What is asked for stays, and the rest goes.
	for i := range 20 {
		m.Put(fmt.Sprint(i), 0, "x", 1)
		holds("a", 2, "two")
	}
	holds("0", 0, "")
	holds("19", 0, "x")

	// What is too big is not kept, nor is what it replaces.
	m.Put("a", 3, "three", 4)
	holds("a", 3, "")
	holds("a", 2, "")
	m.Put("b", 1, "three", 3)
	holds("b", 1, "three")
}

// Never is more than twice the size held, nor what was put before what is there.
func TestMapAmongMany(t *testing.T) {
	t.Parallel()
	const size = 50
	m := memo.Map[int, int, [2]int]{Size: size}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				k, at := (i*7+g)%97, i%3
				if got, ok := m.Get(k, at); ok && got != [2]int{k, at} {
					t.Errorf("%d of %d: %v", k, at, got)
				}
				m.Put(k, at, [2]int{k, at}, 1+k%5)
			}
		})
	}
	wg.Wait()
	held := 0
	for k := range 97 {
		for at := range 3 {
			if _, ok := m.Get(k, at); ok {
				held += 1 + k%5
			}
		}
	}
	if held == 0 || held > 2*size {
		t.Errorf("%d are held of 2 × %d", held, size)
	}
}
