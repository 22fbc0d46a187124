// Package proc reads what /proc says of processes, without the allocations and poller calls of package os: walks of it
// happen while a sandbox is full of processes, and every call is dear inside gVisor.
package proc

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// statLimitBytes is more than a line of stat can have: 52 numbers and a name of 64 bytes.
	statLimitBytes = 2048
	// environLimitBytes is the most the kernel lets argv and environment be together (a quarter of an 8 MiB stack) …
	environLimitBytes = 2 << 20
	// … and listBufferBytes one read of a folder.
	listBufferBytes = 32 * 1024
	// kernelThread is PF_KTHREAD of linux/sched.h, kernelParent the pid of kthreadd.
	kernelThread = 0x00200000
	kernelParent = 2
)

// Stat is one line of /proc/PID/stat.
type Stat struct {
	Pid     int
	Parent  int
	Session int
	// State is Z or X for what is dead.
	State byte
	// StartTime in clock ticks since boot; with the pid it is the identity of a process.
	StartTime string
	// Kernel says that it is a thread of the kernel, which only a machine of one's own shows.
	Kernel bool
}

// Dead reports whether nothing of the process can run any more.
func (s Stat) Dead() bool { return s.State == 'Z' || s.State == 'X' }

// ErrFormat is a stat line that cannot be understood.
var ErrFormat = errors.New("unexpected format of /proc/PID/stat")

// ReadStat reads /proc/PID/stat.
func ReadStat(pid int) (Stat, error) {
	var buffer [statLimitBytes]byte
	n, err := readFile("/proc/"+strconv.Itoa(pid)+"/stat", buffer[:])
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(buffer[:n])
}

// ParseStat understands a line of stat. The name in it is the process's own choice and may hold anything.
func ParseStat(line []byte) (Stat, error) {
	end := bytes.LastIndexByte(line, ')')
	open := bytes.IndexByte(line, '(')
	if open < 2 || end < open {
		return Stat{}, ErrFormat
	}
	pid, err := strconv.Atoi(string(line[:open-1]))
	if err != nil {
		return Stat{}, ErrFormat
	}
	fields := bytes.Fields(line[end+1:])
	// Field 3 of proc(5) is fields[0]; start time is field 22.
	if len(fields) < 20 || len(fields[0]) != 1 {
		return Stat{}, ErrFormat
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return Stat{}, ErrFormat
	}
	session, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return Stat{}, ErrFormat
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 64)
	if err != nil {
		return Stat{}, ErrFormat
	}
	return Stat{
		Pid: pid, Parent: parent, Session: session, State: fields[0][0], StartTime: string(fields[19]),
		Kernel: flags&kernelThread != 0,
	}, nil
}

// UserPids lists all processes but threads of the kernel.
func UserPids() ([]int, error) {
	pids, err := Pids()
	if err != nil {
		return nil, err
	}
	// Where there are any, the one that starts the others comes first.
	if stat, err := ReadStat(kernelParent); err != nil || !stat.Kernel {
		return pids, nil
	}
	users := pids[:0]
	for _, pid := range pids {
		if stat, err := ReadStat(pid); err == nil && !stat.Kernel {
			users = append(users, pid)
		}
	}
	return users, nil
}

// Pids lists all processes.
func Pids() ([]int, error) {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var pids []int
	buffer := make([]byte, listBufferBytes)
	names := make([]string, 0, 512)
	for {
		n, err := unix.ReadDirent(fd, buffer)
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return pids, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names[:0])
		for _, name := range names {
			if name[0] < '0' || name[0] > '9' {
				continue
			}
			if pid, err := strconv.Atoi(name); err == nil {
				pids = append(pids, pid)
			}
		}
	}
}

// Environ reads the environment a process was started with, entries ended by NUL, into buffer, which is grown as needed
// and returned.
func Environ(pid int, buffer []byte) ([]byte, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/environ", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return buffer[:0], err
	}
	defer unix.Close(fd)
	buffer = buffer[:0]
	for len(buffer) < environLimitBytes {
		if cap(buffer)-len(buffer) < 4096 {
			buffer = append(make([]byte, 0, 2*cap(buffer)+8192), buffer...)
		}
		n, err := unix.Read(fd, buffer[len(buffer):cap(buffer)])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return buffer, err
		}
		buffer = buffer[:len(buffer)+n]
	}
	return buffer, nil
}

// Owner is the effective user and group of a process.
func Owner(pid int) (uid, gid int, err error) {
	var status unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid), &status); err != nil {
		return 0, 0, err
	}
	return int(status.Uid), int(status.Gid), nil
}

func readFile(path string, into []byte) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	total := 0
	for total < len(into) {
		n, err := unix.Read(fd, into[total:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			break
		}
		total += n
	}
	return total, nil
}
