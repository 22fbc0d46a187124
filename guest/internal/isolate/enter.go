package isolate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Enter finishes the sandbox from inside and decodes the input. After it the process sees its volumes and nothing else.
// An error leaves the process half confined: it must end.
func Enter(input any) error {
	if os.Getpid() != 1 {
		return errors.New("not started by isolate.Run")
	}
	file := os.NewFile(firstFd, "plan")
	text, err := io.ReadAll(io.LimitReader(file, inputLimitBytes))
	file.Close()
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if err := json.Unmarshal(p.Input, input); err != nil {
		return fmt.Errorf("read the input: %w", err)
	}
	if err := mountAll(p.Mounts); err != nil {
		return err
	}
	if err := setLimits(); err != nil {
		return err
	}
	if err := dropPrivileges(p.Capabilities); err != nil {
		return err
	}
	return installFilter(p.Write)
}

func mountAll(mounts []Mount) error {
	// Nothing that happens here may reach the host's mounts, or come from there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if len(mounts) == 1 && mounts[0].Target == "/" {
		return enterRoot(firstFd + 1)
	}
	root, err := smallRoot(mounts)
	if err != nil {
		return err
	}
	if err := enterRoot(root); err != nil {
		return err
	}
	for at, mount := range mounts {
		fd := firstFd + 1 + at
		err := unix.MoveMount(fd, "", unix.AT_FDCWD, "/"+mount.Target, unix.MOVE_MOUNT_F_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("mount %s: %w", mount.Target, err)
		}
		unix.Close(fd)
	}
	sealed := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV |
		unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSYMFOLLOW}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &sealed); err != nil {
		return fmt.Errorf("seal the root: %w", err)
	}
	return nil
}

// smallRoot makes a tmpfs with one empty folder for each mount.
func smallRoot(mounts []Mount) (int, error) {
	context, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make the root: %w", err)
	}
	defer unix.Close(context)
	if err := fsconfigString(context, "size", "1m"); err != nil {
		return -1, fmt.Errorf("make the root: %w", err)
	}
	if err := fsconfigCreate(context); err != nil {
		return -1, fmt.Errorf("make the root: %w", err)
	}
	root, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make the root: %w", err)
	}
	for _, mount := range mounts {
		if mount.Target == "" || strings.ContainsRune(mount.Target, '/') {
			return -1, fmt.Errorf("not a mount target: %q", mount.Target)
		}
		if err := unix.Mkdirat(root, mount.Target, 0o755); err != nil {
			return -1, fmt.Errorf("make %s: %w", mount.Target, err)
		}
	}
	return root, nil
}

func fsconfigString(fd int, key, value string) error {
	keyText, err := unix.BytePtrFromString(key)
	if err != nil {
		return err
	}
	valueText, err := unix.BytePtrFromString(value)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_FSCONFIG, uintptr(fd), unix.FSCONFIG_SET_STRING,
		uintptr(unsafe.Pointer(keyText)), uintptr(unsafe.Pointer(valueText)), 0, 0)
	return errnoOrNil(errno)
}

func fsconfigCreate(fd int) error {
	_, _, errno := unix.Syscall6(unix.SYS_FSCONFIG, uintptr(fd), unix.FSCONFIG_CMD_CREATE, 0, 0, 0, 0)
	return errnoOrNil(errno)
}

func errnoOrNil(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// enterRoot hangs a detached mount over the present root, makes it the root and drops everything else.
func enterRoot(fd int) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	unix.Close(fd)
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("drop the old root: %w", err)
	}
	return unix.Chdir("/")
}

// setLimits leaves no core file; nothing here may be raised, only lowered.
func setLimits() error {
	for _, limit := range []int{unix.RLIMIT_CORE, unix.RLIMIT_MEMLOCK, unix.RLIMIT_MSGQUEUE} {
		if err := unix.Setrlimit(limit, &unix.Rlimit{}); err != nil {
			return fmt.Errorf("lower limit %d: %w", limit, err)
		}
	}
	unix.Umask(0)
	return nil
}

const capabilityVersion3 = 0x20080522

// dropPrivileges acts on every thread: to the kernel each has privileges of its own. The bounding set may stay: it counts
// only for whoever executes a program, which the filter refuses.
func dropPrivileges(keep []uintptr) error {
	kept := uint64(0)
	for _, capability := range keep {
		kept |= 1 << capability
	}
	header := unix.CapUserHeader{Version: capabilityVersion3}
	data := [2]unix.CapUserData{
		{Effective: uint32(kept), Permitted: uint32(kept)},
		{Effective: uint32(kept >> 32), Permitted: uint32(kept >> 32)},
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
	if errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("become undumpable: %w", err)
	}
	_, _, errno = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("give up new privileges: %w", errno)
	}
	return nil
}
