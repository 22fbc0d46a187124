package shield

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// evaluate runs a filter as the kernel would.
func evaluate(t *testing.T, program []unix.SockFilter, number, arch uint32, arguments ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.LittleEndian.PutUint32(data[offsetNumber:], number)
	binary.LittleEndian.PutUint32(data[offsetArchitecture:], arch)
	for at, argument := range arguments {
		binary.LittleEndian.PutUint64(data[offsetArguments+8*at:], argument)
	}
	accumulator := uint32(0)
	for at := 0; at < len(program); at++ {
		one := program[at]
		jump := func(yes bool) {
			if yes {
				at += int(one.Jt)
			} else {
				at += int(one.Jf)
			}
		}
		switch one.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			accumulator = binary.LittleEndian.Uint32(data[one.K:])
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(accumulator == one.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(accumulator > one.K)
		case unix.BPF_RET | unix.BPF_K:
			return one.K
		default:
			t.Fatalf("instruction %d has the code %#x", at, one.Code)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

func TestOnlyKillAndStopOfPID1AreAnsweredWithNothing(t *testing.T) {
	const last = 12
	filter := program(last)
	// Where the target and the signal stand among the arguments.
	for _, call := range []struct {
		number         uint32
		target, signal int
	}{
		{unix.SYS_KILL, 0, 1}, {unix.SYS_TKILL, 0, 1}, {unix.SYS_TGKILL, 1, 2}, {unix.SYS_RT_SIGQUEUEINFO, 0, 1}, {unix.SYS_RT_TGSIGQUEUEINFO, 1, 2},
	} {
		for _, target := range []int64{-1 << 31, -13, -2, -1, 0, 1, 2, last - 1, last, last + 1, 1000, 1<<31 - 1} {
			for signal := uint64(0); signal <= 64; signal++ {
				arguments := []uint64{7, 7, 7, 7, 7, 7}
				arguments[call.target], arguments[call.signal] = uint64(target), signal
				want := uint32(unix.SECCOMP_RET_ALLOW)
				if (signal == uint64(unix.SIGKILL) || signal == uint64(unix.SIGSTOP)) && target >= 1 && target <= last {
					want = unix.SECCOMP_RET_ERRNO
				}
				if got := evaluate(t, filter, call.number, architecture, arguments...); got != want {
					t.Errorf("call %d of signal %d to %d: got %#x, want %#x", call.number, signal, target, got, want)
				}
			}
		}
	}
}

func TestNoOwnerOfADescriptorIsSentWhatPID1DiesOf(t *testing.T) {
	filter := program(12)
	deadly := map[uint64]bool{4: true, 5: true, 7: true, 8: true, 9: true, 11: true, 19: true, 31: true}
	for command := range uint64(20) {
		for signal := uint64(0); signal <= 64; signal++ {
			want := uint32(unix.SECCOMP_RET_ALLOW)
			if command == 10 && deadly[signal] {
				want = unix.SECCOMP_RET_ERRNO
			}
			if got := evaluate(t, filter, unix.SYS_FCNTL, architecture, 3, command, signal); got != want {
				t.Errorf("fcntl %d with %d: got %#x, want %#x", command, signal, got, want)
			}
		}
	}
}

func TestLimitsAreSetOnlyByTheirOwner(t *testing.T) {
	filter := program(12)
	for _, pid := range []uint64{0, 1, 13, 1 << 31} {
		for _, newLimit := range []uint64{0, 1, 1 << 32, 0x7fff_0000_0000} {
			want := uint32(unix.SECCOMP_RET_ALLOW)
			if pid != 0 && newLimit != 0 {
				want = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
			}
			if got := evaluate(t, filter, unix.SYS_PRLIMIT64, architecture, pid, 0, newLimit, 0); got != want {
				t.Errorf("prlimit of %d with %#x: got %#x, want %#x", pid, newLimit, got, want)
			}
		}
	}
}

func TestEverythingElseIsAllowed(t *testing.T) {
	filter := program(12)
	guarded := map[uint32]bool{
		unix.SYS_KILL: true, unix.SYS_TKILL: true, unix.SYS_TGKILL: true, unix.SYS_RT_SIGQUEUEINFO: true, unix.SYS_RT_TGSIGQUEUEINFO: true,
		unix.SYS_FCNTL: true, unix.SYS_PRLIMIT64: true,
	}
	for number := range uint32(600) {
		if !guarded[number] && evaluate(t, filter, number, architecture, 1, 10, 9) != unix.SECCOMP_RET_ALLOW {
			t.Errorf("call %d is not allowed", number)
		}
	}
	for number := range guarded {
		if evaluate(t, filter, number, architecture+1, 1, 10, 9) != unix.SECCOMP_RET_ALLOW {
			t.Errorf("call %d of another machine is compared", number)
		}
	}
}
