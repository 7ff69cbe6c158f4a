package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/node/inside"
	"github.com/ebb-compute/ebb/internal/node/shim"
)

// Main is "ebb contain": without arguments it holds the container of the [Spec] that
// it reads, as a shim's child; "remove DIR" removes what an attempt left of one;
// "enter DIR ID" lets a visitor in.
func Main(args []string) int {
	switch {
	case len(args) == 0:
		return hold()
	case len(args) == 2 && args[0] == "remove":
		if err := remove(args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case len(args) == 3 && args[0] == "enter":
		return enter(args[1], args[2])
	}
	fmt.Fprintln(os.Stderr, "usage: ebb contain [remove DIR | enter DIR ID]")
	return 2
}

// holder holds one container.
type holder struct {
	spec   Spec
	engine *client.Client
	end    shim.ContainerEnd
	code   int
	term   bool // asked to end

	host  *host
	words chan inside.Word
	gone  chan exit // the engine says that the container is no more

	mu   sync.Mutex
	kept kept
}

// keep changes what the folder says of the container.
func (h *holder) keep(durable bool, change func(*kept)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.kept)
	return writeJSON(shim.ContainerFile, h.kept, durable)
}

// exit is how a container ended, as the engine has it.
type exit struct {
	code int
	err  error // why its end is not known
}

func hold() int {
	h := &holder{words: make(chan inside.Word, 16), gone: make(chan exit, 1)}
	if err := json.NewDecoder(os.Stdin).Decode(&h.spec); err != nil {
		fmt.Fprintln(os.Stderr, "contain: read the spec:", err)
		return 1
	}
	if err := os.Chdir(os.Getenv("EBB_ATTEMPT_DIR")); err != nil { // names of sockets are short
		fmt.Fprintln(os.Stderr, "contain:", err)
		return 1
	}
	if err := h.run(); err != nil {
		h.fail(err)
	}
	if err := writeJSON(shim.ContainerEndFile, h.end, false); err != nil {
		fmt.Fprintln(os.Stderr, "contain:", err)
	}
	return h.code
}

// fail says why there is no end of the job's process to speak of.
func (h *holder) fail(err error) {
	fmt.Fprintln(os.Stderr, "contain:", err)
	h.code = 128 + int(unix.SIGKILL)
	h.end.Failure, h.end.Setup = "The container of the image "+h.spec.Shown+" could not be run: "+words(err)+".", refused(err)
	if h.end.Setup {
		h.code, h.end.Code = 125, 125 // as engines' clients have it
	}
}

// run makes the container, holds it to its end, and removes it.
func (h *holder) run() (err error) {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM)
	err = h.keep(true, func(k *kept) {
		*k = kept{Socket: h.spec.Engine.Socket, Installation: h.spec.Installation, Attempt: h.spec.Attempt}
	})
	if err != nil {
		return err
	}
	if h.engine, err = dial(h.spec.Engine.Socket); err != nil {
		return err
	}
	defer h.engine.Close()
	if h.host, err = openHost(h.spec, h.words); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- h.start(ctx) }()
	err = h.watch(ctx, cancel, started, sig)
	rerr := h.removed()
	h.host.close()
	return errors.Join(err, rerr)
}

// watch follows the container until it has ended, or is to be removed.
func (h *holder) watch(ctx context.Context, stop context.CancelFunc, started <-chan error, sig <-chan os.Signal) error {
	for {
		select {
		case err := <-started:
			if h.term && h.host.process() == 0 {
				h.code = 128 + int(unix.SIGTERM)
				return nil
			}
			if err != nil {
				return err
			}
			go h.await(ctx)
			started = nil
		case <-sig:
			h.term = true
			switch {
			case !h.end.Began.IsZero():
				h.host.tell(inside.Word{End: true})
			case h.host.process() != 0: // the job may run: heard tells of this when it does
			case started != nil:
				stop() // what is being made is removed
			default:
				h.code = 128 + int(unix.SIGTERM)
				return nil
			}
		case w := <-h.words:
			if h.heard(w) {
				return nil
			}
		case e := <-h.gone:
			return h.over(e)
		}
	}
}

// heard takes a word from the container, and reports whether it is the last.
func (h *holder) heard(w inside.Word) (last bool) {
	switch {
	case w.Visit != "":
		h.host.visited(w)
	case w.Began:
		h.end.Began = time.Now().UTC()
		pid := h.host.process()
		_ = h.keep(false, func(k *kept) { k.Process, k.Since = pid, started(pid) })
		_, _ = unix.Write(shim.BeganFD, []byte{1})
		if h.term {
			h.host.tell(inside.Word{End: true})
		}
	case w.Failed != "":
		h.code, h.end.Setup, h.end.Code, h.end.Failure = w.Code, true, w.Code, w.Failed
		return true
	case w.Ended:
		h.code, h.end.Killed = w.Code, w.Killed
		return true
	}
	return false
}

// over takes what the engine says of the end of a container. What process 1 said
// before is on its way still.
func (h *holder) over(e exit) error {
	for patience := time.After(200 * time.Millisecond); ; {
		select {
		case w := <-h.words:
			if h.heard(w) {
				return nil
			}
			continue
		case <-patience:
		}
		break
	}
	switch h.code = e.code; {
	case e.err != nil:
		return e.err
	case h.end.Began.IsZero():
		return fmt.Errorf("it ended, with code %d, before the job's command was started", e.code)
	}
	return nil
}

// start makes the container and starts it, and first its network if there is none:
// to look for that each time would cost every job a question.
func (h *holder) start(ctx context.Context) error {
	opts, err := h.options()
	if err != nil {
		return err
	}
	err = h.try(ctx, opts)
	if !missingNetwork(err) {
		return err
	}
	if err := h.makeNetwork(ctx); err != nil {
		return err
	}
	return h.try(ctx, opts)
}

func (h *holder) try(ctx context.Context, opts client.ContainerCreateOptions) error {
	made, err := h.engine.ContainerCreate(ctx, opts)
	if err == nil || refused(err) { // nothing comes up late any more
		err = errors.Join(err, h.keep(false, func(k *kept) { k.Made = true }))
	}
	if err != nil {
		return err
	}
	_, err = h.engine.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	if missingNetwork(err) { // engines may or may not have removed it
		_, _ = h.engine.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true})
	}
	return err
}

// await tells when the engine has removed the container, which it does when it has
// ended. An engine that is started anew is asked again.
func (h *holder) await(ctx context.Context) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		res := h.engine.ContainerWait(ctx, h.spec.name(), client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
		select {
		case r := <-res.Result:
			h.gone <- exit{code: int(r.StatusCode)}
			return
		case err := <-res.Error:
			if missing(err) {
				h.gone <- exit{err: errors.New("the engine has it no more, and does not say how it ended")}
				return
			}
			if ctx.Err() != nil {
				return
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
