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
	if Inside() {
		return
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
	cx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	command := exec.CommandContext(cx, runsc, "--root", t.TempDir(), "--network=none", "--host-uds=open", "do", "-force-overlay=false",
		test, "-test.run", pattern, "-test.v", "-test.timeout", limit.String())
	command.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	output, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS") {
		t.Fatalf("inside gVisor: %v\n%s", err, output)
	}
}
