package exec

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gvisortest"
)

func TestReadingAheadWaitsForNobody(t *testing.T) {
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// Each may stand where a library is wanted.
	for _, path := range []string{pipe, folder, "/no/such", "/dev/zero", "/proc/self/mem", executable(t, "text")} {
		readAhead(path)
	}
}

func TestWhatIsReadyBeforeTheFirstCommand(t *testing.T) {
	if gvisortest.Inside() {
		// Nothing is forked ahead there.
		return
	}
	registry := newRegistryIn(t, commandGroup(t))
	registry.GetReady()
	if pid := registry.WaitingPid(); pid != 0 {
		t.Errorf("process %d waits although the kernel is shared", pid)
	}
	registry.spares.keeps, registry.spares.forks = true, true
	registry.GetReady()
	waited := registry.WaitingPid()
	first := start(t, registry, "first", script("exit 0"))
	wantCode(t, attach(t, first, 0), 0)
	if waited == 0 || first.Pid() != waited {
		t.Errorf("process %d waited, the command is %d", waited, first.Pid())
	}
}
