package machine

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

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

// commandGroup is the cgroup of user commands: what hits a limit there is a command, and the agent goes on.
type commandGroup struct{ fd int }

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
	fd, err := unix.Open(userCgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: userCgroup, Err: err}
	}
	return &commandGroup{fd}, nil
}

func (g *commandGroup) limit(limits Limits) error {
	for name, value := range map[string]int64{"memory.max": limits.MemoryBytes, "pids.max": limits.PidsMax} {
		if err := os.WriteFile(userCgroup+"/"+name, []byte(strconv.FormatInt(value, 10)), 0); err != nil {
			return err
		}
	}
	return nil
}

func (g *commandGroup) message() message.Cgroup {
	return message.Cgroup{Mode: "v2", DirectoryFd: &g.fd}
}

// limitCounts reads zeros where root inside has taken the cgroup away: then nothing is limited any more.
func limitCounts() exec.LimitCounts {
	return exec.LimitCounts{
		Memory:   eventCount(userCgroup+"/memory.events", "oom_kill"),
		Pids:     eventCount(userCgroup+"/pids.events", "max"),
		DiskFull: isFull("/"),
	}
}

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
func eventCount(path, key string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if count, err := strconv.ParseInt(value, 10, 64); name == key && err == nil {
			return count
		}
	}
	return 0
}
