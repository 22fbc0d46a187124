package counter

import "golang.org/x/sys/unix"

const supported = true

// stamp reads the processor's time stamp counter (RDTSC), behind all loads before it.
func stamp() uint64

// monotonicNs is the clock that nothing corrects.
func monotonicNs() uint64 {
	var now unix.Timespec
	// Fails for unknown clocks alone.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &now)
	return uint64(now.Nano())
}
