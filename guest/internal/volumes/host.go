package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// simpleQuotaKernel is the first kernel with simple quotas.
var simpleQuotaKernel = [2]int{6, 7}

type hostProbeResult struct {
	LoopControl  bool   `json:"loopControl"`
	Btrfs        bool   `json:"btrfs"`
	SimpleQuotas bool   `json:"simpleQuotas"`
	Kernel       string `json:"kernel"`
}

func hostProbe(_ context.Context, _ *server, _ *noInput) (hostProbeResult, error) {
	var result hostProbeResult
	control, err := unix.Open(loopControl, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(control)
		result.LoopControl = true
	}
	// A kernel that has btrfs, or loads it now, gets as far as looking at the missing source.
	err = unix.Mount("none", "/", "btrfs", unix.MS_RDONLY, "")
	result.Btrfs = !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EPERM)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return result, err
	}
	result.Kernel = unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(result.Kernel, "%d.%d", &major, &minor); err != nil {
		return result, failure("read", "kernel release "+result.Kernel, err)
	}
	result.SimpleQuotas = result.Btrfs && (major > simpleQuotaKernel[0] ||
		major == simpleQuotaKernel[0] && minor >= simpleQuotaKernel[1])
	return result, nil
}

var filesystemNames = map[uint32]string{
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.FUSE_SUPER_MAGIC:      "fuse",
	unix.V9FS_MAGIC:            "9p",
	0x2fc12fc1:                 "zfs",
	0xca451a4e:                 "bcachefs",
}

type statfsResult struct {
	Type           string `json:"type"`
	ReadOnly       bool   `json:"readOnly"`
	BytesTotal     uint64 `json:"bytesTotal"`
	BytesFree      uint64 `json:"bytesFree"`
	BytesAvailable uint64 `json:"bytesAvailable"`
	InodesTotal    uint64 `json:"inodesTotal"`
	InodesFree     uint64 `json:"inodesFree"`
}

func statFilesystem(_ context.Context, _ *server, in *pathInput) (statfsResult, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(in.Path, &stat); err != nil {
		return statfsResult{}, failure("statfs", in.Path, err)
	}
	name, known := filesystemNames[uint32(stat.Type)]
	if !known {
		name = fmt.Sprintf("0x%x", uint32(stat.Type))
	}
	block := uint64(stat.Bsize)
	return statfsResult{
		Type:           name,
		ReadOnly:       stat.Flags&unix.ST_RDONLY != 0,
		BytesTotal:     stat.Blocks * block,
		BytesFree:      stat.Bfree * block,
		BytesAvailable: stat.Bavail * block,
		InodesTotal:    stat.Files,
		InodesFree:     stat.Ffree,
	}, nil
}

type reflinkResult struct {
	Reflink bool `json:"reflink"`
}

func reflinkProbe(_ context.Context, _ *server, in *pathInput) (reflinkResult, error) {
	source, err := nameless(in.Path)
	if err != nil {
		return reflinkResult{}, err
	}
	defer source.Close()
	if _, err := source.WriteString(strings.Repeat("pyro", 4096)); err != nil {
		return reflinkResult{}, failure("write to", in.Path, err)
	}
	target, err := nameless(in.Path)
	if err != nil {
		return reflinkResult{}, err
	}
	defer target.Close()
	err = unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
	return reflinkResult{Reflink: err == nil}, nil
}

// nameless makes a temporary file that no crash leaves behind.
func nameless(folder string) (*os.File, error) {
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), folder), nil
	}
	if err != unix.EOPNOTSUPP && err != unix.EISDIR {
		return nil, failure("make a temporary file in", folder, err)
	}
	file, err := os.CreateTemp(folder, ".probe-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
