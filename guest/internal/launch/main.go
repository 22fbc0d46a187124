// Package launch is the role `launch`: it stands between a monitor and the runtime that creates an OCI sandbox, and
// gives the sandbox ids of the host that no other one has.
//
// The kernel counts much per user of the host: pipe memory, descriptors in flight, watches, and, for whoever made a user
// namespace, everything that is counted inside it: timers, pending signals, message queues. Sandboxes that share ids
// could take all of it from each other and from the host's root. So each has a range of its own, its user namespace is
// made by that range's first id, and its disk, whose ids are the same for all, is mounted with mapped ids. The mount is
// in a namespace of this process, which becomes the runtime: it goes with it and nothing of it is ever on the host.
package launch

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/idmap"
	"pyro.dev/agent/internal/message"
)

const (
	exitFailed = 1
	exitUsage  = 2
	// specLimitBytes bounds the spec.
	specLimitBytes = 64 << 10
	// checkArgument makes a process that tries whether ids can be mapped.
	checkArgument = "check"
)

// spec mirrors launchSpec in packages/protocol/src/guest/monitor.ts.
type spec struct {
	// Volume is the tree, Root the folder where it is mounted.
	Volume string `json:"volume"`
	Root   string `json:"root"`
	// Agent is the binary of the agent, AgentFile the file where it is mounted.
	Agent     string `json:"agent"`
	AgentFile string `json:"agentFile"`
	// UserNamespace is where a link to the namespace is made.
	UserNamespace string `json:"userNamespace"`
	// DiskBase is the first id of the tree, Base the sandbox's; both for Count ids.
	DiskBase int `json:"diskBase"`
	Base     int `json:"base"`
	Count    int `json:"count"`
}

// Main never returns when it can become the runtime.
func Main(args []string) int {
	switch {
	case len(args) == 1 && args[0] == idmap.HoldArgument:
		idmap.Hold()
		return 0
	case len(args) == 2 && args[0] == checkArgument:
		return report(check(args[1]))
	case len(args) < 2 || !strings.HasPrefix(args[1], "/"):
		fmt.Fprintln(os.Stderr, "usage: pyro-agent launch SPEC RUNTIME ARGUMENT...")
		return exitUsage
	}
	var s spec
	if err := message.Decode(strings.NewReader(args[0]), specLimitBytes, &s); err != nil {
		return report(err)
	}
	return report(launch(s, args[1:]))
}

func report(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "launch:", err)
	return exitFailed
}

func launch(s spec, argv []string) error {
	// Mounts, ids and the death signal of the helpers belong to this thread, which becomes the runtime's first.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	tree, err := mapped(s.Volume, idmap.Range{Inside: s.DiskBase, Outside: s.Base, Count: s.Count})
	if err != nil {
		return err
	}
	if err := attach(tree, s.Root); err != nil {
		return err
	}
	agent, err := detached(s.Agent)
	if err != nil {
		return err
	}
	if err := attach(agent, s.AgentFile); err != nil {
		return err
	}
	pid, err := namespaceOf(s.Base, idmap.Range{Inside: 0, Outside: s.Base, Count: s.Count})
	if err != nil {
		return err
	}
	if err := os.Symlink(fmt.Sprintf("/proc/%d/ns/user", pid), s.UserNamespace); err != nil {
		return err
	}
	return &os.PathError{Op: "exec", Path: argv[0], Err: syscall.Exec(argv[0], argv, os.Environ())}
}

// check tells whether the filesystem of a folder can be mounted with mapped ids.
func check(folder string) error {
	runtime.LockOSThread()
	tree, err := mapped(folder, idmap.Range{Inside: 0, Outside: 1, Count: 1})
	if err != nil {
		return err
	}
	return unix.Close(tree)
}

// detached makes a mount of a folder or file that hangs nowhere.
func detached(path string) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return tree, nil
}

// attach hangs it up and closes the descriptor.
func attach(tree int, target string) error {
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// mapped makes a mount of a folder that hangs nowhere, in which the ids on the disk are shown as
// others.
func mapped(folder string, ids idmap.Range) (int, error) {
	tree, err := detached(folder)
	if err != nil {
		return -1, err
	}
	namespace, err := idmap.Namespace(ids)
	if err != nil {
		return -1, err
	}
	defer unix.Close(namespace)
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(namespace), Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return -1, &os.PathError{Op: "mount_setattr", Path: folder, Err: err}
	}
	return tree, nil
}
