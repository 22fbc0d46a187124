package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	cloneNewUser  = unix.CLONE_NEWUSER
	cloneNewMount = unix.CLONE_NEWNS
	cloneNewNet   = unix.CLONE_NEWNET
	cloneNewPid   = unix.CLONE_NEWPID
)

// makeNamespace has a child unshare before it becomes a program, when it has one thread only.
func makeNamespace(flags uintptr) func(string) (string, error) {
	return func(string) (string, error) {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		attributes := &syscall.ProcAttr{
			Files: []uintptr{0, 1, 2},
			Sys:   &syscall.SysProcAttr{Unshareflags: flags},
		}
		pid, err := syscall.ForkExec(self, []string{self, "look"}, attributes)
		if err != nil {
			return "", fmt.Errorf("unshare: %w", err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
			return "", err
		}
		return "", nil
	}
}

// enterNamespace enters the namespace it is in, which takes the same rights as entering another.
func enterNamespace(string) (string, error) {
	runtime.LockOSThread()
	fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
		return "", fmt.Errorf("setns: %w", err)
	}
	return "entered", nil
}
