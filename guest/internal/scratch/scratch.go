// Package scratch gives tests that make many files a filesystem in memory.
package scratch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// InMemory runs the tests of a package with their temporary folders in memory and returns their exit code.
func InMemory(run func() int) int {
	folder, err := os.MkdirTemp("", "pyro-agent-test-")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(folder)
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "mode=0755"); err != nil {
		return fail(err)
	}
	defer unix.Unmount(folder, unix.MNT_DETACH)
	if err := os.Setenv("TMPDIR", folder); err != nil {
		return fail(err)
	}
	return run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "scratch:", err)
	return 1
}
