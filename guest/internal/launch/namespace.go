package launch

import (
	"os"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/idmap"
)

// namespaceOf makes a user namespace as another user of the host, by whose account the kernel then counts what is done
// in it. The returned process is all that is in it, and ends with this one.
func namespaceOf(owner int, ids idmap.Range) (pid int, err error) {
	// Of this thread alone; the libraries' calls change the ids of all.
	if err := setEffective(owner); err != nil {
		return 0, err
	}
	pid, err = idmap.Start(ids)
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
