package exec

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// forkLimit is more than a fork takes whose child does not stand still.
const forkLimit = time.Second

// freezer lets user commands stand still while a tree of them is looked through: where processes are made faster than a
// walk passes by them, it would find no end. It needs a control group (v2) that is the agent's to freeze, and does nothing
// elsewhere. Signals that kill reach what is frozen.
type freezer struct {
	mu sync.Mutex
	// fd is cgroup.freeze of the group of user commands, or -1.
	fd int
	// holds counts those that want it frozen.
	holds int
	// forking is held by a fork, and as long as the group is frozen: the Go runtime stands still with a child that freezes
	// before it has become another program.
	forking sync.Mutex
}

func newFreezer(cgroup message.Cgroup) *freezer {
	f := &freezer{fd: -1}
	if cgroup.Mode != "v2" || cgroup.DirectoryFd == nil {
		return f
	}
	if fd, err := unix.Openat(*cgroup.DirectoryFd, "cgroup.freeze", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		f.fd = fd
	}
	return f
}

// freeze lasts until what it returns is called.
func (f *freezer) freeze() (thaw func()) {
	f.change(1)
	return func() { f.change(-1) }
}

func (f *freezer) change(by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.holds > 0
	f.holds += by
	switch is := f.holds > 0; {
	case f.fd < 0 || is == was:
	case is:
		f.lockForks()
		f.set("1")
	default:
		f.set("0")
		f.forking.Unlock()
	}
}

// lockForks waits for a fork under way and keeps others from beginning. Nobody here wants the group frozen yet; root inside may
// have frozen it, so that no fork would end: it is let go on.
func (f *freezer) lockForks() {
	if f.forking.TryLock() {
		return
	}
	locked, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-locked:
				return
			case <-time.After(forkLimit):
				f.set("0")
			}
		}
	}()
	f.forking.Lock()
	close(locked)
	<-over
}

// thaw lets go on what root inside has frozen. Each fork asks, and reading takes less than writing.
func (f *freezer) thaw() {
	if f.isFrozen() {
		f.set("0")
	}
}

func (f *freezer) isFrozen() bool {
	if f.fd < 0 {
		return false
	}
	var state [1]byte
	n, err := unix.Pread(f.fd, state[:], 0)
	return err == nil && n == 1 && state[0] == '1'
}

// set does nothing where root inside has taken the group away: a walk then does without.
func (f *freezer) set(state string) {
	if f.fd >= 0 {
		_, _ = unix.Pwrite(f.fd, []byte(state), 0)
	}
}
