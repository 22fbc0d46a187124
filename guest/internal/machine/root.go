package machine

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	newRoot   = "/root"
	agentFile = "/run/pyro/agent"
)

type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

var kernelMounts = []mount{
	{"dev", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, ""},
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NOEXEC, ""},
	{"sys", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NOEXEC, ""},
}

// moved are the trees that follow to a new root. All else of the first root has no name any more then.
var moved = []string{"/dev", "/proc", "/sys", "/run"}

// What lasts in memory is bounded as in containers (drivers/oci): all of it together leaves room for the commands that
// remove it.
const (
	shmPart      = 2
	runPart      = 8
	runMost      = 128 << 20
	lockPart     = 64
	lockMost     = 5 << 20
	segmentsPart = 8
	pageBytes    = 4096
)

// memoryMounts are for commands that have so much memory.
func memoryMounts(memory int64) []mount {
	size := func(bytes int64) string { return ",size=" + strconv.FormatInt(bytes, 10) }
	const closed = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []mount{
		{"run", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755" + size(min(memory/runPart, runMost))},
		{"pts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"shm", "/dev/shm", "tmpfs", closed, "mode=1777" + size(memory/shmPart)},
		{"mqueue", "/dev/mqueue", "mqueue", closed, ""},
		{"lock", "/run/lock", "tmpfs", closed, "mode=1777" + size(min(memory/lockPart, lockMost))},
	}
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return &os.PathError{Op: "mount", Path: m.target, Err: err}
		}
	}
	return nil
}

func boundSegments(memory int64) error {
	pages := strconv.FormatInt(memory/segmentsPart/pageBytes, 10)
	return os.WriteFile("/proc/sys/kernel/shmall", []byte(pages), 0)
}

// enterRoot mounts the disk and makes it the root of this process and all that follow.
func (v *vmm) enterRoot(filesystem *Filesystem) error {
	if err := v.mountDisk(0, filesystem, newRoot, 0, "discard"); err != nil {
		return err
	}
	return switchRoot()
}

// enterInspector mounts disks below /disks, to look at only: the root holds nothing else.
func (v *vmm) enterInspector(filesystems []Filesystem) error {
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("root", newRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=1m"); err != nil {
		return &os.PathError{Op: "mount", Path: newRoot, Err: err}
	}
	for _, folder := range moved {
		if err := os.Mkdir(newRoot+folder, 0o755); err != nil {
			return err
		}
	}
	for at := range filesystems {
		// A journal is replayed where the disk may be written to: it then shows what was on it when its machine was cut off.
		const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		target := newRoot + "/disks/" + strconv.Itoa(at)
		if err := v.mountDisk(at, &filesystems[at], target, flags, ""); err != nil {
			return err
		}
	}
	return switchRoot()
}

// mountDisk mounts the disk of a number when it holds what it should.
func (v *vmm) mountDisk(number int, filesystem *Filesystem, target string, flags uintptr, options string) error {
	device, err := v.disk(diskPrefix + strconv.Itoa(number))
	if err != nil {
		return err
	}
	if err := filesystem.verify(device); err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, target, "ext4", flags, options); err != nil {
		return &os.PathError{Op: "mount", Path: device, Err: err}
	}
	return nil
}

// standIn makes what root inside may have removed, or replaced: a folder to mount on.
func standIn(folder string) error {
	var status unix.Stat_t
	err := unix.Lstat(folder, &status)
	if err == nil && status.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err == nil {
		err = os.Remove(folder)
	}
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "replace", Path: folder, Err: err}
	}
	return os.Mkdir(folder, 0o755)
}

// switchRoot makes what is mounted on newRoot the root, and takes along what lies in none.
func switchRoot() error {
	for _, folder := range moved {
		if err := standIn(newRoot + folder); err != nil {
			return err
		}
		if err := unix.Mount(folder, newRoot+folder, "", unix.MS_MOVE, ""); err != nil {
			return &os.PathError{Op: "move", Path: folder, Err: err}
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return &os.PathError{Op: "move", Path: newRoot, Err: err}
	}
	return os.NewSyscallError("chroot", unix.Chroot("."))
}

// showAgent shows the agent as on every driver.
func showAgent() error {
	agent, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(agent)
	if err := os.MkdirAll(filepath.Dir(agentFile), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(agentFile, nil, 0o755); err != nil {
		return err
	}
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(agent, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: agentFile, Err: err}
	}
	if err := unix.MoveMount(agent, "", unix.AT_FDCWD, agentFile, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: agentFile, Err: err}
	}
	return nil
}

// linkDevices makes what devtmpfs leaves to others.
func linkDevices() error {
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		path := "/dev/" + name
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request))
}

// powerOff leaves a filesystem that needs no repair.
func powerOff() {
	// Whatever still keeps the disk busy was killed; should it not let go, the journal has everything.
	_ = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	unix.Sync()
	// What has no firmware cannot be switched off; the VMM ends instead of starting it again.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
