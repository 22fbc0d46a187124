package exec

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/message"
)

// family starts every kind of descendant that a tree must not forget; each writes its pid into the folder. The stopped one
// has a session of its own, as gVisor hangs up on a whole process group that has a stopped member when another one ends.
const family = `
cd %s
say() { sh -c 'echo $PPID' >"$1"; }
(say child; sleep 1000) &
setsid sh -c 'echo $$ >session; sleep 1000' &
(setsid sh -c '(echo $PPID >/dev/null; exec sh -c "echo \$\$ >double-fork; sleep 1000") & exit 0') &
(trap "" TERM INT HUP; say stubborn; sleep 1000) &
env -i /bin/sh -c 'echo $$ >no-environment; sleep 1000' &
sh -c 'sh -c "sh -c \"echo \\\$\\\$ >deep; sleep 1000\" & wait" & wait' &
setsid sh -c 'echo $$ >stopped; kill -STOP $$; sleep 1000' &
echo started
`

var members = []string{"child", "session", "double-fork", "stubborn", "no-environment", "deep", "stopped"}

// startFamily returns once everybody is there.
func startFamily(t *testing.T, registry *Registry, then string, change func(*message.StartCommand)) (*Command, map[string]int) {
	t.Helper()
	folder := t.TempDir()
	openToAll(t, folder)
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	request := script(fmt.Sprintf(family, folder) + then)
	if change != nil {
		change(request)
	}
	command := start(t, registry, "family", request)
	pids := map[string]int{"main": command.Pid()}
	for _, name := range members {
		pids[name] = pidIn(t, folder+"/"+name)
		if !alive(pids[name]) {
			t.Fatalf("%s is not alive before", name)
		}
	}
	return command, pids
}

func wantDead(t *testing.T, pids map[string]int) {
	t.Helper()
	for name, pid := range pids {
		if alive(pid) {
			t.Errorf("%s lives", name)
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func TestATimeoutEndsTheWholeTreeAndKeepsWhatWasPrinted(t *testing.T) {
	command, pids := startFamily(t, newTestRegistry(t), "sleep 1000", func(r *message.StartCommand) {
		r.TimeoutMs = pointer[int64](6000)
	})
	got := attach(t, command, 0)
	wantSignal(t, got, "KILL")
	if !got.exit.TimedOut || got.stdout != "started\n" || got.exit.DurationMs < 6000 || got.exit.DurationMs > 20_000 {
		t.Errorf("got %s %q", describe(got.exit), got.stdout)
	}
	for name, pid := range pids {
		eventually(t, name+" is killed", func() bool { return !alive(pid) })
	}
}

func TestKillEndsTheWholeTree(t *testing.T) {
	registry := newTestRegistry(t)
	bystander := start(t, registry, "bystander", argv("sleep", "1000"))
	command, pids := startFamily(t, registry, "sleep 1000", nil)
	if err := command.Kill(); err != nil {
		t.Fatal(err)
	}
	wantDead(t, pids)
	wantSignal(t, attach(t, command, 0), "KILL")
	if !alive(bystander.Pid()) {
		t.Error("another command was killed")
	}
}

func TestWhatACommandLeftBehindIsStillKilled(t *testing.T) {
	command, pids := startFamily(t, newTestRegistry(t), "exit 5", nil)
	wantCode(t, attach(t, command, 0), 5)
	delete(pids, "main")
	// Those cannot be told from anybody else's once their parent is gone.
	defer unix.Kill(pids["no-environment"], unix.SIGKILL)
	delete(pids, "no-environment")
	if err := command.Signal(unix.SIGKILL, -1); err != nil {
		t.Fatal(err)
	}
	wantDead(t, pids)
}

func TestProcessesOfOtherUsersBelongToTheTree(t *testing.T) {
	command, pids := startFamily(t, newTestRegistry(t), "sleep 1000", func(r *message.StartCommand) { r.User = pointer("12345") })
	if err := command.Kill(); err != nil {
		t.Fatal(err)
	}
	wantDead(t, pids)
}

func TestASignalReachesTheWholeTreeAndGraceKillsTheRest(t *testing.T) {
	trapped := t.TempDir() + "/trapped"
	then := "trap 'echo got it; exit 9' TERM; echo $$ >" + trapped + "; while :; do sleep 0.01; done"
	command, pids := startFamily(t, newTestRegistry(t), then, nil)
	pidIn(t, trapped)
	if err := command.Signal(unix.SIGTERM, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	got := attach(t, command, 0)
	wantCode(t, got, 9)
	if !strings.HasSuffix(got.stdout, "got it\n") {
		t.Errorf("got %q", got.stdout)
	}
	for _, name := range []string{"child", "session", "double-fork", "deep"} {
		eventually(t, name+" ended by the signal", func() bool { return !alive(pids[name]) })
	}
	eventually(t, "the stubborn one is killed", func() bool { return !alive(pids["stubborn"]) && !alive(pids["stopped"]) })
}

func TestASignalWithoutGraceKillsNobody(t *testing.T) {
	folder := t.TempDir()
	command := start(t, newTestRegistry(t), "cmd", script("trap 'echo usr1; echo >>"+folder+"/seen' USR1; echo $$ >"+folder+"/pid; while :; do sleep 0.01; done"))
	pidIn(t, folder+"/pid")
	for n := range 3 {
		if err := command.Signal(unix.SIGUSR1, -1); err != nil {
			t.Fatal(err)
		}
		// Two that wait for a process are one.
		eventually(t, "the signal is seen", func() bool {
			seen, err := os.ReadFile(folder + "/seen")
			return err == nil && len(seen) == n+1
		})
	}
	if !alive(command.Pid()) {
		// sleep dies of USR1, the shell does not.
		t.Fatal("the command ended")
	}
	if err := command.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := attach(t, command, 0); strings.Count(got.stdout, "usr1\n") != 3 {
		t.Errorf("got %q", got.stdout)
	}
}

func TestSignalsToACommandThatEndedOrNeverRanAreNoErrors(t *testing.T) {
	registry := newTestRegistry(t)
	for id, request := range map[string]*message.StartCommand{"ended": argv("true"), "never": argv("/no/such")} {
		command := start(t, registry, id, request)
		attach(t, command, 0)
		if err := command.Signal(unix.SIGTERM, 0); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if err := command.Signal(unix.SIGKILL, -1); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestAForkBombIsEnded(t *testing.T) {
	// Bounded, should the kill fail: 200 processes at most.
	registry := newTestRegistry(t)
	command := start(t, registry, "bomb", script(`
n=0; while [ $n -lt 200 ]; do n=$((n+1)); setsid sh -c 'while :; do sleep 0.05; done' & done; wait`))
	time.Sleep(150 * time.Millisecond)
	if err := command.Kill(); err != nil {
		t.Fatal(err)
	}
	left, err := command.tree().members()
	if err != nil || len(left) > 0 {
		t.Errorf("%d live, %v", len(left), err)
	}
}

func TestATimeoutCountsFromTheStartAndStopsWithTheEnd(t *testing.T) {
	request := script("echo quick")
	request.TimeoutMs = pointer[int64](60_000)
	got := run(t, request)
	wantCode(t, got, 0)
	if got.exit.TimedOut {
		t.Error("a command that ended in time timed out")
	}
}

func TestACommandThatPrintsAtItsTimeoutIsStillEnded(t *testing.T) {
	request := script("while :; do echo x; done")
	request.TimeoutMs = pointer[int64](300)
	command := start(t, newTestRegistry(t), "cmd", request)
	cx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := command.Stream(cx, 0, 0, io.Discard, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if exit := command.Exit(); exit == nil || !exit.TimedOut {
		t.Errorf("got %s", describe(exit))
	}
	// Nobody reads this one: the ring is full when its time comes.
	unread := start(t, newTestRegistry(t), "unread", request)
	select {
	case <-unread.ended:
	case <-time.After(patience):
		t.Error("a command that nobody reads outlives its timeout")
	}
}

func TestPID1SurvivesWhatItsCommandsSendInGvisor(t *testing.T) {
	if !gvisortest.Inside() || os.Getpid() != 1 {
		return // On Linux this would be the host's.
	}
	got := run(t, script("kill -KILL 1; echo $?; kill -STOP 1; echo $?; kill -KILL -1 2>/dev/null; echo end"))
	if got.stdout != "0\n0\nend\n" {
		t.Errorf("got %q, %s", got.stdout, describe(got.exit))
	}
	wantCode(t, run(t, argv("true")), 0)
}
