// Package gvisortest runs a package's tests once more inside gVisor, whose kernel is another one: what is safe on Linux
// need not be there.
package gvisortest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pyro.dev/agent/internal/shield"
)

// limit of one run inside.
const limit = 60 * time.Second

// Inside reports whether the test runs in gVisor.
func Inside() bool { return shield.Needed() }

// Run runs the tests of this binary that match pattern inside gVisor, on the filesystem of the host.
func Run(t *testing.T, pattern string) {
	t.Helper()
	argv := Arguments(t, pattern)
	if argv == nil {
		return
	}
	cx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	command := exec.CommandContext(cx, argv[0], argv[1:]...)
	command.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("inside gVisor: %v\n%s", err, output)
	}
	Passed(t, string(output))
}

// Arguments are the command that does what Run does, for tests that may not wait for processes themselves; nil inside
// gVisor.
func Arguments(t *testing.T, pattern string) []string {
	t.Helper()
	if Inside() {
		return nil
	}
	runsc, err := exec.LookPath("runsc")
	if err != nil {
		if strings.Contains(os.Getenv("REQUIRE_DRIVERS"), "runsc") {
			t.Fatal("REQUIRE_DRIVERS names runsc, which is not installed")
		}
		t.Skip("runsc is not installed: nothing is known of gVisor")
	}
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		runsc, "--root", t.TempDir(), "--network=none", "--host-uds=open", "do", "-force-overlay=false",
		test, "-test.run", pattern, "-test.v", "-test.timeout", limit.String(),
	}
}

// Passed fails unless the output is that of tests that ran and passed.
func Passed(t *testing.T, output string) {
	t.Helper()
	if !strings.Contains(output, "--- PASS") || !strings.HasSuffix(strings.TrimSpace(output), "PASS") {
		t.Fatalf("inside gVisor:\n%s", output)
	}
}
