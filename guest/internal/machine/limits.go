package machine

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/exec"
	"pyro.dev/agent/internal/message"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	userCgroup = cgroupRoot + "/user"
)

// Limits are those of user commands; the rest of the machine is the agent's and the kernel's.
type Limits struct {
	MemoryBytes int64 `json:"memoryBytes"`
	PidsMax     int64 `json:"pidsMax"`
}

// eventsBytes is more than the kernel writes of the events of a cgroup.
const eventsBytes = 1024

// commandGroup is the cgroup of user commands: what hits a limit there is a command, and the agent goes on.
type commandGroup struct {
	fd int
	// memory and pids are its files of events: each command looks at them, and opening takes longer than reading.
	memory, pids int
}

func newCommandGroup() (*commandGroup, error) {
	if err := unix.Mount("cgroup", cgroupRoot, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, &os.PathError{Op: "mount", Path: cgroupRoot, Err: err}
	}
	if err := os.WriteFile(cgroupRoot+"/cgroup.subtree_control", []byte("+memory +pids"), 0); err != nil {
		return nil, err
	}
	if err := os.Mkdir(userCgroup, 0o755); err != nil {
		return nil, err
	}
	group := &commandGroup{}
	for _, open := range []struct {
		fd    *int
		path  string
		flags int
	}{
		{&group.fd, userCgroup, unix.O_DIRECTORY},
		{&group.memory, userCgroup + "/memory.events", 0},
		{&group.pids, userCgroup + "/pids.events", 0},
	} {
		fd, err := unix.Open(open.path, unix.O_RDONLY|unix.O_CLOEXEC|open.flags, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: open.path, Err: err}
		}
		*open.fd = fd
	}
	return group, nil
}

func (g *commandGroup) limit(limits Limits) error {
	// One more process waits there to be the next command.
	for name, value := range map[string]int64{"memory.max": limits.MemoryBytes, "pids.max": limits.PidsMax + 1} {
		if err := os.WriteFile(userCgroup+"/"+name, []byte(strconv.FormatInt(value, 10)), 0); err != nil {
			return err
		}
	}
	return nil
}

func (g *commandGroup) message() message.Cgroup {
	return message.Cgroup{Mode: "v2", DirectoryFd: &g.fd}
}

// Hits are none where root inside has taken the cgroup away: then nothing is limited any more.
func (g *commandGroup) Hits() exec.LimitHits {
	return exec.LimitHits{Memory: eventCount(g.memory, "oom_kill"), Pids: eventCount(g.pids, "max")}
}

// DiskFull looks at the disk that commands see as their root.
func (g *commandGroup) DiskFull() bool { return isFull("/") }

// fullBytes is less than what any write of a file in need of blocks takes together with its bookkeeping.
const fullBytes = 1 << 20

func isFull(disk string) bool {
	var space unix.Statfs_t
	if err := unix.Statfs(disk, &space); err != nil {
		return false
	}
	return int64(space.Bavail)*space.Bsize < fullBytes || space.Ffree == 0
}

// eventCount reads one line of `key value`.
func eventCount(file int, key string) int64 {
	var text [eventsBytes]byte
	n, err := unix.Pread(file, text[:], 0)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text[:n]) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if count, err := strconv.ParseInt(string(value), 10, 64); string(name) == key && err == nil {
			return count
		}
	}
	return 0
}
