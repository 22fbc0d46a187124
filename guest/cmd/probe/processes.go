package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// child as an argument stands for a process that the attempt makes itself: the control of what is refused with another.
const child = "child"

// ofProcess resolves the argument of an attempt on another process.
func ofProcess(try func(pid int) (string, error)) func(string) (string, error) {
	return func(argument string) (string, error) {
		if argument == child {
			return withChild(try)
		}
		pid, err := strconv.Atoi(argument)
		if err != nil || pid < 1 {
			return "", fmt.Errorf("%q is no process", argument)
		}
		return try(pid)
	}
}

func withChild(try func(pid int) (string, error)) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	command := exec.Command(self, "hog", "files", "1")
	ready, err := command.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := command.Start(); err != nil {
		return "", err
	}
	// Not waited for: a child that is traced may keep its tracer waiting.
	defer func() { _ = command.Process.Kill() }()
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		return "", err
	}
	return try(command.Process.Pid)
}

func fileOf(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

func trace(pid int) (string, error) {
	runtime.LockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return "", fmt.Errorf("ptrace: %w", err)
	}
	// The end of this process detaches.
	return "attached", nil
}

func memoryOf(pid int) (string, error) {
	file, err := os.OpenFile(fileOf(pid, "mem"), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	return "opened its memory", file.Close()
}

// readMemoryOf asks for an address that no process uses: only the permission matters.
func readMemoryOf(pid int) (string, error) {
	buffer := make([]byte, 8)
	local := []unix.Iovec{{Base: &buffer[0], Len: uint64(len(buffer))}}
	remote := []unix.RemoteIovec{{Base: 8, Len: len(buffer)}}
	_, err := unix.ProcessVMReadv(pid, local, remote, 0)
	if err == nil || err == unix.EFAULT {
		return "may read its memory", nil
	}
	return "", fmt.Errorf("process_vm_readv: %w", err)
}

func environmentOf(pid int) (string, error) {
	return readable(fileOf(pid, "environ"))("")
}

func descriptorsOf(pid int) (string, error) {
	folder := fileOf(pid, "fd")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var found []string
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(folder, entry.Name()))
		if err != nil {
			return "", err
		}
		found = append(found, target)
	}
	return strings.Join(found, " "), nil
}

func stealDescriptor(pid int) (string, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return "", fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	taken, err := unix.PidfdGetfd(fd, 0, 0)
	if err != nil {
		return "", fmt.Errorf("pidfd_getfd: %w", err)
	}
	return "took descriptor 0", unix.Close(taken)
}

func rootOf(pid int) (string, error) {
	return namesBelow(fileOf(pid, "root"))("")
}

// programOf opens the program of another process for writing: what CVE-2019-5736 did to the runtime.
func programOf(pid int) (string, error) {
	return openToWrite(fileOf(pid, "exe"))("")
}

// processNamed looks for a process by a part of its arguments.
func processNamed(part string) (string, error) {
	folders, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", err
	}
	own := fmt.Sprintf("/proc/%d/", os.Getpid())
	for _, path := range folders {
		text, err := os.ReadFile(path)
		if err != nil || strings.HasPrefix(path, own) || bytes.Contains(text, []byte("process-named")) {
			continue
		}
		if bytes.Contains(text, []byte(part)) {
			return path, nil
		}
	}
	return "", fmt.Errorf("none of %d processes is called like that", len(folders))
}

// killProcess only asks whether it might.
func killProcess(pid int) (string, error) {
	if err := unix.Kill(pid, 0); err != nil {
		return "", fmt.Errorf("kill: %w", err)
	}
	return "may signal it", nil
}

const lastSignal = 64

// everySignal sends each signal there is in one way. That the process lives afterwards is for others to see.
func everySignal(send func(pid, signal int) error) func(string) (string, error) {
	return ofProcess(func(pid int) (string, error) {
		sent := 0
		var refusal error
		for signal := 1; signal <= lastSignal; signal++ {
			if err := send(pid, signal); err != nil {
				refusal = err
			} else {
				sent++
			}
		}
		if sent == 0 {
			return "", refusal
		}
		return fmt.Sprintf("%d signals", sent), nil
	})
}

// toThreads does it for each thread of the process.
func toThreads(send func(pid, thread, signal int) error) func(pid, signal int) error {
	return func(pid, signal int) error {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			thread, err := strconv.Atoi(entry.Name())
			if err != nil {
				return err
			}
			if err := send(pid, thread, signal); err != nil {
				return err
			}
		}
		return nil
	}
}

func throughKill(pid, signal int) error { return unix.Kill(pid, unix.Signal(signal)) }

func throughTgkill(pid, thread, signal int) error {
	return unix.Tgkill(pid, thread, unix.Signal(signal))
}

func throughTkill(_, thread, signal int) error {
	_, _, errno := unix.Syscall(unix.SYS_TKILL, uintptr(thread), uintptr(signal), 0)
	return orNil(errno)
}

func throughQueue(pid, signal int) error {
	return queue(unix.SYS_RT_SIGQUEUEINFO, []uintptr{uintptr(pid)}, signal)
}

func throughThreadQueue(pid, thread, signal int) error {
	return queue(unix.SYS_RT_TGSIGQUEUEINFO, []uintptr{uintptr(pid), uintptr(thread)}, signal)
}

// queue sends a signal with a code that says what it likes, as sigqueue does.
func queue(number uintptr, target []uintptr, signal int) error {
	const codeQueue = -1
	var info [128]byte
	*(*int32)(unsafe.Pointer(&info[0])) = int32(signal)
	*(*int32)(unsafe.Pointer(&info[8])) = codeQueue
	arguments := append(target, uintptr(signal), uintptr(unsafe.Pointer(&info)), 0, 0)
	_, _, errno := unix.Syscall6(number, arguments[0], arguments[1], arguments[2], arguments[3], 0, 0)
	runtime.KeepAlive(info)
	return orNil(errno)
}

func throughPidfd(pid, signal int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, unix.Signal(signal), nil, 0)
}

// throughOwner has the kernel send it: the process is made the owner of a pipe in which something happens.
func throughOwner(pid, signal int) error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	for _, step := range [][2]int{{unix.F_SETOWN, pid}, {unix.F_SETSIG, signal}, {unix.F_SETFL, unix.O_ASYNC | unix.O_NONBLOCK}} {
		if _, err := unix.FcntlInt(uintptr(ends[0]), step[0], step[1]); err != nil {
			return err
		}
	}
	_, err := unix.Write(ends[1], []byte{0})
	return err
}

func orNil(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// limitOf takes almost all processor time from another process: the kernel kills it when that is used up.
func limitOf(pid int) (string, error) {
	if err := unix.Prlimit(pid, unix.RLIMIT_CPU, &unix.Rlimit{Cur: 1, Max: 1}, nil); err != nil {
		return "", fmt.Errorf("prlimit: %w", err)
	}
	return "limited", nil
}
