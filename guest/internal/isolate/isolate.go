// Package isolate runs a role of this binary in a bare sandbox of namespaces: a user namespace that maps the
// workspace's ids, a mount namespace whose root is the volume (or a small tmpfs with volumes below it), no capabilities
// but the named ones, no new privileges and a seccomp filter that allows little more than file calls.
//
// The host half opens the volumes as detached mounts, so neither the modes of the host folders above them nor anything
// mounted elsewhere matters inside. The other half, Enter, runs in the new process before it reads a single byte of
// what a guest wrote.
package isolate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// InsideArgument follows the role when a process is started by Run.
const InsideArgument = "--inside"

// inputLimitBytes bounds what is handed to the inside.
const inputLimitBytes = 8 << 20

// firstFd is where the inherited descriptors begin: the plan, then one mount each, then what is handed.
const firstFd = 3

// Mapping is the id range of the user namespace: inside id 0 is Base outside. A machine of its own maps its ids to themselves.
type Mapping struct {
	Base  int `json:"base"`
	Count int `json:"count"`
}

// Mount puts a host folder into the sandbox.
type Mount struct {
	// Host is the folder on the host.
	Host string `json:"-"`
	// Target is "/" for the root, or a name of one component below a root of its own.
	Target string `json:"target"`
	// ReadOnly also means nosuid, nodev, noexec and that no symlink is followed.
	ReadOnly bool `json:"readOnly"`
}

// Spec is one sandboxed run.
type Spec struct {
	Role    string
	Mapping Mapping
	Mounts  []Mount
	// Files are open ones that the inside gets, as the descriptors that Handed tells.
	Files []*os.File
	// Capabilities that stay, inside the user namespace.
	Capabilities []uintptr
	// Write allows the calls that change files.
	Write bool
	// Input is what Enter gives to the inside.
	Input any

	Stdin, Stdout, Stderr *os.File
}

// Handed is the descriptor inside of one of Files.
func (s Spec) Handed(at int) int { return firstFd + 1 + len(s.Mounts) + at }

// plan travels to the inside in a memfd.
type plan struct {
	Mounts       []Mount         `json:"mounts"`
	Capabilities []uintptr       `json:"capabilities"`
	Write        bool            `json:"write"`
	Input        json.RawMessage `json:"input"`
}

// Run starts the sandbox and waits for it. The code is that of the inside; an error means that it did not start or was
// killed. The sandbox dies with this process.
func Run(spec Spec) (code int, err error) {
	if spec.Mapping.Base < 0 || spec.Mapping.Count <= 0 {
		return 0, fmt.Errorf("id mapping %d+%d: out of range", spec.Mapping.Base, spec.Mapping.Count)
	}
	input, err := json.Marshal(spec.Input)
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(plan{spec.Mounts, spec.Capabilities, spec.Write, input})
	if err != nil {
		return 0, err
	}
	handed, err := memfile("plan", text)
	if err != nil {
		return 0, err
	}
	defer handed.Close()
	files := []*os.File{handed}
	for _, mount := range spec.Mounts {
		file, err := detach(mount)
		if err != nil {
			return 0, err
		}
		defer file.Close()
		files = append(files, file)
	}
	files = append(files, spec.Files...)
	// The death signal is bound to the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	command, err := start(spec, "/proc/self/exe", files)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		// The binary may lie where only the host's root may execute; a copy in memory belongs to nobody's folder.
		command, err = startCopy(spec, files)
	}
	if err != nil {
		return 0, fmt.Errorf("start the sandbox of %s: %w", spec.Role, err)
	}
	err = command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %w", spec.Role, ErrEnded, err)
	}
	return 0, nil
}

func start(spec Spec, binary string, files []*os.File) (*exec.Cmd, error) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: spec.Mapping.Base, Size: spec.Mapping.Count}}
	command := &exec.Cmd{
		Path: binary, Args: []string{"pyro-agent", spec.Role, InsideArgument},
		Env: []string{"GOTRACEBACK=none"}, Dir: "/",
		Stdin: spec.Stdin, Stdout: spec.Stdout, Stderr: spec.Stderr, ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
				unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Credential: &syscall.Credential{Uid: 0, Gid: 0},
			Pdeathsig:  unix.SIGKILL,
			Setsid:     true,
		},
	}
	return command, command.Start()
}

func startCopy(spec Spec, files []*os.File) (*exec.Cmd, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer self.Close()
	fd, err := unix.MemfdCreate("pyro-agent", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("pyro-agent", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	writable := os.NewFile(uintptr(fd), "pyro-agent")
	defer writable.Close()
	if _, err := io.Copy(writable, self); err != nil {
		return nil, err
	}
	if err := unix.Fchmod(fd, 0o555); err != nil {
		return nil, err
	}
	readable, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return nil, err
	}
	defer readable.Close()
	// A file open for writing cannot be executed.
	writable.Close()
	return start(spec, "/proc/self/fd/"+strconv.Itoa(int(readable.Fd())), files)
}

// detach makes a mount of one folder that hangs nowhere, with its attributes set before anybody else sees it.
func detach(mount Mount) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, mount.Host,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: mount.Host, Err: err}
	}
	file := os.NewFile(uintptr(fd), mount.Host)
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if mount.ReadOnly {
		attributes.Attr_set |= unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSYMFOLLOW
	}
	attributes.Propagation = unix.MS_PRIVATE
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
		file.Close()
		return nil, &os.PathError{Op: "mount_setattr", Path: mount.Host, Err: err}
	}
	return file, nil
}

func memfile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.Write(content); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// DecodeInput reads a whole JSON document; unknown fields are errors.
func DecodeInput(text []byte, into any) error {
	return message.Decode(bytes.NewReader(text), inputLimitBytes, into)
}
