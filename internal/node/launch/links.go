package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
)

// How links are checked.
const (
	linkWithin = 30 * time.Second // in which a neighbour is to be reached: it starts at about the same time
	sample     = 1 << 20          // bytes sent to tell how fast a link is
	checkPorts = 4                // one that somebody has is passed over
	linkLog    = "system_logs/links.txt"
)

// links checks a member's links before its first process starts: the members form
// a ring, in which each reaches the next by name and by TCP. When all have, which
// a word that goes around tells, a second word lets them go, so that nothing was
// started where one link is broken.
type links struct {
	spec   rank.Spec
	within time.Duration
}

// checkLinks checks the links of a member. Its error names both ends.
func checkLinks(ctx context.Context, s rank.Spec) error {
	began := time.Now()
	speed, err := links{s, linkWithin}.check(ctx)
	if err == nil {
		next := s.Hosts[(s.Member+1)%len(s.Hosts)]
		line := fmt.Sprintf("%s reaches %s (%s): %.0f MB/s; all links were checked in %v\n",
			s.Hosts[s.Member].Node, next.Node, next.Address, speed/1e6, time.Since(began).Round(time.Millisecond))
		_ = os.WriteFile(filepath.Join(s.Logs, linkLog), []byte(line), 0o600) // for people
	}
	return err
}

func (l links) check(ctx context.Context) (speed float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*l.within) // no check is a hang
	defer cancel()
	in, err := l.listen()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	type accepted struct {
		conn *bufio.ReadWriter
		err  error
	}
	from := make(chan accepted, 1)
	go func() {
		conn, err := l.accept(in)
		from <- accepted{conn, err}
	}()
	to, speed, err := l.reach(ctx)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	stop := context.AfterFunc(ctx, func() { in.Close(); to.Close() })
	defer stop()
	var got accepted
	select {
	case got = <-from:
	case <-ctx.Done():
		got.err = ctx.Err()
	}
	if got.err == nil {
		got.err = l.around(got.conn, to)
	}
	if got.err != nil {
		// Whoever cannot reach its neighbour says so, and ends everybody.
		<-ctx.Done()
		return 0, fmt.Errorf("node %s was not told within %v that the job's other nodes reach each other: %w", l.name(l.spec.Member), 2*l.within, got.err)
	}
	return speed, nil
}

// name is a member for people.
func (l links) name(i int) string {
	h := l.spec.Hosts[i]
	return fmt.Sprintf("%s (%d of the job's %d nodes, %s)", h.Node, i, len(l.spec.Hosts), h.Address)
}

func (l links) next() int { return (l.spec.Member + 1) % len(l.spec.Hosts) }

// listen takes the first of the ports that is free here.
func (l links) listen() (net.Listener, error) {
	var errs []error
	for _, at := range l.ports(l.spec.Hosts[l.spec.Member]) {
		in, err := net.Listen("tcp4", at)
		if err == nil {
			return in, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("node %s cannot be reached by the others: %w", l.name(l.spec.Member), errors.Join(errs...))
}

func (l links) ports(h gang.Host) []string {
	var out []string
	for i := range checkPorts {
		out = append(out, net.JoinHostPort(h.Address, strconv.Itoa(l.spec.Check+i)))
	}
	return out
}

// greeting is what a member says to the next.
func (l links) greeting(from int) string { return fmt.Sprintf("ebb %s %d\n", l.spec.Attempt, from) }

// accept waits for the member before us.
func (l links) accept(in net.Listener) (*bufio.ReadWriter, error) {
	before := (l.spec.Member + len(l.spec.Hosts) - 1) % len(l.spec.Hosts)
	for {
		conn, err := in.Accept()
		if err != nil {
			return nil, err
		}
		rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
		_ = conn.SetDeadline(time.Now().Add(l.within))
		if line, err := rw.ReadString('\n'); err != nil || line != l.greeting(before) {
			conn.Close() // somebody else's
			continue
		}
		if _, err := conn.Write([]byte("ebb\n")); err != nil {
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, rw, sample); err != nil {
			return nil, err
		}
		if _, err := conn.Write([]byte("had\n")); err != nil {
			return nil, err
		}
		_ = conn.SetDeadline(time.Time{})
		return rw, nil
	}
}

// reach connects to the next member, and says how fast the link is, in bytes a second.
func (l links) reach(ctx context.Context) (net.Conn, float64, error) {
	me, next := l.spec.Member, l.next()
	if err := l.resolve(ctx, l.spec.Hosts[next]); err != nil {
		return nil, 0, fmt.Errorf("node %s does not find node %s by its name: %w", l.name(me), l.name(next), err)
	}
	end := time.Now().Add(l.within)
	for {
		var errs []error
		for _, at := range l.ports(l.spec.Hosts[next]) {
			conn, speed, err := l.greet(ctx, at, end)
			if err == nil {
				return conn, speed, nil
			}
			errs = append(errs, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
		if time.Now().After(end) {
			return nil, 0, fmt.Errorf("node %s cannot reach node %s: %w", l.name(me), l.name(next), errs[0])
		}
	}
}

func (l links) greet(ctx context.Context, at string, end time.Time) (net.Conn, float64, error) {
	conn, err := (&net.Dialer{Deadline: end}).DialContext(ctx, "tcp4", at)
	if err != nil {
		return nil, 0, err
	}
	_ = conn.SetDeadline(end)
	speed, err := func() (float64, error) {
		if _, err := conn.Write([]byte(l.greeting(l.spec.Member))); err != nil {
			return 0, err
		}
		if err := expect(conn, "ebb\n"); err != nil {
			return 0, err
		}
		began := time.Now()
		if _, err := conn.Write(make([]byte, sample)); err != nil {
			return 0, err
		}
		if err := expect(conn, "had\n"); err != nil {
			return 0, err
		}
		return sample / max(time.Since(began).Seconds(), 1e-6), nil
	}()
	if err != nil {
		conn.Close()
		return nil, 0, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, speed, nil
}

func expect(r io.Reader, word string) error {
	b := make([]byte, len(word))
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("it gave no answer: %w", err)
	}
	if string(b) != word {
		return errors.New("somebody else answers")
	}
	return nil
}

// resolve looks for a host's name, where hosts have names.
func (l links) resolve(ctx context.Context, h gang.Host) error {
	if !l.spec.Names {
		return nil
	}
	found, err := net.DefaultResolver.LookupHost(ctx, h.Node)
	if err == nil && !slices.Contains(found, h.Address) {
		err = fmt.Errorf("it is %s", strings.Join(found, ", "))
	}
	return err
}

// around passes two words on: that all links are well, and that all know it.
func (l links) around(in *bufio.ReadWriter, to io.Writer) error {
	for _, word := range []string{"well\n", "go\n"} {
		if l.spec.Member > 0 {
			if err := expect(in, word); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(to, word); err != nil {
			return err
		}
		if l.spec.Member == 0 {
			if err := expect(in, word); err != nil {
				return err
			}
		}
	}
	return nil
}
