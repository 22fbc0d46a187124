package boot

import (
	"errors"
	"log"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/exec"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/proc"
	"pyro.dev/agent/internal/reap"
)

const (
	// deathLimit is how long killed processes may take to disappear at shutdown, deathPause between two looks.
	deathLimit = 5 * time.Second
	deathPause = 5 * time.Millisecond
)

// A clock is brought right slowly, by 0.5 ms a second (adjtime(3)), when it is behind by less than stepLimit or ahead by less than
// stepBackLimit: what the engine says is wrong by 25 ms at most, and 100 ms are allowed.
const (
	stepLimit     = 50 * time.Millisecond
	stepBackLimit = 75 * time.Millisecond
)

type sandbox struct {
	bootID   string
	started  time.Time
	commands *exec.Registry
	// sync says that this kernel holds back writes of its own.
	sync bool
	// machine is nil where the kernel is shared.
	machine *Machine
	reaper  *reap.Reaper
	log     *log.Logger

	flushing sync.Mutex
	shutdown sync.Once
}

func (s *sandbox) Status() (message.AgentStatus, error) {
	pids, err := proc.UserPids()
	if err != nil {
		return message.AgentStatus{}, &os.PathError{Op: "list", Path: "/proc", Err: err}
	}
	ahead := 0
	if slices.Contains(pids, s.commands.WaitingPid()) {
		ahead = 1
	}
	return message.AgentStatus{
		BootID: s.bootID, UptimeMs: s.Uptime().Milliseconds(), Commands: s.commands.Running(),
		Processes: len(pids) - ahead,
	}, nil
}

func (s *sandbox) Flush() error {
	if !s.sync {
		return nil
	}
	s.flushing.Lock()
	defer s.flushing.Unlock()
	unix.Sync()
	return nil
}

// Uptime counts on whatever the time is set to.
func (s *sandbox) Uptime() time.Duration { return time.Since(s.started) }

func (s *sandbox) SetClock(now time.Time) (jumped bool, err error) {
	if s.machine == nil {
		return false, noMachine("clock")
	}
	off := time.Until(now)
	if off < stepLimit && off > -stepBackLimit {
		// Slowly: time that jumps back makes builds look at the wrong files.
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: off.Microseconds()})
		return false, os.NewSyscallError("adjtimex", err)
	}
	value := unix.NsecToTimeval(now.UnixNano())
	return true, os.NewSyscallError("settimeofday", unix.Settimeofday(&value))
}

// Shutdown ends everything.
func (s *sandbox) Shutdown(grace time.Duration) {
	s.shutdown.Do(func() {
		s.commands.Close()
		if os.Getpid() == 1 {
			endEverything(grace)
		} else {
			s.commands.SignalAll(grace)
		}
		if err := s.Flush(); err != nil {
			s.log.Printf("flush: %s", err)
		}
		if s.machine != nil {
			s.machine.End()
		}
		os.Exit(0)
	})
}

// endEverything is for PID 1 only: it signals all processes there are.
func endEverything(grace time.Duration) {
	if errors.Is(unix.Kill(-1, unix.SIGTERM), unix.ESRCH) {
		return
	}
	// A stopped process does not see TERM before it goes on.
	_ = unix.Kill(-1, unix.SIGCONT)
	if waitUntilAlone(grace) {
		return
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	waitUntilAlone(deathLimit)
}

func waitUntilAlone(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(deathPause) {
		if errors.Is(unix.Kill(-1, 0), unix.ESRCH) || onlyKernelLeft() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// onlyKernelLeft is for a machine of one's own, where signals to all go to threads of the kernel, too.
func onlyKernelLeft() bool {
	pids, err := proc.UserPids()
	return err == nil && len(pids) <= 1
}
