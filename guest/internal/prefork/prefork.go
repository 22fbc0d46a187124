// Package prefork forks ahead of time: a process waits, its session and descriptors in place, for the program that it becomes. On an
// emulated processor the fork is a quarter of what the start of a small program takes, and nobody waits for it then.
//
// The process shares the memory of this one (CLONE_VM), so that neither making it nor telling it what to become copies anything. It
// runs on a stack of its own, in code that the Go runtime knows nothing of (become), and leaves this memory with its execve(2) or its
// end. The kernel says which moment that is: it clears a word and wakes who waits for it (CLONE_CHILD_CLEARTID, set_tid_address(2)).
package prefork

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process did not go on: it had ended before it was told to.
var ErrGone = errors.New("the process that was forked ahead has ended")

// ErrStuck says that the process does not go on and never will: somebody has stopped it, or watches it. It has to be killed.
var ErrStuck = errors.New("the process that was forked ahead stands still")

// stuckAfter is how long the process may take to notice that it shall go on.
const stuckAfter = 250 * time.Millisecond

// openFiles is the soft limit of descriptors that the kernel starts PID 1 with (INR_OPEN_CUR in linux/fs.h). The Go runtime raises
// its own; what it starts begins with this again.
const openFiles = 1024

const stackBytes = 16 << 10

// Process waits until Become. It is made for PID 1: where this process ends before, nobody ends it.
type Process struct {
	Pid   int
	stack atomic.Pointer[[]byte]
	order *order
}

// Program is what a Process becomes.
type Program struct {
	Path      string
	Argv, Env []string
	// Dir is its working folder.
	Dir      string
	UID, GID uint32
	Groups   []uint32
}

// order is read by the process that waits. All but its words for futex(2) is set before that process is told to go on.
type order struct {
	// alive is 1 until the process has left this memory.
	alive atomic.Uint32
	stage atomic.Uint32
	files [3]uintptr
	limit unix.Rlimit

	// path is nil when there is a NUL in what execve(2) would take.
	path, dir      *byte
	argv, env      **byte
	groups         *uint32
	groupCount     uintptr
	uid, gid       uintptr
	changesAccount bool
	// errno is why it could not become the program; 0 when it did.
	errno syscall.Errno
}

// Stages of an order. Each side leaves its own only by compare and swap: what was called off is never begun.
const (
	waits = iota
	told
	goesOn
	calledOff
)

// cloneArguments is struct clone_args (linux/sched.h).
type cloneArguments struct {
	flags, pidFd, childTid, parentTid, exitSignal, stack, stackBytes, tls, setTid, setTidCount, cgroup uint64
}

// clone makes a process that runs become on its own stack.
func clone(arguments *cloneArguments, size uintptr, order *order) (result uintptr)

// Start forks. cgroup is a descriptor of the control group (v2) to begin in, or -1; files become descriptors 0, 1 and 2. It begins
// with the default action of every signal that is caught here, in a session of its own.
func Start(cgroup int, files [3]int) (*Process, error) {
	o := &order{}
	for at, file := range files {
		// Those that lie below would overwrite each other.
		if file <= 2 {
			return nil, &os.SyscallError{Syscall: "dup3", Err: syscall.EINVAL}
		}
		o.files[at] = uintptr(file)
	}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &o.limit); err != nil {
		return nil, os.NewSyscallError("getrlimit", err)
	}
	o.limit.Cur = min(openFiles, o.limit.Max)
	o.alive.Store(1)
	stack, err := unix.Mmap(-1, 0, stackBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	arguments := &cloneArguments{
		flags:      unix.CLONE_VM | unix.CLONE_CHILD_CLEARTID | unix.CLONE_CLEAR_SIGHAND,
		childTid:   uint64(uintptr(unsafe.Pointer(&o.alive))),
		exitSignal: uint64(unix.SIGCHLD),
		stack:      uint64(uintptr(unsafe.Pointer(&stack[0]))),
		stackBytes: stackBytes,
	}
	if cgroup >= 0 {
		arguments.flags |= unix.CLONE_INTO_CGROUP
		arguments.cgroup = uint64(cgroup)
	}
	result := clone(arguments, unsafe.Sizeof(*arguments), o)
	if errno := syscall.Errno(-result); errno < lastErrno {
		_ = unix.Munmap(stack)
		return nil, os.NewSyscallError("clone3", errno)
	}
	p := &Process{Pid: int(result), order: o}
	p.stack.Store(&stack)
	return p, nil
}

// lastErrno is above every errno (MAX_ERRNO in linux/err.h).
const lastErrno = 4096

// Become returns when the process is the program, or has ended on the way: whoever collects it knows. It is called once. The error is
// an errno as of a fork and exec, ErrGone or ErrStuck.
func (p *Process) Become(program *Program) error {
	o := p.order
	if o.set(program) != nil {
		o.path = nil
	}
	if o.alive.Load() == 0 {
		return ErrGone
	}
	o.stage.Store(told)
	futex(&o.stage, futexWake, 1, nil)
	patience := unix.NsecToTimespec(int64(stuckAfter))
	for o.alive.Load() != 0 && o.stage.Load() == told {
		if futex(&o.alive, futexWait, 1, &patience) == unix.ETIMEDOUT && o.stage.CompareAndSwap(told, calledOff) {
			return ErrStuck
		}
	}
	went := o.stage.Load() == goesOn
	for o.alive.Load() != 0 {
		futex(&o.alive, futexWait, 1, nil)
	}
	p.Left()
	switch {
	case !went:
		return ErrGone
	case o.errno != 0:
		return o.errno
	}
	return nil
}

// Left is called when the process is known to have ended, and gives back what it ran on.
func (p *Process) Left() {
	if stack := p.stack.Swap(nil); stack != nil {
		_ = unix.Munmap(*stack)
	}
}

func (o *order) set(program *Program) error {
	var err error
	if o.path, err = syscall.BytePtrFromString(program.Path); err != nil {
		return err
	}
	if o.dir, err = syscall.BytePtrFromString(program.Dir); err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(program.Argv)
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(program.Env)
	if err != nil {
		return err
	}
	o.argv, o.env = &argv[0], &env[0]
	o.uid, o.gid = uintptr(program.UID), uintptr(program.GID)
	o.groupCount = uintptr(len(program.Groups))
	if len(program.Groups) > 0 {
		o.groups = &program.Groups[0]
	}
	// What root has already needs no asking.
	o.changesAccount = program.UID != 0 || program.GID != 0 || len(program.Groups) > 0
	return nil
}

// Operations of futex(2). Not the private ones: the kernel wakes who waits for the end of a process as one that may share any memory.
const (
	futexWait = 0
	futexWake = 1
)

func futex(word *atomic.Uint32, operation, value uintptr, patience *unix.Timespec) syscall.Errno {
	_, _, errno := syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), operation, value, uintptr(unsafe.Pointer(patience)), 0, 0)
	runtime.KeepAlive(word)
	return errno
}
