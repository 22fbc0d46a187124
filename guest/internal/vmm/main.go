// Package vmm is the role `vmm`: the runtime that a monitor calls for a microVM. It starts the program that emulates the
// machine as a user of its own, in namespaces of its own, with nothing of the host but the program's files, the folder
// of the link and what it is handed open.
package vmm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/idmap"
	"pyro.dev/agent/internal/message"
)

const (
	exitFailed = 1
	exitUsage  = 2

	specFile       = "vmm.json"
	specLimitBytes = 1 << 20
	// answerLimitBytes bounds what the inside says of its failure.
	answerLimitBytes = 4 << 10

	// enterArgument makes the process that becomes the program, holdArgument one that the program ends with.
	enterArgument = "enter"
	holdArgument  = "hold"
	// answerFd is where the inside says why it could not become the program; firstFile where what it hands on begins.
	answerFd  = 3
	firstFile = 4
)

// spec mirrors vmmSpec in packages/protocol/src/guest/machine.ts.
type spec struct {
	// Argv begins with a path inside. Descriptor 4 and those that follow are Files and then, if any, Listen.
	Argv []string `json:"argv"`
	// ID is the user and group of the host that the program runs as, Groups those that it is in as well.
	ID     int    `json:"id"`
	Groups []int  `json:"groups"`
	Files  []file `json:"files"`
	// Listen is the path of a unix socket that is made for the program.
	Listen string  `json:"listen"`
	Mounts []mount `json:"mounts"`
}

type file struct {
	Path string `json:"path"`
	// Access is "read", "write" or "both": a VMM compares it with what it wants.
	Access string `json:"access"`
	// Direct passes by the host's page cache.
	Direct bool `json:"direct"`
}

// mount shows a file or folder of the host inside.
type mount struct {
	Source string `json:"source"`
	Target string `json:"target"`
	// Access is "read", "write", "device" for one that stays usable, or "own-read" and "own-write", which show what belongs to root
	// as the program's own.
	Access string `json:"access"`
}

// Main takes the arguments that a monitor gives to any runtime.
func Main(args []string) int {
	if len(args) == 3 && args[0] == enterArgument {
		return enter(args[1], args[2] == strconv.FormatBool(true))
	}
	if len(args) == 2 && args[0] == holdArgument {
		return hold(args[1])
	}
	if len(args) == 0 || args[0] != "run" {
		// All that `delete` could release has gone with the process.
		return 0
	}
	bundle, pidFile := option(args, "--bundle"), option(args, "--pid-file")
	if bundle == "" || pidFile == "" {
		fmt.Fprintln(os.Stderr, "usage: pyro-agent vmm run --bundle FOLDER --pid-file FILE ID")
		return exitUsage
	}
	if err := run(bundle, pidFile); err != nil {
		fmt.Fprintln(os.Stderr, "vmm:", err)
		return exitFailed
	}
	return 0
}

func option(args []string, name string) string {
	if at := slices.Index(args, name); at >= 0 && at+1 < len(args) {
		return args[at+1]
	}
	return ""
}

// run returns when the program runs.
func run(bundle, pidFile string) error {
	pid, err := launch(bundle, false)
	if err != nil {
		return err
	}
	return os.WriteFile(pidFile, []byte(strconv.Itoa(pid)), 0o600)
}

// hold runs the program to its end, which comes with the end of this process at the latest, and that with the end of who
// started it and reads its output.
func hold(bundle string) int {
	runtime.LockOSThread()
	if err := tieToParent(int32(os.Stdout.Fd())); err != nil {
		fmt.Fprintln(os.Stderr, "vmm:", err)
		return exitFailed
	}
	pid, err := launch(bundle, true)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmm:", err)
		return exitFailed
	}
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if status.Signaled() {
		return exitFailed
	}
	return status.ExitStatus()
}

// launch returns when the program runs.
func launch(bundle string, tied bool) (int, error) {
	s, err := readSpec(bundle)
	if err != nil {
		return 0, err
	}
	files, err := s.open()
	if err != nil {
		return 0, err
	}
	var answer [2]int
	if err := unix.Pipe2(answer[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe2", err)
	}
	handed := append([]int{answer[1]}, files...)
	if s.hasOwn() {
		// Made here, where /proc shows the processes that are started.
		namespace, err := idmap.Namespace(idmap.Range{Inside: 0, Outside: s.ID, Count: 1})
		if err != nil {
			return 0, err
		}
		defer unix.Close(namespace)
		handed = append(handed, namespace)
	}
	pid, err := start(bundle, tied, handed)
	unix.Close(answer[1])
	if err != nil {
		return 0, err
	}
	from := os.NewFile(uintptr(answer[0]), "answer")
	defer from.Close()
	// Closed by a successful exec.
	problem, err := io.ReadAll(io.LimitReader(from, answerLimitBytes))
	if err != nil {
		return 0, err
	}
	if len(problem) > 0 {
		return 0, errors.New(string(problem))
	}
	return pid, nil
}

func readSpec(bundle string) (*spec, error) {
	text, err := os.Open(filepath.Join(bundle, specFile))
	if err != nil {
		return nil, err
	}
	defer text.Close()
	var s spec
	if err := message.Decode(text, specLimitBytes, &s); err != nil {
		return nil, err
	}
	if len(s.Argv) == 0 || s.ID <= 0 {
		return nil, errors.New("argv and id are wanted")
	}
	return &s, nil
}

func (s *spec) open() ([]int, error) {
	var files []int
	for _, f := range s.Files {
		flags, known := map[string]int{"read": unix.O_RDONLY, "write": unix.O_WRONLY, "both": unix.O_RDWR}[f.Access]
		if !known {
			return nil, fmt.Errorf("no access to %s: %q", f.Path, f.Access)
		}
		if f.Direct {
			flags |= unix.O_DIRECT
		}
		fd, err := unix.Open(f.Path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: f.Path, Err: err}
		}
		files = append(files, fd)
	}
	if s.Listen == "" {
		return files, nil
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Listen, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(s.Listen, 0o600); err != nil {
		return nil, err
	}
	socket, err := listener.File()
	if err != nil {
		return nil, err
	}
	return append(files, int(socket.Fd())), nil
}

// hasOwn reports whether a mount shows ids as others.
func (s *spec) hasOwn() bool { return slices.ContainsFunc(s.Mounts, mount.isOwn) }

func (m mount) isOwn() bool { return strings.HasPrefix(m.Access, "own-") }

// last is the descriptor of the last file that is handed on. The namespace for mounts that show ids as others follows.
func (s *spec) last() int {
	last := firstFile + len(s.Files) - 1
	if s.Listen != "" {
		last++
	}
	return last
}

func start(bundle string, tied bool, files []int) (int, error) {
	handed := []uintptr{0, 1, 2}
	for _, fd := range files {
		handed = append(handed, uintptr(fd))
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"pyro-agent", "vmm", enterArgument, bundle, strconv.FormatBool(tied)}, &syscall.ProcAttr{
		Dir:   "/",
		Files: handed,
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			Setsid:     true,
		},
	})
	if err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	return pid, nil
}
