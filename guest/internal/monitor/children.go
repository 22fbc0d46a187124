package monitor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/proc"
)

// children are the processes below the monitor: the runtime while it is called, and everything it leaves behind. All is
// done by the one goroutine of Main; statuses of processes nobody asked for yet are kept.
type children struct {
	signalled <-chan os.Signal
	statuses  map[int]syscall.WaitStatus
	// directoryFd is the cgroup (v2) the runtime is started in, or -1.
	directoryFd int
	// tasks are the cgroups (v1) the runtime is started in.
	tasks []int
}

func newChildren(signalled <-chan os.Signal) *children {
	return &children{signalled: signalled, statuses: map[int]syscall.WaitStatus{}, directoryFd: -1}
}

// enter opens the cgroups in which the runtime is to start.
func (c *children) enter(s *spec) error {
	for _, path := range s.EnterTasks {
		fd, err := open(path, unix.O_WRONLY)
		if err != nil {
			return err
		}
		c.tasks = append(c.tasks, fd)
	}
	if s.EnterDirectory != nil {
		fd, err := open(*s.EnterDirectory, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		c.directoryFd = fd
	}
	return nil
}

// run starts a program and waits for it; one that is late is killed.
func (c *children) run(argv []string, stdio [3]int, passed []int, timeout time.Duration) (syscall.WaitStatus, error) {
	program, err := lookUp(argv[0])
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{Env: os.Environ(), Sys: &syscall.SysProcAttr{}}
	for _, fd := range append(stdio[:], passed...) {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	if c.directoryFd >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, c.directoryFd
	}
	pid, err := c.fork(program, argv, attr)
	if err != nil {
		return 0, err
	}
	status, ended := c.waitUntil(pid, time.Now().Add(timeout))
	if ended {
		return status, nil
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return 0, err
	}
	c.waitUntil(pid, time.Now().Add(leftoversLimit))
	return 0, os.ErrDeadlineExceeded
}

// fork goes through a thread of its own, which ends afterwards, when the child has to begin in cgroups of version 1.
func (c *children) fork(program string, argv []string, attr *syscall.ProcAttr) (int, error) {
	if len(c.tasks) == 0 {
		// A runtime whose monitor was killed would go on making a sandbox that nobody waits for.
		attr.Sys.Pdeathsig = syscall.SIGKILL
		return syscall.ForkExec(program, argv, attr)
	}
	type result struct {
		pid int
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		for _, fd := range c.tasks {
			if _, err := unix.Write(fd, []byte("0")); err != nil {
				done <- result{0, fmt.Errorf("cannot enter the sandbox's cgroup: %w", err)}
				return
			}
		}
		pid, err := syscall.ForkExec(program, argv, attr)
		done <- result{pid, err}
	}()
	r := <-done
	return r.pid, r.err
}

// collect takes the statuses of all that ended. alone is true when there are no children at all.
func (c *children) collect() (alone bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if pid <= 0 {
			return errors.Is(err, unix.ECHILD)
		}
		c.statuses[pid] = status
	}
}

// has reports whether a process is a child or was one.
func (c *children) has(pid int) bool {
	c.collect()
	_, ended := c.statuses[pid]
	return ended
}

// wait returns the status of a child, however long it takes.
func (c *children) wait(pid int) syscall.WaitStatus {
	for {
		c.collect()
		if status, ended := c.statuses[pid]; ended {
			delete(c.statuses, pid)
			return status
		}
		clear(c.statuses)
		<-c.signalled
	}
}

func (c *children) waitUntil(pid int, deadline time.Time) (syscall.WaitStatus, bool) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		c.collect()
		if status, ended := c.statuses[pid]; ended {
			delete(c.statuses, pid)
			return status, true
		}
		select {
		case <-c.signalled:
		case <-timer.C:
			return 0, false
		}
	}
}

// awaitAll collects what else ends within the limit and reports whether all did.
func (c *children) awaitAll(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(leftoversPause) {
		if c.collect() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// killAll kills every child until there is none: as the sub-reaper the monitor inherits their children in turn.
func (c *children) killAll(limit time.Duration) bool {
	self := os.Getpid()
	for deadline := time.Now().Add(limit); ; time.Sleep(leftoversPause) {
		if c.collect() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		pids, err := proc.Pids()
		if err != nil {
			continue
		}
		for _, pid := range pids {
			if stat, err := proc.ReadStat(pid); err == nil && stat.Parent == self && !stat.Dead() {
				// Ours until collected, and only this goroutine collects.
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// lookUp finds a program in PATH.
func lookUp(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for entry := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		path := entry + "/" + name
		if entry == "" || unix.Access(path, unix.X_OK) != nil {
			continue
		}
		return path, nil
	}
	return "", fmt.Errorf("%s is not in PATH", name)
}
