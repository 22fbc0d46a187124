package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// place is a fresh folder that goes when the attempt is over.
func place(work func(folder string) (string, error)) (string, error) {
	folder, err := os.MkdirTemp("", "probe-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	return work(folder)
}

func mounted(source, kind, data string, flags uintptr, then func(folder string) (string, error)) (string, error) {
	return place(func(folder string) (string, error) {
		if err := unix.Mount(source, folder, kind, flags, data); err != nil {
			return "", fmt.Errorf("mount %s: %w", kind, err)
		}
		defer unix.Unmount(folder, unix.MNT_DETACH)
		return then(folder)
	})
}

func done(folder string) (string, error) { return "mounted at " + folder, nil }

func mountTmpfs(string) (string, error) { return mounted("none", "tmpfs", "size=64k", 0, done) }
func mountProc(string) (string, error)  { return mounted("none", "proc", "", 0, done) }
func mountSysfs(string) (string, error) { return mounted("none", "sysfs", "", 0, done) }
func mountBind(string) (string, error)  { return mounted("/etc", "", "", unix.MS_BIND, done) }

func mountCgroup(string) (string, error) {
	detail, err := mounted("none", "cgroup2", "", 0, done)
	if err != nil {
		return mounted("none", "cgroup", "memory", 0, done)
	}
	return detail, nil
}

func mountNewInterface(string) (string, error) {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fd)
	return "fsopen", nil
}

// releaseAgent names a program that the host's kernel would run as root. A hierarchy of its own: no other is touched.
func releaseAgent(string) (string, error) {
	return mounted("none", "cgroup", "none,name=pyro-probe", 0, func(folder string) (string, error) {
		path := filepath.Join(folder, "release_agent")
		if err := os.WriteFile(path, []byte("/bin/true\n"), 0); err != nil {
			return "", err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("release_agent is %q", text), os.WriteFile(path, []byte("\n"), 0)
	})
}

func remountProcSys(string) (string, error) {
	return "remounted", unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "")
}

func remountAgent(string) (string, error) {
	return "remounted", unix.Mount("", "/run/pyro/agent", "", unix.MS_REMOUNT|unix.MS_BIND, "")
}

// unmask takes away what hides a file of /proc.
func unmask(string) (string, error) {
	if err := unix.Unmount("/proc/kcore", unix.MNT_DETACH); err != nil {
		return "", fmt.Errorf("umount: %w", err)
	}
	return "unmounted", nil
}

func pivotRoot(string) (string, error) {
	return place(func(folder string) (string, error) {
		path, err := unix.BytePtrFromString(folder)
		if err != nil {
			return "", err
		}
		// The new root is no mount point, which is looked at after the permission.
		_, _, errno := unix.Syscall(unix.SYS_PIVOT_ROOT, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(path)), 0)
		return passed("pivot_root", errno)
	})
}

// openByHandle opens a file by its number in the filesystem, whatever its path and whoever may pass there.
func openByHandle(string) (string, error) {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
	if err != nil {
		return "", fmt.Errorf("name_to_handle_at: %w", err)
	}
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(root)
	fd, err := unix.OpenByHandleAt(root, handle, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("open_by_handle_at: %w", err)
	}
	return "opened by handle", unix.Close(fd)
}

func swapOn(string) (string, error) {
	path, err := unix.BytePtrFromString("/nonexistent")
	if err != nil {
		return "", err
	}
	_, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0)
	runtime.KeepAlive(path)
	return passed("swapon", errno)
}
