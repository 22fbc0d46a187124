package exec

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/prefork"
)

// spares keeps what the next command that has no stdin begins with, made while nobody waits for it. Its zero value keeps nothing: on
// a kernel that sandboxes share, pipes and processes that nobody uses take room of those that others do.
type spares struct {
	// keeps says that pipes are kept, forks that a process is, too.
	keeps, forks bool

	mu   sync.Mutex
	next *beginning
	// making says that somebody makes the next one, whose process is pid once it is there.
	making, closed bool
	pid            int
}

// beginning is what there is of a command.
type beginning struct {
	pipes *pipes
	// process is nil where none is kept, or none could be made.
	process *waiting
}

// waiting is a process that waits to be a command. Nobody asks for its status before it is one.
type waiting struct {
	*prefork.Process

	mu sync.Mutex
	// status is set once the process was collected, heir once it is a command.
	status *syscall.WaitStatus
	heir   func(syscall.WaitStatus)
}

// take gives what is ready, or makes pipes.
func (s *spares) take(withStdin bool, null int) (*beginning, error) {
	if !withStdin {
		s.mu.Lock()
		ready := s.next
		s.next = nil
		s.mu.Unlock()
		if ready != nil {
			return ready, nil
		}
	}
	p, err := makePipes(withStdin, null)
	return &beginning{pipes: p}, err
}

// wants reports whether the next one is to be made, by who asked; put or fail follows.
func (s *spares) wants() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keeps || s.next != nil || s.making || s.closed {
		return false
	}
	s.making, s.pid = true, 0
	return true
}

func (s *spares) forked(pid int) {
	s.mu.Lock()
	s.pid = pid
	s.mu.Unlock()
}

func (s *spares) fail() {
	s.mu.Lock()
	s.making = false
	s.mu.Unlock()
}

// put keeps what was made, unless it is too late for it.
func (s *spares) put(made *beginning) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making = false
	if s.closed {
		return false
	}
	s.next = made
	return true
}

// waitingPid is the process that is no command yet; 0 when there is none.
func (s *spares) waitingPid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.making {
		return s.pid
	}
	if s.next == nil || s.next.process == nil || s.next.process.hasEnded() {
		return 0
	}
	return s.next.process.Pid
}

// close keeps nothing any more, and returns what there was.
func (s *spares) close() *beginning {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.next
	s.next, s.closed = nil, true
	return last
}

// prepareSpare makes the next one unless it is there. Where that fails the next command tries again, and says why.
func (r *Registry) prepareSpare() {
	if !r.spares.wants() {
		return
	}
	p, err := makePipes(false, r.null)
	if err != nil {
		r.spares.fail()
		return
	}
	made := &beginning{pipes: p}
	if r.spares.forks {
		made.process = r.forkAhead(p)
	}
	if !r.spares.put(made) {
		r.giveUp(made)
	}
}

// forkAhead returns nil where no process can be made: a command that needs one tries again. What root inside has frozen stays so, and
// gets none: it would stand still before it has let go of what is open here.
func (r *Registry) forkAhead(p *pipes) *waiting {
	w := &waiting{}
	r.freezer.forking.Lock()
	defer r.freezer.forking.Unlock()
	if r.freezer.isFrozen() {
		return nil
	}
	_, err := r.reaper.Spawn(func() (pid int, err error) {
		w.Process, err = prefork.Start(r.forker.directoryFd, p.theirs)
		if err != nil {
			return 0, err
		}
		r.spares.forked(w.Pid)
		return w.Pid, nil
	}, w.collected)
	if err != nil {
		return nil
	}
	return w
}

// giveUp ends what nobody takes.
func (r *Registry) giveUp(s *beginning) {
	if s.process != nil {
		r.end(s.process)
	}
	s.pipes.closeTheirs(r.null)
	s.pipes.closeOurs()
}

// end does not wait: whoever watches the process can hold it on its way out, and with it the other ends of its pipes.
func (r *Registry) end(w *waiting) {
	if !w.hasEnded() {
		// One that was collected just now has ended.
		_ = r.reaper.Signal(w.Pid, unix.SIGKILL)
	}
}

func (w *waiting) hasEnded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status != nil
}

func (w *waiting) collected(status syscall.WaitStatus) {
	w.mu.Lock()
	w.status = &status
	heir := w.heir
	w.mu.Unlock()
	w.Left()
	if heir != nil {
		heir(status)
	}
}

// inherit has the status of the process, from now on a command, given to heir.
func (w *waiting) inherit(heir func(syscall.WaitStatus)) {
	w.mu.Lock()
	status := w.status
	w.heir = heir
	w.mu.Unlock()
	if status != nil {
		heir(*status)
	}
}
