package prefork

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstForeign is the first descriptor that the process must not keep: others wait for their ends.
const firstForeign = 3

// become is all that the process runs until it is another program: system calls, on memory that is made. It must neither allocate nor
// call what the runtime guards, since the runtime takes this for no thread of its own; nor return.
//
//go:nosplit
//go:norace
func become(o *order) {
	syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	errno := settle(o)
	for o.stage.Load() == waits {
		syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&o.stage)), futexWait, waits, 0, 0, 0)
	}
	if o.stage.CompareAndSwap(told, goesOn) && errno == 0 {
		errno = execute(o)
	}
	o.errno = errno
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

//go:nosplit
//go:norace
func settle(o *order) syscall.Errno {
	for at := uintptr(0); at < 3; at++ {
		if _, _, errno := syscall.RawSyscall(unix.SYS_DUP3, o.files[at], at, 0); errno != 0 {
			return errno
		}
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, firstForeign, ^uintptr(0)>>32, 0)
	if errno != 0 {
		return errno
	}
	_, _, errno = syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&o.limit)), 0, 0, 0)
	return errno
}

// execute is in the order of package syscall, so that the same fails first.
//
//go:nosplit
//go:norace
func execute(o *order) syscall.Errno {
	if o.path == nil {
		return syscall.EINVAL
	}
	if o.changesAccount {
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, o.groupCount, uintptr(unsafe.Pointer(o.groups)), 0); errno != 0 {
			return errno
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETGID, o.gid, 0, 0); errno != 0 {
			return errno
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETUID, o.uid, 0, 0); errno != 0 {
			return errno
		}
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(o.dir)), 0, 0); errno != 0 {
		return errno
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(o.path)), uintptr(unsafe.Pointer(o.argv)), uintptr(unsafe.Pointer(o.env)))
	return errno
}
