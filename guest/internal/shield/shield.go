// Package shield protects PID 1 from SIGKILL and SIGSTOP where the kernel does not.
//
// Linux drops both when they come from inside PID 1's own namespace; gVisor delivers them. There a seccomp filter on the
// thread that starts commands, which all of them inherit, answers such calls as Linux does: success, and nothing happens.
// On Linux the runtime's filter does the rest: neither lets a process set limits of another.
package shield

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
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

// program allows everything but what would end or cripple PID 1.
func program(last uint32) []unix.SockFilter {
	type rule struct {
		number uint32
		block  []unix.SockFilter
	}
	rules := []rule{
		// Where the target and the signal stand among the arguments of each call.
		{unix.SYS_KILL, noDeath(0, 1, last)},
		{unix.SYS_TKILL, noDeath(0, 1, last)},
		{unix.SYS_TGKILL, noDeath(1, 2, last)},
		{unix.SYS_RT_SIGQUEUEINFO, noDeath(0, 1, last)},
		{unix.SYS_RT_TGSIGQUEUEINFO, noDeath(1, 2, last)},
		{unix.SYS_FCNTL, noDeathlyOwner()},
		{unix.SYS_PRLIMIT64, noForeignLimit()},
	}
	code := []unix.SockFilter{
		load(offsetArchitecture),
		jumpEqual(architecture, 1, 0),
		give(unix.SECCOMP_RET_ALLOW),
		load(offsetNumber),
	}
	// To its block: behind the remaining comparisons, the first allow and the blocks before.
	away := len(rules)
	for _, rule := range rules {
		code = append(code, jumpEqual(rule.number, uint8(away), 0))
		away += len(rule.block) - 1
	}
	code = append(code, give(unix.SECCOMP_RET_ALLOW))
	for _, rule := range rules {
		code = append(code, rule.block...)
	}
	return code
}

// ignore is an answer that says that the call worked.
var ignore = give(unix.SECCOMP_RET_ERRNO)

// noDeath ignores SIGKILL and SIGSTOP to a thread of PID 1, given which arguments name target and signal.
func noDeath(target, signal, last uint32) []unix.SockFilter {
	return []unix.SockFilter{
		load(offsetArguments + 8*signal),
		jumpEqual(uint32(unix.SIGKILL), 1, 0),
		jumpEqual(uint32(unix.SIGSTOP), 0, 4),
		load(offsetArguments + 8*target),
		jumpEqual(0, 2, 0),
		jumpGreater(last, 1, 0),
		ignore,
		give(unix.SECCOMP_RET_ALLOW),
	}
}

// faults are signals that gVisor sends to the owner of a descriptor with the code of a real fault, which ends a Go process.
var faults = []syscall.Signal{unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS}

// noDeathlyOwner ignores that the owner of a descriptor, which may be anybody, shall be sent what PID 1 dies of.
func noDeathlyOwner() []unix.SockFilter {
	const setSignal = 10 // F_SETSIG
	deadly := append([]syscall.Signal{unix.SIGKILL, unix.SIGSTOP}, faults...)
	block := []unix.SockFilter{
		load(offsetArguments + 8*1),
		jumpEqual(setSignal, 1, 0),
		give(unix.SECCOMP_RET_ALLOW),
		load(offsetArguments + 8*2),
	}
	for i, signal := range deadly {
		block = append(block, jumpEqual(uint32(signal), uint8(len(deadly)-i), 0))
	}
	return append(block, give(unix.SECCOMP_RET_ALLOW), ignore)
}

// noForeignLimit refuses to set limits of other processes: a limit on processor time kills, one on files cripples.
func noForeignLimit() []unix.SockFilter {
	const newLimit = offsetArguments + 8*2
	return []unix.SockFilter{
		load(offsetArguments),
		jumpEqual(0, 4, 0),
		load(newLimit),
		jumpEqual(0, 0, 3),
		load(newLimit + 4),
		jumpEqual(0, 0, 1),
		give(unix.SECCOMP_RET_ALLOW),
		give(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)),
	}
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
