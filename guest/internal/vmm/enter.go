package vmm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scratch is where the new root is built before it becomes the root.
const scratch = "/tmp"

// enter becomes the program; what it returns otherwise was said on the answer descriptor.
func enter(bundle string, tied bool) int {
	runtime.LockOSThread()
	err := becomeProgram(bundle, tied)
	fmt.Fprint(os.NewFile(answerFd, "answer"), err)
	return exitFailed
}

func becomeProgram(bundle string, tied bool) error {
	s, err := readSpec(bundle)
	if err != nil {
		return err
	}
	// Only what is meant for the program stays open in it.
	if err := unix.CloseRange(uint(s.last()+1), 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	unix.CloseOnExec(answerFd)
	if err := buildRoot(s); err != nil {
		return err
	}
	if err := dropPrivileges(s); err != nil {
		return err
	}
	if tied {
		if err := tieToParent(answerFd); err != nil {
			return err
		}
	}
	return &os.PathError{Op: "exec", Path: s.Argv[0], Err: syscall.Exec(s.Argv[0], s.Argv, []string{"HOME=/"})}
}

// tieToParent ends this process with its parent, which reads pipe. It comes after the change of ids, which would take it
// away.
func tieToParent(pipe int32) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	// A parent that died before no longer reads.
	answer := []unix.PollFd{{Fd: pipe, Events: unix.POLLOUT}}
	if _, err := unix.Poll(answer, 0); err != nil || answer[0].Revents&unix.POLLERR != 0 {
		return errors.New("the parent is gone")
	}
	return nil
}

func buildRoot(s *spec) error {
	// Nothing that happens here may reach the host's mounts, or come from there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	trees := make([]int, len(s.Mounts))
	for at, m := range s.Mounts {
		tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return &os.PathError{Op: "open_tree", Path: m.Source, Err: err}
		}
		if m.isOwn() {
			mapped := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(s.last() + 1)}
			if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &mapped); err != nil {
				return &os.PathError{Op: "map ids", Path: m.Source, Err: err}
			}
		}
		trees[at] = tree
	}
	if err := unix.Mount("vmm", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return &os.PathError{Op: "mount", Path: scratch, Err: err}
	}
	for at, m := range s.Mounts {
		if err := hang(trees[at], m); err != nil {
			return err
		}
	}
	sealed := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, scratch, 0, &sealed); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: scratch, Err: err}
	}
	if err := os.Chdir(scratch); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	return os.Chdir("/")
}

func hang(tree int, m mount) error {
	defer unix.Close(tree)
	var status unix.Stat_t
	if err := unix.Fstat(tree, &status); err != nil {
		return &os.PathError{Op: "stat", Path: m.Source, Err: err}
	}
	target := filepath.Join(scratch, m.Target)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if status.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
	} else if err := os.WriteFile(target, nil, 0o644); err != nil {
		return err
	}
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	switch m.Access {
	case "read", "own-read":
		attributes.Attr_set |= unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV
	case "write", "own-write":
		attributes.Attr_set |= unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	case "device":
		attributes.Attr_set |= unix.MOUNT_ATTR_NOEXEC
	default:
		return fmt.Errorf("no access to %s: %q", m.Source, m.Access)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: m.Source, Err: err}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: m.Target, Err: err}
	}
	return nil
}

// dropPrivileges acts on this thread, which becomes the program's only one.
func dropPrivileges(s *spec) error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return os.NewSyscallError("setrlimit", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	groups := make([]uint32, len(s.Groups))
	for at, group := range s.Groups {
		groups[at] = uint32(group)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); errno != 0 {
		return os.NewSyscallError("setgroups", errno)
	}
	id := s.ID
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(id), uintptr(id), uintptr(id)); errno != 0 {
		return os.NewSyscallError("setresgid", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(id), uintptr(id), uintptr(id)); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	return nil
}
