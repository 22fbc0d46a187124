package exec

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/message"
)

// commandGroups counts those of this process.
var commandGroups atomic.Int32

// commandGroup is a control group as machines have one for user commands.
func commandGroup(t *testing.T) message.Cgroup {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("cgroup", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	group := filepath.Join(root, fmt.Sprintf("pyro-agent-test-%d-%d", os.Getpid(), commandGroups.Add(1)))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(group, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fd)
		eventually(t, "the control group is empty", func() bool { return os.Remove(group) == nil })
	})
	return message.Cgroup{Mode: "v2", DirectoryFd: &fd}
}

func TestKillsAndStartsAtOnceAllComeToAnEnd(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is frozen there: it has no such groups.
		return
	}
	registry := newRegistryIn(t, commandGroup(t))
	if registry.freezer.fd < 0 {
		t.Fatal("the group cannot be frozen")
	}
	const lanes, rounds = 4, 15
	var done sync.WaitGroup
	for lane := range lanes {
		done.Add(1)
		go func() {
			defer done.Done()
			for round := range rounds {
				command, err := registry.Start(own(t, fmt.Sprintf("lane-%d-%d", lane, round)), script("sleep 1000 & sleep 1000"))
				if err == nil {
					err = command.Kill()
				}
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	ended := make(chan struct{})
	go func() { done.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("they wait for each other")
	}
}

func TestACommandStartsAndEndsInAGroupThatRootInsideHasFrozen(t *testing.T) {
	if gvisortest.Inside() {
		return
	}
	registry := newRegistryIn(t, commandGroup(t))
	other := start(t, registry, "other", script("sleep 1000"))
	registry.freezer.set("1")
	// A start that stands still takes this program along when its memory is collected: no deadline of the test itself would end it.
	late := time.AfterFunc(patience, func() { panic("the start stands still") })
	if err := start(t, registry, "late", script("sleep 1000")).Kill(); err != nil {
		t.Error(err)
	}
	if err := other.Kill(); err != nil {
		t.Error(err)
	}
	late.Stop()
}

func TestAKillLetsAForkGoOnThatRootInsideHasFrozen(t *testing.T) {
	if gvisortest.Inside() {
		return
	}
	cgroup := commandGroup(t)
	registry := newRegistryIn(t, cgroup)
	victim := start(t, registry, "victim", script("sleep 1000"))
	frozen := func() bool {
		text := make([]byte, 1)
		fd, err := unix.Openat(*cgroup.DirectoryFd, "cgroup.freeze", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return false
		}
		defer unix.Close(fd)
		_, err = unix.Read(fd, text)
		return err == nil && string(text) == "1"
	}
	// As a fork whose child stands still.
	registry.freezer.forking.Lock()
	registry.freezer.set("1")
	go func() {
		for frozen() {
			time.Sleep(time.Millisecond)
		}
		registry.freezer.forking.Unlock()
	}()
	killed := make(chan error, 1)
	go func() { killed <- victim.Kill() }()
	select {
	case err := <-killed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		registry.freezer.set("0")
		t.Fatal("the kill waits for the fork")
	}
}

func TestWhatIsNotOfTheTreeGoesOnAfterAKill(t *testing.T) {
	if gvisortest.Inside() {
		return
	}
	registry := newRegistryIn(t, commandGroup(t))
	folder := t.TempDir()
	other := start(t, registry, "other", script("while :; do date +%s%N >"+folder+"/now; sleep 0.01; done"))
	victim := start(t, registry, "victim", script("sleep 1000"))
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(folder + "/now")
	eventually(t, "the other command goes on", func() bool {
		now, err := os.ReadFile(folder + "/now")
		return err == nil && len(now) > 0 && string(now) != string(before)
	})
	if err := other.Kill(); err != nil {
		t.Fatal(err)
	}
}
