package prefork

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forked is a process of a test, and what it writes.
type forked struct {
	*Process
	output *os.File
}

func begin(t *testing.T) *forked {
	t.Helper()
	output, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	defer theirs.Close()
	process, err := Start(-1, [3]int{int(null.Fd()), int(theirs.Fd()), int(theirs.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { output.Close() })
	return &forked{process, output}
}

func (f *forked) collect(t *testing.T) syscall.WaitStatus {
	t.Helper()
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(f.Pid, &status, 0, nil); pid != f.Pid {
		t.Fatal(pid, err)
	}
	return status
}

func (f *forked) become(t *testing.T, program *Program) (syscall.WaitStatus, string) {
	t.Helper()
	if err := f.Become(program); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f.output)
	if err != nil {
		t.Fatal(err)
	}
	return f.collect(t), string(text)
}

func shell(script string, words ...string) *Program {
	return &Program{Path: "/bin/sh", Argv: append([]string{"sh", "-c", script, "sh"}, words...), Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"}
}

func TestItBecomesTheProgram(t *testing.T) {
	folder := t.TempDir()
	program := shell(`pwd; echo "$A $1" >&2; read line || echo nothing; exit 7`, "word")
	program.Dir, program.Env = folder, append(program.Env, "A=b")
	process := begin(t)
	pid := process.Pid
	status, text := process.become(t, program)
	if status.ExitStatus() != 7 || text != folder+"\nb word\nnothing\n" {
		t.Errorf("process %d: %v %q", pid, status, text)
	}
}

func TestWhatItIsWithoutAProgramOfItsOwn(t *testing.T) {
	// The host may start its processes with another limit of descriptors than a kernel its first one.
	const script = `ulimit -Sn; ulimit -Sn 1024; grep -E "^(Sig(Blk|Ign)|Cap|Seccomp|Groups|Uid|Gid|Umask)" /proc/self/status
cat /proc/self/limits; cut -d " " -f 1,5,6,7 /proc/$$/stat | sed "s/$$/it/g"; cat /proc/self/oom_score_adj`
	for name, change := range map[string]func(*Program){
		"root":   func(*Program) {},
		"nobody": func(p *Program) { p.UID, p.GID = 65534, 65534 },
		"groups": func(p *Program) { p.GID, p.Groups = 5, []uint32{7, 9} },
	} {
		program := shell(script)
		change(program)
		_, ahead := begin(t).become(t, program)
		forked := fork(t, program)
		files, ahead, _ := strings.Cut(ahead, "\n")
		if _, forked, _ = strings.Cut(forked, "\n"); files != "1024" || ahead != forked {
			t.Errorf("%s: %s descriptors; forked ahead:\n%s\nforked:\n%s", name, files, ahead, forked)
		}
	}
}

// fork is the way that it must not differ from.
func fork(t *testing.T, program *Program) string {
	t.Helper()
	output, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pid, err := syscall.ForkExec(program.Path, program.Argv, &syscall.ProcAttr{
		Dir: program.Dir, Env: program.Env, Files: []uintptr{null.Fd(), theirs.Fd(), theirs.Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid: true, Credential: &syscall.Credential{Uid: program.UID, Gid: program.GID, Groups: program.Groups},
		},
	})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(output)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = syscall.Wait4(pid, nil, 0, nil)
	return string(text)
}

func TestItFailsAsAForkDoes(t *testing.T) {
	folder := t.TempDir()
	text, closed := filepath.Join(folder, "text"), filepath.Join(folder, "closed")
	if err := errors.Join(os.WriteFile(text, []byte("no program"), 0o755), os.Mkdir(closed, 0o700), os.Chmod(folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Program)
		want   syscall.Errno
	}{
		"no program":           {func(p *Program) { p.Path = "/no/such" }, unix.ENOENT},
		"a folder":             {func(p *Program) { p.Path = folder }, unix.EACCES},
		"a text":               {func(p *Program) { p.Path = text }, unix.ENOEXEC},
		"no folder":            {func(p *Program) { p.Dir = "/no/such" }, unix.ENOENT},
		"a folder of others":   {func(p *Program) { p.Dir, p.UID = closed, 65534 }, unix.EACCES},
		"too long an argument": {func(p *Program) { p.Argv[2] = strings.Repeat("a", 1<<20) }, unix.E2BIG},
		"NUL":                  {func(p *Program) { p.Argv[2] = "a\x00b" }, unix.EINVAL},
		"no such user":         {func(p *Program) { p.UID = 1<<32 - 1 }, unix.EINVAL},
	} {
		program := shell("echo ran")
		c.change(program)
		process := begin(t)
		if err := process.Become(program); err != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if status := process.collect(t); status.ExitStatus() != 1 {
			t.Errorf("%s: it ends with %v", name, status)
		}
		if output, err := io.ReadAll(process.output); err != nil || len(output) > 0 {
			t.Errorf("%s: %q %v", name, output, err)
		}
	}
}

func TestOneThatWasKilledIsGone(t *testing.T) {
	for _, number := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL, unix.SIGHUP, unix.SIGUSR1} {
		process := begin(t)
		if err := unix.Kill(process.Pid, number); err != nil {
			t.Fatal(err)
		}
		if status := process.collect(t); status.Signal() != number {
			t.Errorf("%v: it ends with %v", number, status)
		}
		if err := process.Become(shell("echo ran")); err != ErrGone {
			t.Errorf("%v: %v", number, err)
		}
	}
}

func TestOneThatStandsStillIsGivenUp(t *testing.T) {
	process := begin(t)
	if err := unix.Kill(process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := process.Become(shell("echo ran")); err != ErrStuck {
		t.Fatal(err)
	}
	// What was called off is not begun, also when it goes on.
	if err := unix.Kill(process.Pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if status := process.collect(t); status.ExitStatus() != 1 {
		t.Errorf("it ends with %v", status)
	}
	process.Left()
	process.Left()
	if text, err := io.ReadAll(process.output); err != nil || len(text) > 0 {
		t.Errorf("%q %v", text, err)
	}
}

func TestItKeepsNothingOpenThatOthersWaitFor(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	process := begin(t)
	writer.Close()
	if err := reader.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	// The last one is what ls reads.
	if _, open := process.become(t, shell("ls /proc/self/fd")); open != "0\n1\n2\n3\n" {
		t.Errorf("open are %q", open)
	}
}

func TestDescriptorsThatWouldOverwriteEachOtherAreRefused(t *testing.T) {
	if _, err := Start(-1, [3]int{5, 2, 6}); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
	if _, err := Start(1_000_000, [3]int{5, 6, 7}); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
}

func TestManyAtOnceWhileMemoryIsCollected(t *testing.T) {
	over := make(chan struct{})
	var collector sync.WaitGroup
	collector.Add(1)
	go func() {
		defer collector.Done()
		for {
			select {
			case <-over:
				return
			default:
				runtime.GC()
			}
		}
	}()
	var lanes sync.WaitGroup
	for range 4 {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			for range 100 {
				process := begin(t)
				word := strings.Repeat("long ", 1000)
				if status, text := process.become(t, shell(`printf %s "$1"`, word)); status != 0 || text != word {
					t.Errorf("%v %d bytes", status, len(text))
				}
			}
		}()
	}
	lanes.Wait()
	close(over)
	collector.Wait()
}
