package sandbox

import (
	"fmt"
	"os"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights by what they are for. Those newer than the kernel's ABI are masked out.
const (
	rightsFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	rightsRead  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	rightsWrite = rightsRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	rightsAll = rightsWrite | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
)

// ABI is the Landlock version of the running kernel; 0: it has none, or none is on.
func ABI() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// known is what a kernel of an ABI can refuse.
func known(abi int) (access, scoped uint64) {
	access = rightsAll
	if abi < 5 {
		access &^= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi < 3 {
		access &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi < 2 {
		access &^= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 6 {
		scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return access, scoped
}

// restrict gives the calling thread, and what it will fork, what the world allows.
func (w World) restrict() error {
	access, scoped := known(w.Landlock)
	ruleset, err := w.ruleset(access, scoped)
	if err != nil {
		return err
	}
	defer unix.Close(ruleset)
	for _, p := range w.Read {
		for _, q := range around(p, w.Hide) {
			if err := allow(ruleset, q, rightsRead&access); err != nil {
				return err
			}
		}
	}
	for _, p := range w.Show {
		if err := allow(ruleset, p, rightsRead&access); err != nil {
			return err
		}
	}
	for _, p := range w.Write {
		if err := allow(ruleset, p, rightsWrite&access); err != nil {
			return err
		}
	}
	return enter(ruleset)
}

// ruleset makes rules by which nothing is allowed yet of what they handle.
func (w World) ruleset(access, scoped uint64) (int, error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: access, Scoped: scoped}
	size := unsafe.Offsetof(attr.Quiet_access_fs)
	if w.Landlock < 6 {
		size = unsafe.Offsetof(attr.Scoped)
	}
	if w.Landlock < 4 {
		size = unsafe.Offsetof(attr.Handled_access_net)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return -1, fmt.Errorf("make Landlock rules: %w", errno)
	}
	return int(fd), nil
}

// enter puts the calling thread, and what it will fork, into a domain of its own.
func enter(ruleset int) error {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("enter Landlock domain: %w", errno)
	}
	return nil
}

// allow grants rights below a path. One that is missing is skipped.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil //nolint:nilerr // nothing there that could be used
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= rightsFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}

// around returns paths that together cover top but what is hidden below it:
// Landlock can only grant, so a folder above a hidden one is granted child by child.
func around(top string, hide []string) []string {
	inside := false
	for _, h := range hide {
		if within(top, h) {
			return nil
		}
		inside = inside || within(h, top)
	}
	if !inside {
		return []string{top}
	}
	entries, err := os.ReadDir(top)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.Type()&os.ModeSymlink == 0 { // a link grants what it leads to, which others decide
			out = append(out, around(path.Join(top, e.Name()), hide)...)
		}
	}
	return out
}
