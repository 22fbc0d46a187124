package volumes

import (
	"context"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allocateStepBytes is what one fallocate call asks for, so that a cancel is seen in time.
const allocateStepBytes = 1 << 30

type sizeInput struct {
	header
	Path      string  `json:"path"`
	SizeBytes *uint64 `json:"sizeBytes"`
}

func (in sizeInput) check() error { return checkPath("path", in.Path) }

type fileResult struct {
	SizeBytes      uint64 `json:"sizeBytes"`
	AllocatedBytes uint64 `json:"allocatedBytes"`
	Device         uint64 `json:"device"`
	Inode          uint64 `json:"inode"`
}

func fileIdentity(_ context.Context, _ *server, in *pathInput) (fileResult, error) {
	_, stat, err := keyOf(in.Path)
	return identityOf(&stat), err
}

func identityOf(stat *unix.Stat_t) fileResult {
	return fileResult{
		SizeBytes:      uint64(stat.Size),
		AllocatedBytes: uint64(stat.Blocks) * 512,
		Device:         stat.Dev,
		Inode:          stat.Ino,
	}
}

func fileAllocate(cx context.Context, _ *server, in *sizeInput) (fileResult, error) {
	if in.SizeBytes == nil || *in.SizeBytes == 0 || *in.SizeBytes > 1<<62 {
		return fileResult{}, invalid("sizeBytes: out of range")
	}
	fd, err := unix.Open(in.Path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fileResult{}, failure("open", in.Path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fileResult{}, failure("stat", in.Path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileResult{}, invalid(in.Path + " is not a regular file")
	}
	former, wanted := stat.Size, int64(*in.SizeBytes)
	for at := int64(0); at < wanted && err == nil; at += allocateStepBytes {
		if err = cx.Err(); err == nil {
			err = unix.Fallocate(fd, 0, at, min(allocateStepBytes, wanted-at))
		}
	}
	if err != nil {
		// Space beyond the former size goes back; what was a hole before stays filled.
		if back := unix.Ftruncate(fd, former); back != nil {
			err = fmt.Errorf("%w (and giving back: %w)", err, back)
		}
		return fileResult{}, failure("allocate", in.Path, err)
	}
	if err := unix.Fsync(fd); err != nil {
		return fileResult{}, failure("fsync", in.Path, err)
	}
	if err := unix.Fstat(fd, &stat); err != nil {
		return fileResult{}, failure("stat", in.Path, err)
	}
	return identityOf(&stat), nil
}

func filesystemResize(_ context.Context, _ *server, in *sizeInput) (sizeResult, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return sizeResult{}, err
	}
	defer unix.Close(fd)
	args := &volArgs{}
	text := "max"
	if in.SizeBytes != nil {
		text = fmt.Sprint(*in.SizeBytes)
	}
	copy(args.name[:], text)
	if err := ioctl(fd, iocResize, args); err != nil {
		return sizeResult{}, failure("resize the filesystem at", in.Path, err)
	}
	size, _, err := deviceSpace(fd)
	return sizeResult{SizeBytes: size}, failure("look at the filesystem at", in.Path, err)
}

type spaceResult struct {
	TotalBytes uint64 `json:"totalBytes"`
	UsedBytes  uint64 `json:"usedBytes"`
}

type filesystemResult struct {
	UUID             string      `json:"uuid"`
	SizeBytes        uint64      `json:"sizeBytes"`
	UnallocatedBytes uint64      `json:"unallocatedBytes"`
	Data             spaceResult `json:"data"`
	Metadata         spaceResult `json:"metadata"`
	System           spaceResult `json:"system"`
}

// Block group types of btrfs, in the flags of its space info.
const (
	groupData     = 1 << 0
	groupSystem   = 1 << 1
	groupMetadata = 1 << 2
)

func filesystemInfo(_ context.Context, _ *server, in *pathInput) (filesystemResult, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return filesystemResult{}, err
	}
	defer unix.Close(fd)
	info := &fsInfoArgs{}
	if err := ioctl(fd, iocFsInfo, info); err != nil {
		return filesystemResult{}, failure("look at the filesystem at", in.Path, err)
	}
	result := filesystemResult{UUID: formatUUID(info.fsid)}
	size, used, err := deviceSpace(fd)
	if err != nil {
		return filesystemResult{}, failure("look at the devices of", in.Path, err)
	}
	result.SizeBytes, result.UnallocatedBytes = size, size-min(used, size)
	args := &spaceArgsFull{spaceArgs: spaceArgs{slots: spaceInfoLimit}}
	if err := ioctl(fd, iocSpaceInfo, (*spaceArgs)(unsafe.Pointer(args))); err != nil {
		return filesystemResult{}, failure("look at the space of", in.Path, err)
	}
	for _, space := range args.spaces[:min(args.total, spaceInfoLimit)] {
		part := spaceResult{TotalBytes: space.total, UsedBytes: space.used}
		switch {
		case space.flags&groupData != 0:
			result.Data = part
		case space.flags&groupMetadata != 0:
			result.Metadata = part
		case space.flags&groupSystem != 0:
			result.System = part
		}
	}
	return result, nil
}

// deviceSpace sums size and allocation over all devices of a btrfs.
func deviceSpace(fd int) (size, used uint64, err error) {
	info := &fsInfoArgs{}
	if err := ioctl(fd, iocFsInfo, info); err != nil {
		return 0, 0, err
	}
	for id := uint64(1); id <= info.maxID; id++ {
		device := &devArgs{deviceID: id}
		err := ioctl(fd, iocDevInfo, device)
		if err == unix.ENODEV {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		size += device.bytes
		used += device.bytesUsed
	}
	return size, used, nil
}

func filesystemSync(_ context.Context, _ *server, in *pathInput) (empty, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return empty{}, err
	}
	defer unix.Close(fd)
	return empty{}, failure("sync the filesystem at", in.Path, unix.Syncfs(fd))
}
