package signals

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Signals which the Go runtime takes for a fault of its own unless kill(2) sent them. With sigqueue(3) anybody inside
// the sandbox could end PID 1.
var faultSignals = []syscall.Signal{
	unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSTKFLT, unix.SIGSYS,
}

// Signals for which the Go runtime has no handler. Linux protects PID 1 from their default action, gVisor does not.
var unhandledSignals = []syscall.Signal{32, 34}

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
		for _, other := range unhandledSignals {
			rtSigaction(other, &action, nil)
		}
	}
}

func rtSigaction(number syscall.Signal, set, old *kernelSigaction) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(number),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(set.mask), 0, 0)
	return errno
}
