package exec

import (
	"sync"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// freezer lets user commands stand still while a tree of them is looked through: where processes are made faster than a
// walk passes by them, it would find no end. It needs a control group (v2) that is the agent's to freeze, and does nothing
// elsewhere. Signals that kill reach what is frozen.
type freezer struct {
	mu sync.Mutex
	// fd is cgroup.freeze of the group of user commands, or -1.
	fd int
	// holds counts those that want it frozen.
	holds int
}

func newFreezer(cgroup message.Cgroup) *freezer {
	f := &freezer{fd: -1}
	if cgroup.Mode != "v2" || cgroup.DirectoryFd == nil {
		return f
	}
	if fd, err := unix.Openat(*cgroup.DirectoryFd, "cgroup.freeze", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
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
	if is := f.holds > 0; f.fd >= 0 && is != was {
		state := "0"
		if is {
			state = "1"
		}
		// Root inside may have taken the group away: a walk then does without.
		_, _ = unix.Pwrite(f.fd, []byte(state), 0)
	}
}
