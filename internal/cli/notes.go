package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/client"
)

// noteJob says what a job's nodes do without, each sentence once.
func (a *app) noteJob(job client.Job) {
	for _, note := range job.Notes() {
		if !slices.Contains(a.noted, note) {
			a.noted = append(a.noted, note)
			fmt.Fprintf(a.Stderr, "NOTE: %s\n", oneLine(note))
		}
	}
}

// noteNodes says under a table what nodes warn of, each sentence once.
func (a *app) noteNodes(nodes []client.Node) {
	if a.output != "table" || a.query != "" {
		return
	}
	var said []string
	of := map[string][]string{}
	for _, n := range nodes {
		for _, w := range n.Warnings {
			if of[w] == nil {
				said = append(said, w)
			}
			of[w] = append(of[w], n.ID)
		}
	}
	const few = 3
	for _, w := range said {
		who := strings.Join(of[w], ", ")
		if len(of[w]) > few {
			who = fmt.Sprintf("%d nodes", len(of[w]))
		}
		fmt.Fprintf(a.Stderr, "NOTE: %s: %s\n", oneLine(who), oneLine(w))
	}
}

// noting is standard output for a job's log. Before its first byte the job is
// asked for notes: when it was submitted no node had it yet.
func (a *app) noting(ctx context.Context, c *client.Client, name string) io.Writer {
	return &notingWriter{w: a.Stdout, first: func() {
		if job, err := c.Jobs().Get(ctx, name); err == nil {
			a.noteJob(job)
		}
	}}
}

type notingWriter struct {
	w     io.Writer
	first func() // nil once called
}

func (n *notingWriter) Write(b []byte) (int, error) {
	if f := n.first; f != nil {
		n.first = nil
		f()
	}
	return n.w.Write(b)
}
