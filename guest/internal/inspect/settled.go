package inspect

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clockTick is more than the grain of the times that filesystems write.
const clockTick = 20 * time.Millisecond

// firstInode is the number of the root folder of every btrfs subvolume.
const firstInode = 256

// btrfsSubvolumeInfo is BTRFS_IOC_GET_SUBVOL_INFO, struct btrfs_ioctl_get_subvol_info_args.
const btrfsSubvolumeInfo = 2<<30 | unsafe.Sizeof(subvolumeInfo{})<<16 | 0x94<<8 | 60

type subvolumeInfo struct {
	_       [272 + 4*8 + 3*16 + 4*8]byte
	changed btrfsTime
	created btrfsTime
	_       [2]btrfsTime
	_       [8]uint64
}

type btrfsTime struct {
	seconds     uint64
	nanoseconds uint32
	_           uint32
}

// settledBefore tells from when on a change of a file that both volumes once shared shows in its change time; 0 when
// they share nothing.
//
// Snapshots of btrfs keep inode numbers and times, and a subvolume never uses a number twice. A file that has the same
// number, size, modification and change time on both sides, and whose change time is older than both snapshots, is the
// same: whatever was written after the older snapshot was taken got a later change time, for the kernel sets it to the
// present at every change, and nobody inside a sandbox sets the clock (that takes a capability of the host's own user
// namespace). Times are coarse: what changed in the tick before the snapshot may change once more in that same tick, so
// it is compared in full. Should the host's clock be set back and hit the very nanosecond, a change of the same size
// stays unseen: a guest cannot bring that about, and what is not seen is not handed to anybody.
func settledBefore(volumes ...string) int64 {
	settled := int64(0)
	for _, volume := range volumes {
		created, ok := createdAt(volume)
		if !ok {
			return 0
		}
		if settled == 0 || created < settled {
			settled = created
		}
	}
	return settled - int64(clockTick)
}

// createdAt is when the subvolume was made, in nanoseconds.
func createdAt(volume string) (int64, bool) {
	fd, err := unix.Open(volume, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var system unix.Statfs_t
	var stat unix.Stat_t
	if unix.Fstatfs(fd, &system) != nil || system.Type != unix.BTRFS_SUPER_MAGIC ||
		unix.Fstat(fd, &stat) != nil || stat.Ino != firstInode {
		return 0, false
	}
	var info subvolumeInfo
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), btrfsSubvolumeInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return 0, false
	}
	return int64(info.created.seconds)*int64(time.Second) + int64(info.created.nanoseconds), true
}
