// Package ext4 reads a filesystem that a guest wrote, without a kernel: the host's must not meet what a guest made up, and
// a machine of its own for it costs a start and an emulated processor. All of it is hostile: every number is bounded before
// it is used, checksums are compared where the filesystem has them, no call takes more memory than the blocks at hand and
// the names of one folder, and what is not known is refused.
//
// Layout and names: https://docs.kernel.org/filesystems/ext4/
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrUnreadable is met where a filesystem is damaged, has to be recovered first, or uses what this package does not know.
// A kernel may be able to read it.
var ErrUnreadable = errors.New("the disk cannot be read from outside")

func unreadable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnreadable, fmt.Sprintf(format, args...))
}

const (
	superblockOffset = 1024
	superblockBytes  = 1024
	magic            = 0xef53
	crc32cType       = 1
	// RootInode is the number of the topmost folder.
	RootInode = 2

	incompatFiletype = 0x2
	incompatExtents  = 0x40
	incompat64Bit    = 0x80
	incompatFlexBg   = 0x200
	incompatEaInode  = 0x400
	incompatCsumSeed = 0x2000
	// incompatKnown are the features without which a reader would misunderstand what it sees. Not among them: a journal to
	// be replayed, data inside of inodes, encryption, folders that fold case, and all that is newer.
	incompatKnown = incompatFiletype | incompatExtents | incompat64Bit | incompatFlexBg | incompatEaInode | incompatCsumSeed

	roCompatMetadataCsum = 0x400
	// roCompatKnown: sparse superblocks, large files, huge files, checksums of groups, many links, large inodes, quotas,
	// checksums of metadata, projects, and files that are being removed. Not among them: clusters.
	roCompatKnown = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | roCompatMetadataCsum | 0x2000 | 0x10000

	inodeBytesLeast = 128
	groupBytes32    = 32
	groupBytes64    = 64
	// tableChunkBytes of an inode table are read at once: a folder's inodes mostly lie together.
	tableChunkBytes = 64 << 10
)

var (
	little     = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// checksum continues a CRC-32C as ext4 does, without the final inversion.
func checksum(seed uint32, data []byte) uint32 { return ^crc32.Update(^seed, castagnoli, data) }

// Filesystem is one disk. One goroutine at a time asks it for inodes.
type Filesystem struct {
	disk io.ReaderAt
	// UUID and Label as the superblock has them.
	UUID  [16]byte
	Label string

	blockBytes     int64
	blocks         int64
	firstBlock     int64
	inodes         uint32
	inodesPerGroup uint32
	inodeBytes     int64
	groupBytes     int64
	checked        bool
	seed           uint32

	// table is where the inodes of group lie, the one asked for last; 0 for none yet.
	table int64
	group uint32
	// chunk holds what of an inode table was read last; chunkAt is -1 for nothing.
	chunk   []byte
	chunkAt int64
}

// Open reads the superblock.
func Open(disk io.ReaderAt) (*Filesystem, error) {
	raw := make([]byte, superblockBytes)
	if _, err := disk.ReadAt(raw, superblockOffset); err != nil {
		return nil, unreadable("its superblock: %v", err)
	}
	if little.Uint16(raw[0x38:]) != magic {
		return nil, unreadable("no ext4 filesystem")
	}
	f := &Filesystem{disk: disk, chunkAt: -1}
	if err := f.takeFeatures(raw); err != nil {
		return nil, err
	}
	copy(f.UUID[:], raw[0x68:])
	label := raw[0x78:0x88]
	for len(label) > 0 && label[len(label)-1] == 0 {
		label = label[:len(label)-1]
	}
	f.Label = string(label)
	return f, f.takeShape(raw)
}

func (f *Filesystem) takeFeatures(raw []byte) error {
	incompat, roCompat := little.Uint32(raw[0x60:]), little.Uint32(raw[0x64:])
	if unknown := incompat &^ incompatKnown; unknown != 0 {
		return unreadable("features %#x", unknown)
	}
	if incompat&incompatFiletype == 0 {
		return unreadable("folders without types")
	}
	if unknown := roCompat &^ roCompatKnown; unknown != 0 {
		return unreadable("read-only features %#x", unknown)
	}
	f.groupBytes = groupBytes32
	if incompat&incompat64Bit != 0 {
		f.groupBytes = int64(little.Uint16(raw[0xfe:]))
	}
	if f.groupBytes < groupBytes32 || f.groupBytes > superblockBytes || f.groupBytes&(f.groupBytes-1) != 0 {
		return unreadable("group descriptors of %d bytes", f.groupBytes)
	}
	if f.checked = roCompat&roCompatMetadataCsum != 0; !f.checked {
		return nil
	}
	if raw[0x175] != crc32cType {
		return unreadable("checksums of type %d", raw[0x175])
	}
	if little.Uint32(raw[0x3fc:]) != checksum(^uint32(0), raw[:0x3fc]) {
		return unreadable("the checksum of its superblock")
	}
	f.seed = checksum(^uint32(0), raw[0x68:0x78])
	if incompat&incompatCsumSeed != 0 {
		f.seed = little.Uint32(raw[0x270:])
	}
	return nil
}

func (f *Filesystem) takeShape(raw []byte) error {
	shift := little.Uint32(raw[0x18:])
	// What x86 kernels mount.
	if shift > 2 {
		return unreadable("blocks of 2^%d KiB", shift)
	}
	f.blockBytes = superblockOffset << shift
	f.blocks = int64(little.Uint32(raw[0x4:]))
	if f.groupBytes >= groupBytes64 {
		f.blocks |= int64(little.Uint32(raw[0x150:])) << 32
	}
	f.firstBlock = int64(little.Uint32(raw[0x14:]))
	f.inodes = little.Uint32(raw[0x0:])
	f.inodesPerGroup = little.Uint32(raw[0x28:])
	f.inodeBytes = int64(little.Uint16(raw[0x58:]))
	isPower := f.inodeBytes&(f.inodeBytes-1) == 0
	if f.blocks > 1<<48 || f.firstBlock > 1 || f.inodesPerGroup == 0 || f.inodeBytes < inodeBytesLeast || f.inodeBytes > f.blockBytes || !isPower {
		return unreadable("the shape of its superblock")
	}
	return nil
}

// read fills the buffer from a byte of the disk.
func (f *Filesystem) read(buffer []byte, at int64) error {
	if at < 0 || at+int64(len(buffer)) > f.blocks*f.blockBytes {
		return unreadable("a block beyond its end")
	}
	if _, err := f.disk.ReadAt(buffer, at); err != nil {
		return unreadable("%v", err)
	}
	return nil
}

// tableOf gives the byte of the disk where the inode table of a group begins.
func (f *Filesystem) tableOf(group uint32) (int64, error) {
	if f.table > 0 && f.group == group {
		return f.table, nil
	}
	raw := make([]byte, f.groupBytes)
	if err := f.read(raw, (f.firstBlock+1)*f.blockBytes+int64(group)*f.groupBytes); err != nil {
		return 0, err
	}
	if f.checked {
		var number [4]byte
		little.PutUint32(number[:], group)
		sum := checksum(checksum(f.seed, number[:]), raw[:0x1e])
		sum = checksum(sum, []byte{0, 0})
		sum = checksum(sum, raw[0x20:])
		if uint16(sum) != little.Uint16(raw[0x1e:]) {
			return 0, unreadable("the checksum of group %d", group)
		}
	}
	block := int64(little.Uint32(raw[0x8:]))
	if f.groupBytes >= groupBytes64 {
		block |= int64(little.Uint32(raw[0x28:])) << 32
	}
	if block <= f.firstBlock || block > f.blocks {
		return 0, unreadable("the inode table of group %d", group)
	}
	f.table, f.group = block*f.blockBytes, group
	return f.table, nil
}

// rawInode is valid until the next call.
func (f *Filesystem) rawInode(number uint32) ([]byte, error) {
	if number == 0 || number > f.inodes {
		return nil, unreadable("inode %d of %d", number, f.inodes)
	}
	group, index := (number-1)/f.inodesPerGroup, (number-1)%f.inodesPerGroup
	table, err := f.tableOf(group)
	if err != nil {
		return nil, err
	}
	at := table + int64(index)*f.inodeBytes
	if f.chunkAt < 0 || at < f.chunkAt || at+f.inodeBytes > f.chunkAt+int64(len(f.chunk)) {
		end := min(table+int64(f.inodesPerGroup)*f.inodeBytes, f.blocks*f.blockBytes)
		size := min(end-at, tableChunkBytes)
		if size < f.inodeBytes {
			return nil, unreadable("inode %d lies beyond its end", number)
		}
		if int64(cap(f.chunk)) < size {
			f.chunk = make([]byte, tableChunkBytes)
		}
		f.chunk, f.chunkAt = f.chunk[:size], -1
		if err := f.read(f.chunk, at); err != nil {
			return nil, err
		}
		f.chunkAt = at
	}
	return f.chunk[at-f.chunkAt:][:f.inodeBytes], nil
}
