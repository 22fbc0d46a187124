package volumes

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	typeInodeItem   = 1
	typeInodeRef    = 12
	typeInodeExtref = 13

	// ownTree is the tree of the subvolume that the descriptor lies in.
	ownTree = 0

	// touchedLimit bounds the inodes that are told apart; with more of them it is no use to know which.
	touchedLimit = 250_000
	// searchedLimitBytes bounds what is read of the trees to find them.
	searchedLimitBytes = 1 << 30
)

// Offsets in struct btrfs_inode_item, and one more in struct btrfs_root_item.
const (
	inodeTransaction = 8
	inodeItemBytes   = 160

	rootOtransid = 303
)

// Kinship is what btrfs knows of the difference between two of its subvolumes.
type Kinship struct {
	// OlderMadeAt is when the older of both was made, in nanoseconds since 1970.
	OlderMadeAt int64
	// IsNarrow tells that Touched is known.
	IsNarrow bool
	// Touched holds, sorted, the numbers of the inodes that may differ and of the folders on the way to them. An inode
	// with another number is the same on both sides: metadata, content, and, of a folder, everything below.
	Touched []uint64
}

// errTooMuch ends a search that would not pay.
var errTooMuch = errors.New("too much has changed")

// FindKinship compares two subvolumes by what the filesystem keeps of their history; nil when they are not subvolumes of
// one filesystem.
//
// A snapshot shares everything with its source up to the transaction that made it, and every inode carries the
// transaction that last changed it. Lines of snapshots that meet in one subvolume are therefore equal but for inodes
// changed, on either line, since the earlier of the transactions in which they left it. Read-only subvolumes hold no
// other subvolume, so that a number means one inode.
func FindKinship(from, to string) (*Kinship, error) {
	a, infoA, err := openSnapshot(from)
	if a == nil || err != nil {
		return nil, err
	}
	defer unix.Close(a.fd)
	b, infoB, err := openSnapshot(to)
	if b == nil || err != nil {
		return nil, err
	}
	defer unix.Close(b.fd)
	var fsA, fsB fsInfoArgs
	if err := errors.Join(ioctl(a.fd, iocFsInfo, &fsA), ioctl(b.fd, iocFsInfo, &fsB)); err != nil {
		return nil, failure("look at the filesystem of", from, err)
	}
	if fsA.fsid != fsB.fsid {
		return nil, nil
	}
	kin := &Kinship{OlderMadeAt: min(madeAt(infoA), madeAt(infoB))}
	if infoA.flags&infoB.flags&1 == 0 {
		return kin, nil
	}
	since, err := sharedUntil(a.fd, infoA, infoB)
	if err != nil {
		return kin, failure("read the history of", to, err)
	}
	if since == 0 {
		return kin, nil
	}
	touched := touchedSet{}
	if since != math.MaxUint64 {
		for _, side := range []*searcher{a, b} {
			if err := touched.add(side, since); err != nil {
				if errors.Is(err, errTooMuch) {
					err = nil
				}
				return kin, failure("look for changes in", to, err)
			}
		}
	}
	kin.IsNarrow, kin.Touched = true, touched.sorted()
	return kin, nil
}

// openSnapshot gives nil for what is no subvolume.
func openSnapshot(path string) (*searcher, *subvolInfoArgs, error) {
	fd, err := openSubvolume(path)
	if err != nil && asOpError(err).Code == codeNotFound {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := subvolumeInfo(fd)
	if err != nil {
		unix.Close(fd)
		return nil, nil, failure("look at subvolume", path, err)
	}
	return &searcher{fd: fd, limit: searchedLimitBytes}, info, nil
}

func madeAt(info *subvolInfoArgs) int64 {
	return int64(info.otime.seconds)*int64(time.Second) + int64(info.otime.nanoseconds)
}

// ancestor is a subvolume that a line of snapshots comes from, and the transaction up to which both are the same.
type ancestor struct {
	uuid  [16]byte
	until uint64
}

// sharedUntil is the transaction up to which both have one history; 0 when that is not known, the largest number when
// they are one and the same.
func sharedUntil(fd int, a, b *subvolInfoArgs) (uint64, error) {
	origins := map[[16]byte]ancestor{}
	all := span{rootTree, firstFreeObject, lastFreeObject, typeRootItem, typeRootItem}
	err := searchTree(fd, all, func(found item) error {
		if len(found.body) >= rootItemBytes {
			origins[[16]byte(found.body[rootUUID:])] = ancestor{
				uuid:  [16]byte(found.body[rootParentUUID:]),
				until: binary.LittleEndian.Uint64(found.body[rootOtransid:]),
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	lineA := line(a.uuid, origins)
	for _, one := range line(b.uuid, origins) {
		at := slices.IndexFunc(lineA, func(other ancestor) bool { return other.uuid == one.uuid })
		if at >= 0 {
			return min(one.until, lineA[at].until), nil
		}
	}
	return 0, nil
}

// line goes back from one subvolume as far as its origins are known; the last may be deleted already.
func line(uuid [16]byte, origins map[[16]byte]ancestor) []ancestor {
	line := []ancestor{{uuid, math.MaxUint64}}
	for len(line) <= len(origins) {
		origin, known := origins[line[len(line)-1].uuid]
		if !known || origin.uuid == [16]byte{} {
			break
		}
		line = append(line, origin)
	}
	return line
}

// touchedSet tells the inodes whose folders were followed up to the top from those that were not yet.
type touchedSet map[uint64]bool

func (t touchedSet) sorted() []uint64 {
	numbers := make([]uint64, 0, len(t))
	for number := range t {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
}

// add finds what changed in one subvolume since a transaction, and the folders above it there.
func (t touchedSet) add(side *searcher, since uint64) error {
	var pending []uint64
	note := func(number uint64) error {
		if number < firstFreeObject || number > lastFreeObject {
			return nil
		}
		t[number] = true
		pending = append(pending, number)
		if len(t) > touchedLimit {
			return errTooMuch
		}
		return nil
	}
	changed := span{ownTree, firstFreeObject, lastFreeObject, typeInodeItem, typeInodeItem}
	err := side.since(since+1, changed, func(found item) error {
		if len(found.body) < inodeItemBytes || binary.LittleEndian.Uint64(found.body[inodeTransaction:]) <= since {
			return nil
		}
		return note(found.object)
	})
	// seen keeps what was followed on this side: the other may have another folder above the same number.
	seen := map[uint64]bool{}
	for err == nil && len(pending) > 0 {
		number := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if seen[number] {
			continue
		}
		seen[number] = true
		err = side.parents(number, note)
	}
	return err
}

// parents calls note for every folder that has a name of the inode.
func (s *searcher) parents(number uint64, note func(uint64) error) error {
	refs := span{ownTree, number, number, typeInodeRef, typeInodeExtref}
	return s.since(0, refs, func(found item) error {
		if found.kind == typeInodeRef {
			return note(found.offset)
		}
		if found.kind != typeInodeExtref {
			return nil
		}
		// Extended ones hold the folder in each of their names: u64 folder, u64 index, u16 length, name.
		for body := found.body; len(body) >= 18; {
			if err := note(binary.LittleEndian.Uint64(body)); err != nil {
				return err
			}
			body = body[min(len(body), 18+int(binary.LittleEndian.Uint16(body[16:]))):]
		}
		return nil
	})
}
