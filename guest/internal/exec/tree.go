package exec

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/proc"
)

const (
	// markerName is the variable by which a process is known to belong to a command, whatever its session and parent.
	markerName = "PYRO_COMMAND_ID"
	// stopLimit bounds the walk that stops a tree before it is killed, killLimit the time it then has to disappear.
	stopLimit = 10 * time.Second
	killLimit = 10 * time.Second
	// killPause doubles from walk to walk up to longestPause.
	killPause    = time.Millisecond
	longestPause = 10 * time.Millisecond
	// A tree is gone when emptyWalks in a row found nobody. A process may give birth while it is walked past and die before
	// it is looked at, or be within execve, where it shows no environment: while a walk sees such things, up to unsureWalks.
	emptyWalks  = 2
	unsureWalks = 6
	// signalRounds is how often a tree is looked at again for processes made meanwhile when it is not stopped.
	signalRounds = 3
)

// walks bounds how many trees are walked at a time: each takes a thread.
var walks = make(chan struct{}, 2)

// tree finds the processes of one command.
type tree struct {
	main int
	// mainLives is false once the main process was collected: another process may have its pid then.
	mainLives func() bool
	marker    []byte
	environ   []byte
	// foreign are processes, by pid and start time, that were seen not to carry the marker.
	foreign map[int]string
	// unsure is true when the last walk met processes of which it could not tell.
	unsure bool
}

func newTree(id string, main int, mainLives func() bool) *tree {
	return &tree{
		main: main, mainLives: mainLives, marker: []byte("\x00" + markerName + "=" + id + "\x00"), foreign: map[int]string{},
	}
}

// members lists what lives of the tree: the main process, its session, descendants of any member with their sessions,
// and whatever carries the marker.
func (t *tree) members() ([]int, error) {
	pids, err := proc.Pids()
	if err != nil {
		return nil, err
	}
	self := unix.Getpid()
	all := make(map[int]proc.Stat, len(pids))
	t.unsure = false
	for _, pid := range pids {
		if pid == self {
			continue
		}
		if stat, err := proc.ReadStat(pid); err == nil {
			all[pid] = stat
		} else {
			t.unsure = true
		}
	}
	mainLives := t.mainLives()
	_, taken := all[t.main]
	sessionIsOurs := mainLives || !taken

	in := map[int]bool{}
	sessions := map[int]bool{}
	if sessionIsOurs {
		sessions[t.main] = true
	}
	for grew := true; grew; {
		grew = false
		for pid, stat := range all {
			if in[pid] || !(in[stat.Parent] || sessions[stat.Session] || (pid == t.main && mainLives)) {
				continue
			}
			in[pid], grew = true, true
			// A leader's whole session is ours; the session of a member that only joined one may be another command's.
			if stat.Session == pid {
				sessions[pid] = true
			}
		}
		if !grew {
			grew = t.addMarked(all, in)
		}
	}
	living := make([]int, 0, len(in))
	for pid := range in {
		if !all[pid].Dead() {
			living = append(living, pid)
		}
	}
	return living, nil
}

func (t *tree) addMarked(all map[int]proc.Stat, in map[int]bool) bool {
	grew := false
	for pid, stat := range all {
		if in[pid] || stat.Dead() || t.foreign[pid] == stat.StartTime {
			continue
		}
		var err error
		t.environ, err = environOf(pid, t.environ)
		switch {
		case err != nil || len(t.environ) == 0:
			t.unsure = true
		case bytes.HasPrefix(t.environ, t.marker[1:]) || bytes.Contains(t.environ, t.marker):
			in[pid], grew = true, true
		default:
			t.foreign[pid] = stat.StartTime
		}
	}
	return grew
}

// environOf reads the environment also of processes of other users, for which root without CAP_SYS_PTRACE must look like
// their owner.
func environOf(pid int, buffer []byte) ([]byte, error) {
	environ, err := proc.Environ(pid, buffer)
	if err != unix.EACCES && err != unix.EPERM {
		return environ, err
	}
	uid, gid, ownerErr := proc.Owner(pid)
	if ownerErr != nil || uid == 0 {
		return environ, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Setfsgid(gid) != nil || unix.Setfsuid(uid) != nil {
		return environ, err
	}
	environ, err = proc.Environ(pid, buffer)
	if restoreErr := errors.Join(unix.Setfsuid(unix.Geteuid()), unix.Setfsgid(unix.Getegid())); restoreErr != nil {
		// The thread must not serve anything else: without an unlock it ends with this goroutine.
		runtime.LockOSThread()
	}
	return environ, err
}

// signal sends a signal to every process of the tree, once each.
func (t *tree) signal(number syscall.Signal, send func(pid int, number syscall.Signal)) error {
	walks <- struct{}{}
	defer func() { <-walks }()
	seen := map[int]bool{}
	for range signalRounds {
		members, err := t.members()
		if err != nil {
			return err
		}
		grew := false
		for _, pid := range members {
			if !seen[pid] {
				seen[pid], grew = true, true
				send(pid, number)
			}
		}
		if !grew {
			return nil
		}
	}
	return nil
}

// kill stops the tree until a walk finds nothing new, so that nothing is born or given away meanwhile, and kills it.
// It reports whether all are gone.
func (t *tree) kill(send func(pid int, number syscall.Signal), freezer *freezer) (gone bool, err error) {
	walks <- struct{}{}
	defer func() { <-walks }()
	thaw := sync.OnceFunc(freezer.freeze())
	defer thaw()
	deadline := time.Now().Add(stopLimit)
	stopped := map[int]bool{}
	for time.Now().Before(deadline) {
		members, err := t.members()
		if err != nil {
			return false, err
		}
		grew := false
		for _, pid := range members {
			if !stopped[pid] {
				stopped[pid], grew = true, true
				send(pid, unix.SIGSTOP)
			}
		}
		if !grew {
			break
		}
	}
	// The main process first: gVisor hangs up on a process group that has a stopped member whenever one of it ends, and how
	// the command ended should not depend on that.
	if stopped[t.main] {
		send(t.main, unix.SIGKILL)
	}
	for pid := range stopped {
		send(pid, unix.SIGKILL)
	}
	// Others need not wait for its end.
	thaw()
	deadline = time.Now().Add(killLimit)
	empty, pause := 0, killPause
	for {
		members, err := t.members()
		if err != nil {
			return false, err
		}
		if len(members) > 0 {
			empty = 0
		} else if empty++; empty >= unsureWalks || empty >= emptyWalks && !t.unsure {
			return true, nil
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		for _, pid := range members {
			send(pid, unix.SIGKILL)
		}
		time.Sleep(pause)
		pause = min(2*pause, longestPause)
	}
}
