// Package idmap makes user namespaces, and mounts that show the ids on a disk as others.
package idmap

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Range is one range of ids: Inside of the namespace, or on the disk, and Outside of it.
type Range struct{ Inside, Outside, Count int }

// Start runs a process in a new user namespace, which Hold keeps in being. It ends with the calling thread.
func Start(ids Range) (pid int, err error) {
	mappings := []syscall.SysProcIDMap{{ContainerID: ids.Inside, HostID: ids.Outside, Size: ids.Count}}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	pid, err = syscall.ForkExec("/proc/self/exe", []string{"pyro-agent", "launch", HoldArgument}, &syscall.ProcAttr{
		Dir:   "/",
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null)},
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, UidMappings: mappings, GidMappings: mappings,
			GidMappingsEnableSetgroups: true, Pdeathsig: unix.SIGKILL,
			// All ids of the process become the same: the death signal would not outlive the exec otherwise.
			Credential: &syscall.Credential{Uid: uint32(ids.Inside), Gid: uint32(ids.Inside)},
		},
	})
	if err != nil {
		return 0, fmt.Errorf("make a user namespace: %w", err)
	}
	return pid, nil
}

// HoldArgument is the argument of the role `launch` that calls Hold.
const HoldArgument = "hold"

// Hold keeps a namespace in being until it is killed.
func Hold() {
	for {
		time.Sleep(time.Hour)
	}
}

func end(pid int) {
	// A child that was not waited for: the pid is still its own.
	_ = unix.Kill(pid, unix.SIGKILL)
	var status syscall.WaitStatus
	_, _ = syscall.Wait4(pid, &status, 0, nil)
}

// Namespace opens a user namespace that nothing is in.
func Namespace(ids Range) (int, error) {
	pid, err := Start(ids)
	if err != nil {
		return -1, err
	}
	defer end(pid)
	namespace, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open", err)
	}
	return namespace, nil
}
