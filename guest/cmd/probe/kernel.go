package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

func bpfMap(string) (string, error) {
	// BPF_MAP_CREATE of an array of one: type, key size, value size, entries.
	attributes := [16]uint32{2, 4, 4, 1}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	if errno != 0 {
		return "", call("bpf", errno)
	}
	return "made a map", unix.Close(int(fd))
}

// perfEvent counts on every process of a processor.
func perfEvent(string) (string, error) {
	attributes := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK}
	attributes.Size = uint32(unsafe.Sizeof(attributes))
	fd, err := unix.PerfEventOpen(&attributes, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("perf_event_open: %w", err)
	}
	return "counts on processor 0", unix.Close(fd)
}

func userfaultfd(string) (string, error) {
	const userModeOnly = 1
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|userModeOnly, 0, 0)
	if errno != 0 {
		return "", call("userfaultfd", errno)
	}
	return "made", unix.Close(int(fd))
}

func ioUring(string) (string, error) {
	var parameters [120]byte
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)), 0)
	if errno != 0 {
		return "", call("io_uring_setup", errno)
	}
	return "made a ring", unix.Close(int(fd))
}

// moduleLoad hands over an empty file, which is looked at after the permission.
func moduleLoad(string) (string, error) {
	fd, err := unix.MemfdCreate("probe", unix.MFD_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var none [1]byte
	_, _, errno := unix.Syscall(unix.SYS_FINIT_MODULE, uintptr(fd), uintptr(unsafe.Pointer(&none)), 0)
	return passed("finit_module", errno)
}

func moduleUnload(string) (string, error) {
	name, err := unix.BytePtrFromString("pyro_probe_no_such_module")
	if err != nil {
		return "", err
	}
	_, _, errno := unix.Syscall(unix.SYS_DELETE_MODULE, uintptr(unsafe.Pointer(name)), unix.O_NONBLOCK, 0)
	runtime.KeepAlive(name)
	return passed("delete_module", errno)
}

func kexec(string) (string, error) {
	// Flags that no kernel knows: they are looked at after the permission.
	const unknownFlags = 0x8000
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, 0, 0, 0, unknownFlags, 0, 0)
	return passed("kexec_load", errno)
}

// reboot gives no magic, without which nothing happens.
func reboot(string) (string, error) {
	_, _, errno := unix.Syscall6(unix.SYS_REBOOT, 0, 0, 0, 0, 0, 0)
	return passed("reboot", errno)
}

func kernelLog(string) (string, error) {
	buffer := make([]byte, readLimitBytes)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buffer)
	if err != nil {
		return "", fmt.Errorf("syslog: %w", err)
	}
	if n == 0 {
		return "", errNothing
	}
	return fmt.Sprintf("%d bytes: %.80q", n, buffer[:n]), nil
}

// setClock sets the time to what it is.
func setClock(string) (string, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return "", err
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return "", fmt.Errorf("clock_settime: %w", err)
	}
	return "set the clock", nil
}

// accounting turns process accounting off, where it is off.
func accounting(string) (string, error) {
	_, _, errno := unix.Syscall(unix.SYS_ACCT, 0, 0, 0)
	return passed("acct", errno)
}

func hostname(string) (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return "", fmt.Errorf("sethostname: %w", err)
	}
	return "set to " + name, nil
}

const keyName = "pyro-probe"

// keyAdd leaves a key in the keyring of the user, where others with the same id could find it.
func keyAdd(value string) (string, error) {
	id, err := unix.AddKey("user", keyName, []byte(value+"."), unix.KEY_SPEC_USER_KEYRING)
	if err != nil {
		return "", fmt.Errorf("add_key: %w", err)
	}
	return fmt.Sprintf("key %d", id), nil
}

func keyFind(string) (string, error) {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", keyName, 0)
	if err != nil {
		return "", fmt.Errorf("keyctl search: %w", err)
	}
	buffer := make([]byte, 64)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buffer, 0)
	if err != nil {
		return "", fmt.Errorf("keyctl read: %w", err)
	}
	return string(buffer[:n]), nil
}

// personality makes memory that is readable executable, a help for exploits.
func personality(string) (string, error) {
	const readImpliesExec = 0x0400000
	_, _, errno := unix.Syscall(unix.SYS_PERSONALITY, readImpliesExec, 0, 0)
	if errno != 0 {
		return "", call("personality", errno)
	}
	return "READ_IMPLIES_EXEC", nil
}

func raisePriority(string) (string, error) {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -10); err != nil {
		return "", fmt.Errorf("setpriority: %w", err)
	}
	return "nice -10", nil
}

func realTime(string) (string, error) {
	const fifo = 1
	priority := int32(1)
	_, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, fifo, uintptr(unsafe.Pointer(&priority)))
	if errno != 0 {
		return "", call("sched_setscheduler", errno)
	}
	return "SCHED_FIFO", nil
}

func raiseFileLimit(string) (string, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	limit.Max++
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", fmt.Errorf("setrlimit: %w", err)
	}
	return fmt.Sprintf("%d files", limit.Max), nil
}
