package ext4

import (
	"bytes"
	"time"
)

const (
	flagIndex      = 0x1000
	flagEncrypt    = 0x800
	flagExtents    = 0x80000
	flagVerity     = 0x100000
	flagEaInode    = 0x200000
	flagInlineData = 0x10000000
	flagsUnknown   = flagEncrypt | flagVerity | flagEaInode | flagInlineData

	blockFieldBytes = 60
	// extraForChecksum and its like are how far the larger inode must reach to hold the field.
	extraForChecksum = 4
	extraForChanged  = 8
	extraForModified = 12

	// Types are the upper bits of a mode.
	typeMask    = 0xf000
	typeFolder  = 0x4000
	typeFile    = 0x8000
	typeSymlink = 0xa000
	typeChar    = 0x2000
	typeBlock   = 0x6000

	linkBytesLimit = 4096
)

// Inode is one file, folder or other node. It never changes: several goroutines may read what belongs to it.
type Inode struct {
	Number uint32
	// Mode holds the type as stat(2) does.
	Mode     uint32
	Links    uint32
	UID, GID uint32
	Size     int64
	Modified time.Time
	// Changed is when anything of it did.
	Changed time.Time

	filesystem *Filesystem
	flags      uint32
	// field is what i_block holds: the root of a tree of extents, block numbers, or a short symlink.
	field [blockFieldBytes]byte
	// seed of the checksums of what belongs to it.
	seed uint32
	// extra are the attributes in the inode itself; nil where there are none.
	extra []byte
	// attributeBlock holds those that have no room there; 0 for none.
	attributeBlock int64
}

// IsFolder tells whether it has names below it.
func (i *Inode) IsFolder() bool { return i.Mode&typeMask == typeFolder }

// IsFile tells whether it is a regular file.
func (i *Inode) IsFile() bool { return i.Mode&typeMask == typeFile }

// IsSymlink tells whether it has a target.
func (i *Inode) IsSymlink() bool { return i.Mode&typeMask == typeSymlink }

// Inode reads one by its number.
func (f *Filesystem) Inode(number uint32) (*Inode, error) {
	raw, err := f.rawInode(number)
	if err != nil {
		return nil, err
	}
	i := &Inode{
		Number: number, filesystem: f,
		Mode:  uint32(little.Uint16(raw[0x0:])),
		UID:   uint32(little.Uint16(raw[0x2:])) | uint32(little.Uint16(raw[0x78:]))<<16,
		GID:   uint32(little.Uint16(raw[0x18:])) | uint32(little.Uint16(raw[0x7a:]))<<16,
		Links: uint32(little.Uint16(raw[0x1a:])),
		Size:  int64(little.Uint32(raw[0x4:])) | int64(little.Uint32(raw[0x6c:]))<<32,
		flags: little.Uint32(raw[0x20:]),
	}
	copy(i.field[:], raw[0x28:])
	extra := 0
	if f.inodeBytes > inodeBytesLeast {
		extra = int(little.Uint16(raw[0x80:]))
	}
	if int64(extra) > f.inodeBytes-inodeBytesLeast {
		return nil, unreadable("the size of inode %d", number)
	}
	if err := i.check(raw, extra); err != nil {
		return nil, err
	}
	i.Changed = timeOf(raw[0x0c:], raw[inodeBytesLeast:][:extra], extraForChanged)
	i.Modified = timeOf(raw[0x10:], raw[inodeBytesLeast:][:extra], extraForModified)
	i.takeAttributes(raw, extra)
	switch {
	case i.Links == 0 || i.Mode&typeMask == 0:
		return nil, unreadable("inode %d is free and has a name", number)
	case i.flags&flagsUnknown != 0:
		return nil, unreadable("flags %#x of inode %d", i.flags, number)
	case i.Size < 0 || i.Size > blocksLimit*f.blockBytes:
		return nil, unreadable("the size of inode %d", number)
	}
	return i, nil
}

// timeOf reads seconds, which are signed. Where the larger inode reaches to end, two bits more of them lie there below the
// nanoseconds.
func timeOf(low, extra []byte, end int) time.Time {
	seconds, nanoseconds := int64(int32(little.Uint32(low))), int64(0)
	if len(extra) >= end {
		more := little.Uint32(extra[end-4:])
		seconds += int64(more&3) << 32
		nanoseconds = int64(more >> 2)
	}
	return time.Unix(seconds, nanoseconds)
}

// Device is the number of a block or character device; 0, 0 of anything else.
func (i *Inode) Device() (major, minor uint32) {
	if kind := i.Mode & typeMask; kind != typeChar && kind != typeBlock {
		return 0, 0
	}
	if short := little.Uint32(i.field[:]); short != 0 {
		return short >> 8 & 0xff, short & 0xff
	}
	long := little.Uint32(i.field[4:])
	return long >> 8 & 0xfff, long&0xff | long>>12&0xfff00
}

func (i *Inode) check(raw []byte, extra int) error {
	if !i.filesystem.checked {
		return nil
	}
	var number [4]byte
	little.PutUint32(number[:], i.Number)
	i.seed = checksum(checksum(i.filesystem.seed, number[:]), raw[0x64:0x68])
	none := []byte{0, 0}
	sum := checksum(i.seed, raw[:0x7c])
	sum = checksum(sum, none)
	sum = checksum(sum, raw[0x7e:inodeBytesLeast])
	want, mask := uint32(little.Uint16(raw[0x7c:])), uint32(0xffff)
	if rest := raw[inodeBytesLeast:]; len(rest) > 0 {
		if extra >= extraForChecksum {
			want, mask = want|uint32(little.Uint16(rest[2:]))<<16, ^uint32(0)
			sum = checksum(sum, rest[:2])
			sum = checksum(sum, none)
			rest = rest[4:]
		}
		sum = checksum(sum, rest)
	}
	if sum&mask != want {
		return unreadable("the checksum of inode %d", i.Number)
	}
	return nil
}

// Target is where a symlink leads.
func (i *Inode) Target() (string, error) {
	if !i.IsSymlink() || i.Size == 0 || i.Size >= linkBytesLimit {
		return "", unreadable("the symlink of inode %d", i.Number)
	}
	target := i.field[:min(i.Size, blockFieldBytes)]
	if i.flags&flagExtents != 0 || i.Size >= blockFieldBytes {
		target = make([]byte, 0, i.Size)
		err := i.Extents(func(e Extent) error {
			if e.Offset < 0 {
				return unreadable("the symlink of inode %d has holes", i.Number)
			}
			at := len(target)
			target = target[:at+int(e.Bytes)]
			return i.filesystem.read(target[at:], e.Offset)
		})
		if err != nil {
			return "", err
		}
	}
	if bytes.IndexByte(target, 0) >= 0 {
		return "", unreadable("the symlink of inode %d", i.Number)
	}
	return string(target), nil
}
