package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebb-compute/ebb/client"
)

func (a *app) jobExec() *cobra.Command {
	var stdin, tty bool
	var name string
	var node int
	cmd := &cobra.Command{
		Use:   "exec NAME [-i] [-t] -- COMMAND [ARG …]",
		Short: "Run a command inside a running job",
		Long: `Run a command inside a running job.

It has the job's user, working folder, files, limits and environment, can do no
more than the job, and ends with it. Its exit code is ebb's: 128+n when signal n
ended it, 127 when it was not found, 126 when it could not be started.`,
		Example: `  ebb job exec happy_river_k2v9xq41mz -- nvidia-smi
  ebb job exec happy_river_k2v9xq41mz -it -- bash
  tar c data | ebb job exec happy_river_k2v9xq41mz -i -- tar x`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 && (name == "" || len(args) == 0) {
				return errors.New("a job and a command are needed, as in: ebb job exec NAME -- ls")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			job, command := name, args
			if name == "" {
				job, command = args[0], args[1:]
			}
			return a.execInJob(cmd.Context(), job, client.Exec{Command: command, Node: node, Terminal: tty}, stdin)
		},
	}
	cmd.Flags().StringVarP(&name, "name", "n", "", "the job, if it is not the first argument")
	_ = cmd.RegisterFlagCompletionFunc("name", a.complete(jobNames))
	cmd.Flags().IntVar(&node, "node", 0, "which of the job's nodes, from 0")
	cmd.Flags().BoolVarP(&stdin, "stdin", "i", false, "give the command our standard input")
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return a.complete(jobNames)(cmd, args, prefix)
	}
	return cmd
}

func (a *app) execInJob(ctx context.Context, name string, x client.Exec, stdin bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	x.Stdout, x.Stderr = a.Stdout, a.Stderr
	if stdin {
		x.Stdin = a.Stdin
	}
	// With a terminal Ctrl-C is a byte for the command; without, it ends us, and
	// with us the command.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if x.Terminal {
		restore, err := a.rawTerminal(&x, stdin)
		if err != nil {
			return err
		}
		defer restore()
	}
	code, err := c.Jobs().Exec(ctx, name, x)
	switch {
	case ctx.Err() != nil:
		return exitError{130}
	case err != nil && code != 0:
		fmt.Fprintf(a.Stderr, "ebb: %s\n", err)
		return exitError{code}
	case err != nil:
		return err
	case code != 0:
		return exitError{code}
	}
	return nil
}

// rawTerminal makes our terminal a wire to the command's: its size, and every
// key as it is. Without a terminal of our own the command has one of 80x24.
func (a *app) rawTerminal(x *client.Exec, stdin bool) (restore func(), err error) {
	x.Term = a.getenv("TERM")
	in, ok := a.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		fmt.Fprintln(a.Stderr, "Standard input is not a terminal; the command's has 24 lines of 80.")
		return func() {}, nil
	}
	fd := int(in.Fd())
	if cols, rows, err := term.GetSize(fd); err == nil {
		x.Rows, x.Cols = rows, cols
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	sizes := make(chan [2]int)
	x.Resize = sizes
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-resized:
			case <-done:
				return
			}
			if cols, rows, err := term.GetSize(fd); err == nil {
				select {
				case sizes <- [2]int{rows, cols}:
				case <-done:
					return
				}
			}
		}
	}()
	restore = func() { signal.Stop(resized); close(done) }
	if !stdin {
		return restore, nil // Ctrl-C stays ours
	}
	was, err := term.MakeRaw(fd)
	if err != nil {
		restore()
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	stop := restore
	return func() { _ = term.Restore(fd, was); stop() }, nil
}
