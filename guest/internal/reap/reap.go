// Package reap collects every child of PID 1: orphans that were handed to it and the commands it started itself.
//
// There is exactly one place that waits. A start holds the same lock as the collection, so a child cannot be collected
// before somebody asked for its status, however fast it ends.
package reap

import (
	"os"
	"sync"
	"syscall"
)

// Reaper owns wait(2) of this process.
type Reaper struct {
	mu      sync.Mutex
	waiting map[int]func(syscall.WaitStatus)
}

// Start collects children whenever signalled says SIGCHLD.
func Start(signalled <-chan os.Signal) *Reaper {
	r := &Reaper{waiting: map[int]func(syscall.WaitStatus){}}
	go func() {
		for {
			r.Collect()
			<-signalled
		}
	}()
	return r
}

// Spawn runs start, which forks, and has ended called once with the status of the child. ended must not block.
func (r *Reaper) Spawn(start func() (pid int, err error), ended func(syscall.WaitStatus)) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := start()
	if err != nil {
		return 0, err
	}
	r.waiting[pid] = ended
	return pid, nil
}

// Collect collects the children that have ended, without waiting for the signal that says so.
func (r *Reaper) Collect() {
	for {
		r.mu.Lock()
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		ended := r.waiting[pid]
		if pid > 0 {
			delete(r.waiting, pid)
		}
		r.mu.Unlock()
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
		if ended != nil {
			ended(status)
		}
	}
}

// Signal sends a signal to a child unless it was collected already, whose pid may belong to another process by now.
func (r *Reaper) Signal(pid int, number syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[pid] == nil {
		return syscall.ESRCH
	}
	return syscall.Kill(pid, number)
}
