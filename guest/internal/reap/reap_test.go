package reap

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// reaper is the one of this process, which orphans are handed to as to PID 1.
var reaper = sync.OnceValue(func() *Reaper {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	return Start(child)
})

func fork(script string) func() (int, error) {
	return func() (int, error) {
		null := uintptr(must(unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)))
		defer unix.Close(int(null))
		return syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{Files: []uintptr{null, null, null}})
	}
}

func must(fd int, err error) int {
	if err != nil {
		panic(err)
	}
	return fd
}

func await[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
	}
	panic("unreachable")
}

func TestEveryChildIsCollectedOnceHoweverFastItEnds(t *testing.T) {
	const children = 100
	type ended struct {
		n      int
		status syscall.WaitStatus
	}
	all := make(chan ended, 2*children)
	for n := range children {
		if _, err := reaper().Spawn(fork("exit "+strconv.Itoa(n)), func(status syscall.WaitStatus) { all <- ended{n, status} }); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[int]bool{}
	for range children {
		e := await(t, all, "all children end")
		if seen[e.n] || e.status.ExitStatus() != e.n {
			t.Errorf("child %d ends with %d, seen before: %t", e.n, e.status.ExitStatus(), seen[e.n])
		}
		seen[e.n] = true
	}
	time.Sleep(20 * time.Millisecond)
	if len(all) > 0 {
		t.Errorf("%d children ended twice", len(all))
	}
}

func TestOrphansAreCollectedToo(t *testing.T) {
	file := t.TempDir() + "/pid"
	done := make(chan syscall.WaitStatus, 1)
	if _, err := reaper().Spawn(fork("(sleep 0.1; exit 3) & echo $! >"+file), func(status syscall.WaitStatus) { done <- status }); err != nil {
		t.Fatal(err)
	}
	await(t, done, "the parent ends")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	orphan := strings.TrimSpace(string(text))
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + orphan); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the orphan stays as a zombie")
		}
	}
}

func TestASignalReachesAChildOnlyUntilItIsCollected(t *testing.T) {
	done := make(chan syscall.WaitStatus, 1)
	pid, err := reaper().Spawn(fork("exec sleep 1000"), func(status syscall.WaitStatus) { done <- status })
	if err != nil {
		t.Fatal(err)
	}
	if err := reaper().Signal(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := await(t, done, "the child ends"); status.Signal() != syscall.SIGTERM {
		t.Errorf("it ends with %v", status)
	}
	if err := reaper().Signal(pid, syscall.SIGTERM); err != syscall.ESRCH {
		t.Errorf("a signal after the end: %v", err)
	}
	// Never a process that is not ours, whatever its number.
	if err := reaper().Signal(os.Getppid(), 0); err != syscall.ESRCH {
		t.Errorf("a signal to the parent: %v", err)
	}
}

func TestAForkThatFailsIsNotWaitedFor(t *testing.T) {
	pid, err := reaper().Spawn(
		func() (int, error) { return 0, fmt.Errorf("no") }, func(syscall.WaitStatus) { t.Error("something ended") },
	)
	if pid != 0 || err == nil {
		t.Errorf("got %d %v", pid, err)
	}
}
