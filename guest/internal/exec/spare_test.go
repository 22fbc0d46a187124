package exec

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/proc"
)

// aheadVariable makes every registry of these tests fork ahead, as on a kernel of the sandbox's own.
const aheadVariable = "PYRO_TEST_FORK_AHEAD"

func TestEverythingHoldsWithProcessesForkedAhead(t *testing.T) {
	if gvisortest.Inside() || os.Getenv(aheadVariable) != "" {
		return
	}
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	request := argv(test, "-test.run", "^Test", "-test.skip", "InGvisor$", "-test.timeout", "90s")
	request.Env = append(request.Env, aheadVariable+"=1", "TMPDIR="+t.TempDir())
	request.TimeoutMs = pointer[int64](100_000)
	command := start(t, newTestRegistry(t), "ahead", request)
	var stream bytes.Buffer
	if err := command.Stream(context.Background(), 0, 0, &stream, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := parse(t, stream.Bytes()); got.exit.ExitCode == nil || *got.exit.ExitCode != 0 {
		t.Fatalf("%s\n%s%s", describe(got.exit), got.stdout, got.stderr)
	}
}

// newAheadRegistry has a process that waits.
func newAheadRegistry(t *testing.T) *Registry {
	t.Helper()
	registry := newRegistryIn(t, commandGroup(t))
	registry.spares.keeps, registry.spares.forks = true, true
	registry.prepareSpare()
	if registry.WaitingPid() == 0 {
		t.Fatal("no process waits")
	}
	return registry
}

// hasSpare reports whether the next command can begin, where anything is kept for it.
func (r *Registry) hasSpare() bool {
	r.spares.mu.Lock()
	defer r.spares.mu.Unlock()
	return !r.spares.keeps || r.spares.next != nil
}

func TestACommandIsTheProcessThatWaited(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is forked ahead there.
		return
	}
	registry := newAheadRegistry(t)
	for _, id := range []string{"first", "second", "third"} {
		waited := registry.WaitingPid()
		command := start(t, registry, id, script("echo $$"))
		wantCode(t, attach(t, command, 0), 0)
		if command.Pid() != waited {
			t.Errorf("%s: process %d waited, the command is %d", id, waited, command.Pid())
		}
		eventually(t, "the next one waits", func() bool { return registry.WaitingPid() != 0 })
	}
}

func TestAStartThatFailsIsExplainedTheSameWay(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is forked ahead there.
		return
	}
	for name, request := range map[string]*message.StartCommand{
		"folder":      {Argv: []string{"/tmp"}, Cwd: "/"},
		"interpreter": {Argv: []string{executable(t, "#!/no/such\n")}, Cwd: "/"},
		"text":        {Argv: []string{executable(t, "no program")}, Cwd: "/"},
	} {
		forked := attach(t, start(t, newTestRegistry(t), name, request), 0).exit.StartError
		ahead := attach(t, start(t, newAheadRegistry(t), name+"-ahead", request), 0).exit.StartError
		if forked == nil || ahead == nil || *forked != *ahead {
			t.Errorf("%s: forked %v, ahead %v", name, forked, ahead)
		}
	}
}

func executable(t *testing.T, text string) string {
	t.Helper()
	path := t.TempDir() + "/program"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhoeverEndsOrStopsTheProcessThatWaitsStopsNoCommand(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is forked ahead there.
		return
	}
	for _, number := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGSTOP} {
		registry := newAheadRegistry(t)
		waited := registry.WaitingPid()
		if err := unix.Kill(waited, number); err != nil {
			t.Fatal(err)
		}
		command := start(t, registry, "after-"+number.String(), script("echo here"))
		got := attach(t, command, 0)
		wantCode(t, got, 0)
		if got.stdout != "here\n" || command.Pid() == waited {
			t.Errorf("%v: %q by process %d", number, got.stdout, command.Pid())
		}
		eventually(t, "the process that waited is gone", func() bool {
			_, err := proc.ReadStat(waited)
			return err != nil
		})
	}
}

func TestOneAtATimeMakesWhatTheNextCommandBeginsWith(t *testing.T) {
	made := spares{keeps: true}
	if !made.wants() || made.wants() {
		t.Error("two make it, or none")
	}
	made.fail()
	if !made.wants() {
		t.Error("nobody tries again")
	}
	if !made.put(&beginning{}) || made.wants() {
		t.Error("it is made although it is there")
	}
	last := made.close()
	if last == nil || made.wants() || made.put(&beginning{}) {
		t.Error("it is kept after the end")
	}
}

func TestNothingWaitsWhenTheRegistryIsClosed(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is forked ahead there.
		return
	}
	registry := newAheadRegistry(t)
	waited := registry.WaitingPid()
	registry.Close()
	eventually(t, "the process that waited is gone", func() bool {
		_, err := proc.ReadStat(waited)
		return err != nil
	})
	registry.prepareSpare()
	if pid := registry.WaitingPid(); pid != 0 {
		t.Errorf("process %d waits", pid)
	}
}

// oftenHit are limits that were hit before.
type oftenHit struct{}

func (oftenHit) Hits() LimitHits { return LimitHits{Memory: 7, Pids: 7} }
func (oftenHit) DiskFull() bool  { return false }

func TestLimitsThatOthersHitBeforeAreNotACommands(t *testing.T) {
	registry := newTestRegistry(t)
	registry.limits = oftenHit{}
	for n, path := range []string{"/no/such", "/bin/false"} {
		if exit := attach(t, start(t, registry, fmt.Sprint("limits-", n), argv(path)), 0).exit; exit.PidsLimited || exit.MemoryLimited {
			t.Errorf("%s: %s", path, describe(exit))
		}
	}
}
