package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/exec"
	"pyro.dev/agent/internal/message"
)

// Requests of linux/fs.h.
const (
	requestFreeze = 0xc0045877
	requestThaw   = 0xc0045878
)

// rolePipeBytes is how far a role may be ahead of its link, or behind it, and pieceBytes what is passed on at once: each
// piece costs the same, and on an emulated processor that is much.
const (
	rolePipeBytes = 1 << 20
	pieceBytes    = 256 << 10
)

// freezeLimit is how long writers stand still when nobody lets them go on.
const freezeLimit = 2 * time.Second

// Machine is what a sandbox with a kernel of its own brings.
type Machine struct {
	// End is the last thing that a shutdown does; it never returns.
	End func()
	// Disk is a folder of the filesystem that is frozen for snapshots; empty: there is none.
	Disk string
	// Cgroup is where user commands go, Limits tells when they hit its own; nil where there are no commands.
	Cgroup message.Cgroup
	Limits exec.Limits
	// Roles are the one-shot roles that the engine may run here.
	Roles map[string]bool

	freezing sync.Mutex
	frozen   *frozenDisk
}

// frozenDisk is one freeze, which either the engine or the watchdog ends.
type frozenDisk struct {
	folder   *os.File
	watchdog *time.Timer
	// ended is closed when writers go on.
	ended chan struct{}
}

func noMachine(what string) error {
	return message.Errorf(message.KindInvalid, "this sandbox has no %s of its own", what)
}

func (s *sandbox) Freeze() error {
	if s.machine == nil || s.machine.Disk == "" {
		return noMachine("disk")
	}
	return s.machine.freeze(func(err error) { s.log.Printf("the disk was thawed unasked: %v", err) })
}

func (s *sandbox) Thaw() (bool, error) {
	if s.machine == nil || s.machine.Disk == "" {
		return false, noMachine("disk")
	}
	return s.machine.thaw()
}

// The watchdog counts on the clock that does not jump when the engine sets the time.
func (m *Machine) freeze(unasked func(error)) error {
	m.freezing.Lock()
	defer m.freezing.Unlock()
	// Of an engine that is gone, perhaps: the watchdog ends it.
	for m.frozen != nil {
		ended := m.frozen.ended
		m.freezing.Unlock()
		<-ended
		m.freezing.Lock()
	}
	folder, err := os.Open(m.Disk)
	if err != nil {
		return err
	}
	frozen := &frozenDisk{folder: folder, ended: make(chan struct{})}
	// Set before: a freeze that takes long is no excuse.
	frozen.watchdog = time.AfterFunc(freezeLimit, func() {
		m.freezing.Lock()
		defer m.freezing.Unlock()
		if m.frozen == frozen {
			m.frozen = nil
			unasked(frozen.end())
		}
	})
	if err := ioctl(folder, requestFreeze); err != nil {
		frozen.watchdog.Stop()
		folder.Close()
		if errors.Is(err, unix.EBUSY) {
			return message.Errorf(message.KindFailed, "somebody inside has frozen the disk")
		}
		return os.NewSyscallError("FIFREEZE", err)
	}
	m.frozen = frozen
	return nil
}

// thaw reports false when the watchdog, or somebody inside, was first.
func (m *Machine) thaw() (bool, error) {
	m.freezing.Lock()
	defer m.freezing.Unlock()
	frozen := m.frozen
	if frozen == nil {
		return false, nil
	}
	m.frozen = nil
	frozen.watchdog.Stop()
	err := frozen.end()
	if errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	return err == nil, err
}

func (f *frozenDisk) end() error {
	defer f.folder.Close()
	defer close(f.ended)
	return os.NewSyscallError("FITHAW", ioctl(f.folder, requestThaw))
}

func ioctl(file *os.File, request uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, 0); errno != 0 {
		return errno
	}
	return nil
}

// Role runs this binary again: what it reads and writes are the frames of the engine.
func (s *sandbox) Role(ctx context.Context, name string, stdin io.Reader, stdout io.Writer) error {
	if s.machine == nil || !s.machine.Roles[name] {
		return message.Errorf(message.KindInvalid, "there is no role %s here", message.Clip(name, 32))
	}
	input, feed, err := os.Pipe()
	if err != nil {
		return err
	}
	defer feed.Close()
	answer, output, err := os.Pipe()
	if err != nil {
		input.Close()
		return err
	}
	defer answer.Close()
	for _, pipe := range []*os.File{feed, answer} {
		if err := widen(pipe); err != nil {
			return err
		}
	}
	ended := make(chan syscall.WaitStatus, 1)
	pid, err := s.reaper.Spawn(func() (int, error) {
		return syscall.ForkExec("/proc/self/exe", []string{"pyro-agent", name}, &syscall.ProcAttr{
			Dir: "/", Files: []uintptr{input.Fd(), output.Fd(), os.Stderr.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
	}, func(status syscall.WaitStatus) { ended <- status })
	input.Close()
	output.Close()
	if err != nil {
		return fmt.Errorf("start the role %s: %w", name, err)
	}
	// An engine that is gone, or has enough, ends the role; it is collected in any case.
	stop := context.AfterFunc(ctx, func() { _ = s.reaper.Signal(pid, syscall.SIGKILL) })
	defer stop()
	go func() {
		// A role that ends early reads no more; an engine that breaks off shows at the context.
		_ = pass(feed, stdin)
		feed.Close()
	}()
	copied := pass(stdout, answer)
	if copied != nil {
		_ = s.reaper.Signal(pid, syscall.SIGKILL)
	}
	status := <-ended
	if copied != nil {
		return copied
	}
	if status.Signaled() {
		return message.Errorf(message.KindFailed, "the role %s was ended by %s", name, status.Signal())
	}
	return nil
}

// widen makes room in a pipe.
func widen(pipe *os.File) error {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	var problem error
	err = raw.Control(func(fd uintptr) { _, problem = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, rolePipeBytes) })
	return errors.Join(err, os.NewSyscallError("F_SETPIPE_SZ", problem))
}

// pass copies in large pieces, and what there is at once; neither end has a way of its own.
func pass(to io.Writer, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, pieceBytes))
	return err
}
