// Package shield protects PID 1 from SIGKILL and SIGSTOP where the kernel does not.
//
// Linux drops both when they come from inside PID 1's own namespace; gVisor delivers them. There a seccomp filter on the
// thread that starts commands, which all of them inherit, answers such calls as Linux does: success, and nothing happens.
package shield

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gvisorVersion is what uname(2) has said in gVisor since its first release (pkg/sentry/syscalls/linux/linux64.go).
const gvisorVersion = "#1 SMP Sun Jan 10 15:06:54 PST 2016"

// Needed reports whether this kernel lets processes kill PID 1.
func Needed() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	version, _, _ := bytes.Cut(name.Version[:], []byte{0})
	return string(version) == gvisorVersion
}

// Offsets in struct seccomp_data.
const (
	offsetNumber       = 0
	offsetArchitecture = 4
	offsetArguments    = 16
)

// Install puts the filter on the calling thread, which must be locked. Threads of this process that exist by now are
// protected, too.
func Install() error {
	last, err := lastThread()
	if err != nil {
		return err
	}
	program := program(uint32(last))
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// program allows everything but SIGKILL and SIGSTOP to a thread of PID 1.
func program(last uint32) []unix.SockFilter {
	// Where the target and the signal stand among the arguments of each call.
	calls := []struct{ number, target, signal uint32 }{
		{unix.SYS_KILL, 0, 1},
		{unix.SYS_TKILL, 0, 1},
		{unix.SYS_TGKILL, 1, 2},
		{unix.SYS_RT_SIGQUEUEINFO, 0, 1},
		{unix.SYS_RT_TGSIGQUEUEINFO, 1, 2},
	}
	const perCall = 8
	total := uint8(len(calls))
	code := []unix.SockFilter{
		load(offsetArchitecture),
		jumpEqual(architecture, 1, 0),
		give(unix.SECCOMP_RET_ALLOW),
		load(offsetNumber),
	}
	for i, call := range calls {
		// To this call's block, behind the remaining comparisons, the first allow and the blocks before.
		code = append(code, jumpEqual(call.number, total-uint8(i)+uint8(i)*perCall, 0))
	}
	code = append(code, give(unix.SECCOMP_RET_ALLOW))
	for _, call := range calls {
		code = append(code,
			load(offsetArguments+8*call.signal),
			jumpEqual(uint32(unix.SIGKILL), 1, 0),
			jumpEqual(uint32(unix.SIGSTOP), 0, 4),
			load(offsetArguments+8*call.target),
			jumpEqual(0, 2, 0),
			jumpGreater(last, 1, 0),
			// SECCOMP_RET_ERRNO with 0: the call says that it worked.
			give(unix.SECCOMP_RET_ERRNO),
			give(unix.SECCOMP_RET_ALLOW),
		)
	}
	return code
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jumpEqual(value uint32, then, otherwise uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: then, Jf: otherwise}
}

// jumpGreater compares unsigned: negative targets, which are groups and everything, are greater.
func jumpGreater(value uint32, then, otherwise uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: value, Jt: then, Jf: otherwise}
}

func give(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// lastThread is the highest thread id of this process.
func lastThread() (int, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, err
	}
	last := 1
	for _, entry := range entries {
		if id, err := strconv.Atoi(entry.Name()); err == nil {
			last = max(last, id)
		}
	}
	return last, nil
}
