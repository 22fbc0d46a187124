package launch

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mapping is one range of a user namespace.
type mapping struct{ inside, outside, count int }

// namespaceOf makes a user namespace as another user of the host, by whose account the kernel then counts what is done
// in it. The returned process is all that is in it, and ends with this one.
func namespaceOf(owner int, ids mapping) (pid int, err error) {
	// Of this thread alone; the libraries' calls change the ids of all.
	if err := setEffective(owner); err != nil {
		return 0, err
	}
	pid, err = start(ids)
	if err := setEffective(0); err != nil {
		return 0, err
	}
	return pid, err
}

// setEffective changes the effective user and keeps the rights of root.
func setEffective(id int) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(id), same); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var rights [2]unix.CapUserData
	if err := unix.Capget(&header, &rights[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for i := range rights {
		rights[i].Effective = rights[i].Permitted
	}
	if err := unix.Capset(&header, &rights[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return nil
}

// start runs a process in a new user namespace. It ends with the calling thread.
func start(ids mapping) (pid int, err error) {
	mappings := []syscall.SysProcIDMap{{ContainerID: ids.inside, HostID: ids.outside, Size: ids.count}}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	pid, err = syscall.ForkExec("/proc/self/exe", []string{"pyro-agent", "launch", holdArgument}, &syscall.ProcAttr{
		Dir:   "/",
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null)},
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, UidMappings: mappings, GidMappings: mappings,
			GidMappingsEnableSetgroups: true, Pdeathsig: unix.SIGKILL,
			// All ids of the process become the same: the death signal would not outlive the exec otherwise.
			Credential: &syscall.Credential{Uid: uint32(ids.inside), Gid: uint32(ids.inside)},
		},
	})
	if err != nil {
		return 0, fmt.Errorf("make a user namespace: %w", err)
	}
	return pid, nil
}

func end(pid int) {
	// A child that was not waited for: the pid is still its own.
	_ = unix.Kill(pid, unix.SIGKILL)
	var status syscall.WaitStatus
	_, _ = syscall.Wait4(pid, &status, 0, nil)
}

// hold keeps a namespace in being until it is killed.
func hold() {
	for {
		time.Sleep(time.Hour)
	}
}
