// Package populate writes what makes a clone of an environment a workspace: its identity and its seed. It runs inside
// the volume, in the user namespace of the workspace, before anything of the workspace ran.
package populate

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/archive"
	"pyro.dev/agent/internal/identity"
	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

// workspaceFolder is where seeds go and what diff looks at.
const workspaceFolder = "workspace"

// Input is populateInput of packages/protocol/src/guest/offline.ts.
type Input struct {
	Volume   string                `json:"volume"`
	Mapping  isolate.Mapping       `json:"mapping"`
	Identity *identity.Identity    `json:"identity"`
	Seed     bool                  `json:"seed"`
	Limits   message.ArchiveLimits `json:"limits"`
}

// Result is populateResult.
type Result struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Main is the role "populate".
func Main(args []string) int {
	if len(args) == 1 && args[0] == isolate.InsideArgument {
		return inside()
	}
	if len(args) != 0 {
		fmt.Fprintln(os.Stderr, "populate: takes no arguments")
		return 2
	}
	var input Input
	if err := isolate.ReadInput(&input); err != nil {
		return isolate.Fail(err)
	}
	return isolate.Host(isolate.Spec{
		Role:    "populate",
		Mapping: input.Mapping,
		Mounts:  []isolate.Mount{{Host: input.Volume, Target: "/"}},
		// An environment may hold folders that even root enters only by these.
		Capabilities: []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER},
		Write:        true,
		Input:        input,
	})
}

func inside() int {
	var input Input
	if err := isolate.Enter(&input); err != nil {
		return isolate.Fail(err)
	}
	result, err := run(input)
	if err != nil {
		return isolate.Fail(err)
	}
	return isolate.Succeed(result)
}

func run(input Input) (Result, error) {
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Result{}, fmt.Errorf("open the volume: %w", err)
	}
	defer unix.Close(root)
	if input.Identity != nil {
		if err := identity.Write(root, *input.Identity); err != nil {
			return Result{}, err
		}
	}
	workspace, err := openWorkspace(root)
	if err != nil {
		return Result{}, err
	}
	defer unix.Close(workspace)
	if !input.Seed {
		return Result{}, nil
	}
	seeded, err := archive.Extract(context.Background(), workspace, isolate.Data(), archive.Options{
		Limits: input.Limits, Root: "/" + workspaceFolder, UmaskIsZero: true, Progress: isolate.Report,
	})
	return Result{Files: seeded.Files, Bytes: seeded.Bytes}, err
}

func openWorkspace(root int) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if err := unix.Mkdirat(root, workspaceFolder, 0o755); err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("make /%s: %w", workspaceFolder, err)
	}
	fd, err := unix.Openat(root, workspaceFolder, flags, 0)
	if err != nil {
		return -1, message.Errorf(message.KindInvalid, "/%s of the environment is not a folder: %v", workspaceFolder, err)
	}
	return fd, nil
}
