package volumes

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The numbers of <linux/btrfs.h>, written the way the header writes them (the layout of amd64 and arm64).
const (
	dirNone  = 0
	dirWrite = 1
	dirRead  = 2

	btrfsMagic = 0x94
)

func ioc(direction, number, size uintptr) uintptr {
	return direction<<30 | size<<16 | btrfsMagic<<8 | number
}

var (
	iocResize         = ioc(dirWrite, 3, unsafe.Sizeof(volArgs{}))
	iocSnapDestroy    = ioc(dirWrite, 15, unsafe.Sizeof(volArgs{}))
	iocTreeSearchV2   = ioc(dirRead|dirWrite, 17, unsafe.Sizeof(searchArgs{}))
	iocInodeLookup    = ioc(dirRead|dirWrite, 18, unsafe.Sizeof(lookupArgs{}))
	iocSpaceInfo      = ioc(dirRead|dirWrite, 20, unsafe.Sizeof(spaceArgs{}))
	iocSnapCreateV2   = ioc(dirWrite, 23, unsafe.Sizeof(volArgsV2{}))
	iocSubvolCreateV2 = ioc(dirWrite, 24, unsafe.Sizeof(volArgsV2{}))
	iocSubvolGetFlags = ioc(dirRead, 25, 8)
	iocSubvolSetFlags = ioc(dirWrite, 26, 8)
	iocDevInfo        = ioc(dirRead|dirWrite, 30, unsafe.Sizeof(devArgs{}))
	iocFsInfo         = ioc(dirRead, 31, unsafe.Sizeof(fsInfoArgs{}))
	iocQuotaCtl       = ioc(dirRead|dirWrite, 40, unsafe.Sizeof(quotaCtlArgs{}))
	iocQgroupAssign   = ioc(dirWrite, 41, unsafe.Sizeof(qgroupAssignArgs{}))
	iocQgroupCreate   = ioc(dirWrite, 42, unsafe.Sizeof(qgroupCreateArgs{}))
	iocQgroupLimit    = ioc(dirRead, 43, unsafe.Sizeof(qgroupLimitArgs{}))
	iocSnapDestroyV2  = ioc(dirWrite, 63, unsafe.Sizeof(volArgsV2{}))
	iocSync           = ioc(dirNone, 8, 0)
	iocSubvolInfo     = ioc(dirRead, 60, unsafe.Sizeof(subvolInfoArgs{}))
)

const (
	subvolReadonly      = 1 << 1
	subvolQgroupInherit = 1 << 2

	// subvolByID makes the name field of volArgsV2 a subvolume id.
	subvolByID = 1 << 4

	quotaEnableSimple = 4
)

type volArgs struct {
	fd   int64
	name [4088]byte
}

type volArgsV2 struct {
	fd      int64
	transid uint64
	flags   uint64
	// size and inherit are the first half of a union of four words.
	size    uint64
	inherit uint64
	_       [2]uint64
	name    [4040]byte
}

// qgroupInherit has room for inheritLimit parents behind its fixed part.
type qgroupInherit struct {
	flags, numQgroups, numRefCopies, numExclCopies uint64
	limit                                          qgroupLimitValues
	qgroups                                        [inheritLimit]uint64
}

// inheritLimit bounds the parent groups of one new subvolume.
const inheritLimit = 8

type qgroupLimitValues struct {
	flags, maxReferenced, maxExclusive, reservedReferenced, reservedExclusive uint64
}

type qgroupLimitArgs struct {
	qgroup uint64
	limit  qgroupLimitValues
}

const limitMaxReferenced = 1

type qgroupAssignArgs struct{ assign, source, target uint64 }
type qgroupCreateArgs struct{ create, qgroup uint64 }
type quotaCtlArgs struct{ command, status uint64 }

type lookupArgs struct {
	treeID   uint64
	objectID uint64
	name     [4080]byte
}

type spaceArgs struct{ slots, total uint64 }
type spaceInfo struct{ flags, total, used uint64 }

const spaceInfoLimit = 32

type spaceArgsFull struct {
	spaceArgs
	spaces [spaceInfoLimit]spaceInfo
}

type devArgs struct {
	deviceID  uint64
	uuid      [16]byte
	bytesUsed uint64
	bytes     uint64
	_         [379]uint64
	path      [1024]byte
}

type fsInfoArgs struct {
	maxID      uint64
	numDevices uint64
	fsid       [16]byte
	_          [124 * 8]byte
}

type subvolTime struct {
	seconds     uint64
	nanoseconds uint32
	_           uint32
}

type subvolInfoArgs struct {
	treeID       uint64
	name         [256]byte
	parentID     uint64
	dirID        uint64
	generation   uint64
	flags        uint64
	uuid         [16]byte
	parentUUID   [16]byte
	receivedUUID [16]byte
	ctransid     uint64
	otransid     uint64
	stransid     uint64
	rtransid     uint64
	ctime        subvolTime
	otime        subvolTime
	stime        subvolTime
	rtime        subvolTime
	_            [8]uint64
}

type searchKey struct {
	treeID                      uint64
	minObject, maxObject        uint64
	minOffset, maxOffset        uint64
	minTransaction, maxTransact uint64
	minType, maxType            uint32
	items                       uint32
	_                           uint32
	_                           [4]uint64
}

type searchArgs struct {
	key     searchKey
	bufSize uint64
}

const searchBufferBytes = 64 << 10

type searchArgsFull struct {
	searchArgs
	buffer [searchBufferBytes]byte
}

const searchHeaderBytes = 32

func ioctl[T any](fd int, number uintptr, arg *T) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), number, uintptr(unsafe.Pointer(arg)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		default:
			return errno
		}
	}
}
