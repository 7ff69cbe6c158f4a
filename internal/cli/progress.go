package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress shows that something is going on, on standard error: a line that
// turns, on a terminal; elsewhere a plain line when it begins and when what is
// said changes.
type progress struct {
	w    io.Writer
	tty  bool
	stop chan struct{}
	done sync.WaitGroup

	mu   sync.Mutex // guards text
	text string
}

var turns = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// progress starts to show text. The caller calls end.
func (a *app) progress(format string, args ...any) *progress {
	p := &progress{w: a.Stderr, tty: a.lookOf(a.Stderr).tty, stop: make(chan struct{}), text: fmt.Sprintf(format, args...)}
	if !p.tty {
		fmt.Fprintln(p.w, p.text)
		return p
	}
	p.done.Go(p.turn)
	return p
}

func (p *progress) turn() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for i := 0; ; i++ {
		select {
		case <-p.stop:
			fmt.Fprint(p.w, "\r\x1b[K")
			return
		case <-tick.C:
			p.mu.Lock()
			text := p.text
			p.mu.Unlock()
			fmt.Fprintf(p.w, "\r%s %s (%d s)\x1b[K", turns[i%len(turns)], text, int(time.Since(began).Seconds()))
		}
	}
}

// say changes the text.
func (p *progress) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.mu.Lock()
	changed := text != p.text
	p.text = text
	p.mu.Unlock()
	if changed && !p.tty {
		fmt.Fprintln(p.w, text)
	}
}

// end takes the line away again.
func (p *progress) end() {
	close(p.stop)
	p.done.Wait()
}
