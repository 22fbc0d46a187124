package signals

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Signals which the Go runtime takes for a fault of its own unless kill(2) sent them. With sigqueue(3) anybody inside
// the sandbox could end PID 1.
var faultSignals = []syscall.Signal{
	unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS,
}

// Signals that the kernel never raises for a fault of the process. Go takes the first for one all the same and has no
// handler for the others, from whose default action Linux protects PID 1 and gVisor does not. Whoever makes PID 1 the
// owner of a descriptor (F_SETOWN, F_SETSIG) can have them sent with a code that looks like the kernel's.
var neverFaults = []syscall.Signal{unix.SIGSTKFLT, 32, 34}

// kernelSigaction is struct sigaction of the kernel on amd64 and arm64.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// runtimeHandler is the Go runtime's handler, the same for all signals; read by faultTrampoline.
var runtimeHandler uintptr

// faultTrampolineAddress is the address of a C signal handler that returns at once when si_code says that a process
// sent the signal (<= 0) and otherwise jumps to runtimeHandler.
func faultTrampolineAddress() uintptr

// returnTrampolineAddress is the address of a C signal handler that only returns. Unlike SIG_IGN it does not outlive an
// exec, so commands begin with the default.
func returnTrampolineAddress() uintptr

func surviveForgedFaults() {
	for _, number := range faultSignals {
		var action kernelSigaction
		if rtSigaction(number, nil, &action) != 0 || action.handler <= 1 {
			continue
		}
		if runtimeHandler == 0 {
			runtimeHandler = action.handler
		}
		if action.handler != runtimeHandler {
			continue
		}
		action.handler = faultTrampolineAddress()
		rtSigaction(number, &action, nil)
		action.handler = returnTrampolineAddress()
		for _, other := range neverFaults {
			rtSigaction(other, &action, nil)
		}
	}
}

func rtSigaction(number syscall.Signal, set, old *kernelSigaction) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(number),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(set.mask), 0, 0)
	return errno
}
