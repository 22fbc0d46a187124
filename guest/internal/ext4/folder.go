package ext4

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"

	"pyro.dev/agent/internal/tree"
)

const (
	entryHeadBytes  = 8
	entryAlignment  = 4
	tailBytes       = 12
	tailType        = 0xde
	indexRootAt     = 0x20
	indexNodeAt     = 8
	indexEntryBytes = 8
	// folderBytesLimit is where a folder holds more names than anybody takes.
	folderBytesLimit = 4 << 30
)

// Names lists a folder without "." and "..", sorted by bytes and none twice, or fails with tree.ErrTooManyNames.
func (i *Inode) Names(limit int) ([]tree.Name, error) {
	names := []tree.Name{}
	err := i.eachName(math.MaxInt64, func(name []byte, inode uint32) error {
		switch {
		case string(name) == "." || string(name) == "..":
			return nil
		case len(names) == limit:
			return tree.ErrTooManyNames
		}
		names = append(names, tree.Name{Name: string(name), Inode: uint64(inode)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, func(a, b tree.Name) int { return cmp.Compare(a.Name, b.Name) })
	for n := 1; n < len(names); n++ {
		if names[n-1].Name == names[n].Name {
			return nil, unreadable("the folder of inode %d has a name twice", i.Number)
		}
	}
	return names, nil
}

// errFound ends a walk through a folder.
var errFound = errors.New("found")

// Lookup gives the inode of a name; 0 where there is none. It holds no other names.
func (i *Inode) Lookup(name string) (uint32, error) { return i.lookup(name, math.MaxInt64) }

// Above gives the inode of the folder that it lies in, which is in its first block.
func (i *Inode) Above() (uint32, error) { return i.lookup("..", 1) }

func (i *Inode) lookup(name string, blocks int64) (uint32, error) {
	found := uint32(0)
	err := i.eachName(blocks, func(one []byte, inode uint32) error {
		if string(one) != name {
			return nil
		}
		found = inode
		return errFound
	})
	return found, err
}

func (i *Inode) damagedFolder() error { return unreadable("the folder of inode %d", i.Number) }

// eachName goes through so many blocks of a folder. Those of its index look like blocks without names.
func (i *Inode) eachName(blocks int64, each func(name []byte, inode uint32) error) error {
	f := i.filesystem
	if !i.IsFolder() || i.Size%f.blockBytes != 0 || i.Size > folderBytesLimit {
		return i.damagedFolder()
	}
	block, done := make([]byte, f.blockBytes), int64(0)
	err := i.Extents(func(e Extent) error {
		if e.Offset < 0 {
			return unreadable("the folder of inode %d has holes", i.Number)
		}
		for at := int64(0); at < e.Bytes; at += f.blockBytes {
			if done == blocks {
				return errFound
			}
			if err := f.read(block, e.Offset+at); err != nil {
				return err
			}
			if f.checked && !i.isFolderBlock(block, done == 0) {
				return unreadable("the checksum of the folder of inode %d", i.Number)
			}
			done++
			if err := i.namesIn(block, each); err != nil {
				return err
			}
		}
		return nil
	})
	if err == errFound {
		return nil
	}
	return err
}

func (i *Inode) namesIn(raw []byte, each func(name []byte, inode uint32) error) error {
	for at := 0; at < len(raw); {
		entry := raw[at:]
		if len(entry) < entryHeadBytes {
			return i.damagedFolder()
		}
		inode, size, length := little.Uint32(entry), int(little.Uint16(entry[4:])), int(entry[6])
		if size < entryHeadBytes || size%entryAlignment != 0 || size > len(entry) || entryHeadBytes+length > size {
			return i.damagedFolder()
		}
		at += size
		if inode == 0 {
			continue
		}
		name := entry[entryHeadBytes:][:length]
		if length == 0 || bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0 {
			return i.damagedFolder()
		}
		if err := each(name, inode); err != nil {
			return err
		}
	}
	return nil
}

// isFolderBlock compares the checksum.
func (i *Inode) isFolderBlock(raw []byte, isFirst bool) bool {
	if i.flags&flagIndex != 0 {
		if isFirst {
			return i.isIndexBlock(raw, indexRootAt)
		}
		if little.Uint32(raw) == 0 && int(little.Uint16(raw[4:])) == len(raw) {
			return i.isIndexBlock(raw, indexNodeAt)
		}
	}
	tail := raw[len(raw)-tailBytes:]
	isTail := little.Uint32(tail) == 0 && little.Uint16(tail[4:]) == tailBytes && tail[6] == 0 && tail[7] == tailType
	return isTail && little.Uint32(tail[8:]) == checksum(i.seed, raw[:len(raw)-tailBytes])
}

// isIndexBlock: the entries in use are summed, then the first half of the tail behind all that have room.
func (i *Inode) isIndexBlock(raw []byte, at int) bool {
	limit, count := int(little.Uint16(raw[at:])), int(little.Uint16(raw[at+2:]))
	tail := at + limit*indexEntryBytes
	if count > limit || tail+8 > len(raw) {
		return false
	}
	sum := checksum(i.seed, raw[:at+count*indexEntryBytes])
	sum = checksum(sum, raw[tail:][:4])
	sum = checksum(sum, []byte{0, 0, 0, 0})
	return sum == little.Uint32(raw[tail+4:])
}
