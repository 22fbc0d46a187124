package isolate

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runtimeCalls are what the Go runtime itself needs.
var runtimeCalls = []uintptr{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE,
	unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP,
	unix.SYS_CLOCK_GETTIME, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
	unix.SYS_PIPE2, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_TGKILL, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_GETRANDOM, unix.SYS_FCNTL, unix.SYS_UNAME, unix.SYS_RESTART_SYSCALL, unix.SYS_RSEQ, unix.SYS_MEMBARRIER,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_PPOLL, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
}

// readCalls look at files.
var readCalls = []uintptr{
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_PREAD64, unix.SYS_PREADV, unix.SYS_LSEEK, unix.SYS_FSTAT, sysFstatat,
	unix.SYS_STATX, unix.SYS_GETDENTS64, unix.SYS_READLINKAT, unix.SYS_FADVISE64, unix.SYS_DUP, unix.SYS_DUP3,
	unix.SYS_FSTATFS, unix.SYS_FGETXATTR, unix.SYS_FLISTXATTR, unix.SYS_FCHDIR, unix.SYS_SENDFILE, unix.SYS_SPLICE,
}

// writeCalls change files. None of them makes devices, mounts or processes.
var writeCalls = []uintptr{
	unix.SYS_PWRITE64, unix.SYS_PWRITEV, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_SYNCFS, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, sysRenameat, unix.SYS_RENAMEAT2, unix.SYS_LINKAT,
	unix.SYS_SYMLINKAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_FSETXATTR, unix.SYS_FREMOVEXATTR, unix.SYS_COPY_FILE_RANGE, unix.SYS_UMASK,
}

// Offsets in struct seccomp_data; little-endian, as both supported machines are.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16
	dataArg2   = 32
)

// x32Bit marks calls of the x32 table of amd64, which would bypass comparison by number.
const x32Bit = 0x40000000

func installFilter(write bool) error {
	program := buildFilter(write)
	if len(program) > unix.BPF_MAXINSNS {
		return fmt.Errorf("the filter has %d instructions", len(program))
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("install the filter: %w", errno)
	}
	return nil
}

// buildFilter answers everything that is not named with EPERM, and kills whoever calls by another machine's numbers.
func buildFilter(write bool) []unix.SockFilter {
	allow := ret(unix.SECCOMP_RET_ALLOW)
	deny := ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	absent := ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	program := []unix.SockFilter{
		load(dataArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNumber),
		jump(unix.BPF_JGE, x32Bit, 0, 1),
		deny,
	}
	calls := [][]uintptr{runtimeCalls, readCalls}
	if write {
		calls = append(calls, writeCalls)
	}
	for _, list := range calls {
		for _, number := range list {
			program = append(program, jump(unix.BPF_JEQ, uint32(number), 0, 1), allow)
		}
	}
	// The runtime falls back to clone; it can be checked, the flags of clone3 cannot.
	program = append(program, jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), absent)
	program = append(program,
		// Threads, not processes.
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 4),
		load(dataArg0),
		jump(unix.BPF_JSET, unix.CLONE_THREAD, 0, 1),
		allow,
		deny,
	)
	if write {
		program = append(program,
			// FIFOs, not devices.
			jump(unix.BPF_JEQ, unix.SYS_MKNODAT, 0, 5),
			load(dataArg2),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: unix.S_IFMT},
			jump(unix.BPF_JEQ, unix.S_IFIFO, 0, 1),
			allow,
			deny,
		)
	}
	return append(program, deny)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(test uint16, value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: value}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
