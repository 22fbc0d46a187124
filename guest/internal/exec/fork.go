package exec

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/prefork"
	"pyro.dev/agent/internal/shield"
)

// forker starts processes. On cgroup v1 it does so from one thread that sits in the cgroup of user commands: a child begins where
// the forking thread is, so there is no moment in which a command runs outside. A shield belongs to the forking thread, too.
type forker struct {
	// jobs go to that thread; nil where any thread may fork.
	jobs chan forkJob
	// directoryFd is the cgroup for clone-into-cgroup, or -1.
	directoryFd int
	// raiseOom says that children must give up the agent's protection from the OOM killer.
	raiseOom bool
	// refusals counts forks that failed because the limit of processes was reached.
	refusals atomic.Int64
}

type forkJob struct {
	program string
	argv    []string
	attr    *syscall.ProcAttr
	done    chan<- forkResult
}

type forkResult struct {
	pid int
	err error
}

// startForker returns once the thread is where it belongs.
func startForker(cgroup message.Cgroup) (*forker, error) {
	f := &forker{directoryFd: -1, raiseOom: oomProtected()}
	if cgroup.Mode == "v2" && cgroup.DirectoryFd != nil {
		f.directoryFd = *cgroup.DirectoryFd
	}
	if len(cgroup.TasksFds) == 0 && !shield.Needed() {
		return f, nil
	}
	f.jobs = make(chan forkJob)
	ready := make(chan error)
	go f.loop(cgroup.TasksFds, ready)
	return f, <-ready
}

func (f *forker) loop(tasksFds []int, ready chan<- error) {
	// Never unlocked: the thread is not like the others. The Go runtime makes no threads from a locked one.
	runtime.LockOSThread()
	for _, fd := range tasksFds {
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			ready <- fmt.Errorf("cannot enter the cgroup of user commands through descriptor %d: %w", fd, err)
			return
		}
	}
	if shield.Needed() {
		if err := shield.Install(); err != nil {
			ready <- fmt.Errorf("cannot protect PID 1 from its own sandbox: %w", err)
			return
		}
	}
	ready <- nil
	for job := range f.jobs {
		pid, err := syscall.ForkExec(job.program, job.argv, job.attr)
		job.done <- forkResult{pid, err}
	}
}

// fork starts a process in the cgroup of user commands, in a session of its own. files are its descriptors 0, 1 and 2.
func (f *forker) fork(program *prefork.Program, files [3]int) (int, error) {
	attr := &syscall.ProcAttr{
		Dir:   program.Dir,
		Env:   program.Env,
		Files: []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: program.UID, Gid: program.GID, Groups: program.Groups},
		},
	}
	if f.directoryFd >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, f.directoryFd
	}
	result := f.forkExec(program.Path, program.Argv, attr)
	if errors.Is(result.err, unix.EAGAIN) {
		f.refusals.Add(1)
	}
	if result.err == nil {
		f.giveUpProtection(result.pid)
	}
	return result.pid, result.err
}

// giveUpProtection is for what the agent has forked: only the agent itself is kept from the OOM killer.
func (f *forker) giveUpProtection(pid int) {
	if f.raiseOom {
		// A child that ended already has nothing to raise.
		_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("0"), 0)
	}
}

func (f *forker) forkExec(program string, argv []string, attr *syscall.ProcAttr) forkResult {
	if f.jobs == nil {
		pid, err := syscall.ForkExec(program, argv, attr)
		return forkResult{pid, err}
	}
	done := make(chan forkResult, 1)
	f.jobs <- forkJob{program, argv, attr, done}
	return <-done
}

func oomProtected() bool {
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	return err == nil && strings.HasPrefix(string(text), "-")
}

// explainFork turns the errno of a fork or exec into what the user can do something about.
func explainFork(err error, name, cwd string, who account) *message.StartError {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return startError(message.StartLimitPids, "%s: the limit of processes is reached", name)
	case errors.Is(err, unix.ENOENT):
		return startError(message.StartCannotRun, "%s: its interpreter or dynamic loader does not exist", name)
	case errors.Is(err, unix.ENOEXEC):
		return startError(message.StartCannotRun, "%s: is neither a program for this machine nor a script with #!", name)
	// gVisor says the latter; the paths of program and folder were looked up before.
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENAMETOOLONG):
		return startError(message.StartCannotRun,
			"%s: arguments and environment are too long; a single one takes at most 128 KiB", name)
	case errors.Is(err, unix.EACCES) && !mayEnter(cwd, who):
		return startError(message.StartBadCwd, "user %s may not enter the working folder %s", who.name, cwd)
	case errors.Is(err, unix.EINVAL) && who.uid != 0:
		return startError(message.StartBadUser, "user %s: id %d does not exist in this sandbox", who.name, who.uid)
	}
	return startError(message.StartCannotRun, "%s: %s", name, reason(err))
}

// reason is the innermost text of an error from package os, without operation and path.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
