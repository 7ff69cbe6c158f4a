package launch

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/core/gang"
	"github.com/ebb-compute/ebb/internal/node/launch/rank"
	"github.com/ebb-compute/ebb/internal/nodeproto"
)

// Call is what "ebb rsh" asks of the node's agent, as a line on its socket: a
// command for /bin/sh in another member's world. The agent answers with frames
// ([WriteFrame]), as a command in a job gives its output ([nodeproto.Exec]).
type Call struct {
	Member  int    `json:"member"`
	Command string `json:"command"`
}

// callWithin is more than an agent tries to bring a command to another node.
const callWithin = 2 * time.Minute

// maxFrame bounds a frame's size in bytes.
const maxFrame = 1 << 20

// WriteFrame writes a message with its size before it.
func WriteFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// RSH is "ebb rsh HOST COMMAND": it runs a command on a node of the job.
func RSH(args []string) int {
	folder := os.Getenv(rank.Variable)
	s, err := rank.Load(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ebb rsh:", err)
		return 255
	}
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-x" || a == "-n" || a == "-q" }) // ssh's
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: ebb rsh HOST COMMAND, inside a job of several nodes")
		return 255
	}
	n := slices.IndexFunc(s.Hosts, func(h gang.Host) bool { return h.Node == args[0] || h.Address == args[0] })
	if n < 0 {
		fmt.Fprintf(os.Stderr, "ebb rsh: %s is no node of this job\n", args[0])
		return 255
	}
	command := strings.Join(args[1:], " ")
	if n == s.Member { // which mpirun may know by another name
		err := unix.Exec("/bin/sh", []string{"sh", "-c", command}, os.Environ())
		fmt.Fprintf(os.Stderr, "ebb rsh: /bin/sh: %v\n", err)
		return 126
	}
	code, err := call(s.Agent, Call{Member: n, Command: command})
	if err != nil {
		fmt.Fprintf(os.Stderr, "ebb rsh: %s: %v\n", args[0], err)
	}
	return code
}

// attached is how long rsh stays with a command that was begun. One that cannot
// work has failed by then; the others mpirun hears from by itself, for as long as
// the job lasts.
const attached = 15 * time.Second

// call brings a command to the agent and prints what it says.
func call(agent string, c Call) (int, error) {
	conn, err := Dial(filepath.Dir(agent), filepath.Base(agent))
	if err != nil {
		return 255, fmt.Errorf("reach the node's agent: %w", err)
	}
	defer conn.Close()
	b, err := json.Marshal(c)
	if err != nil {
		return 255, err
	}
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return 255, err
	}
	begun := false
	stay := time.AfterFunc(2*callWithin, func() { conn.Close() })
	defer stay.Stop()
	for in := bufio.NewReader(conn); ; {
		b, err := readFrame(in)
		if err != nil {
			if begun { // enough was seen, or the agent or the server starts anew
				return 0, nil
			}
			return 255, fmt.Errorf("the node's agent gave no answer: %w", err)
		}
		if !begun && nodeproto.Channel(b[0]) != nodeproto.ExecOver {
			begun = true
			stay.Reset(attached)
		}
		switch nodeproto.Channel(b[0]) {
		case nodeproto.Stdout:
			_, _ = os.Stdout.Write(b[1:])
		case nodeproto.Stderr:
			_, _ = os.Stderr.Write(b[1:])
		case nodeproto.ExecOver:
			var end nodeproto.ExecEnd
			if err := json.Unmarshal(b[1:], &end); err != nil {
				return 255, err
			}
			if end.Error != "" {
				return max(end.Code, 1), fmt.Errorf("%s", end.Error)
			}
			return end.Code, nil
		case nodeproto.Stdin, nodeproto.StdinEnd, nodeproto.Resize:
		}
	}
}

// Sockets have short names; a folder's need not be.

// Dial connects to a socket in a folder.
func Dial(folder, name string) (net.Conn, error) {
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return net.Dial("unix", filepath.Join("/proc/self/fd", strconv.Itoa(fd), name))
}

// Listen makes a socket in a folder of our own, in place of one that is there.
// Whoever finds it may connect: see [Peer].
func Listen(folder, name string) (*net.UnixListener, error) {
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	at := filepath.Join("/proc/self/fd", strconv.Itoa(fd), name)
	if err := os.Remove(at); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // its name says another file by then
	if err := os.Chmod(at, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Peer is the user at the other end of a connection.
func Peer(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return -1, cerr
	}
	if err != nil {
		return -1, err
	}
	return int(cred.Uid), nil
}
