package ext4

import (
	"bytes"
	"cmp"
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
	// sizeInBlocks of a folder beyond which it holds more names than anybody takes.
	folderBytesLimit = 4 << 30
)

// Folder is what a folder holds.
type Folder struct {
	// Above is the number of the folder that it lies in; the root's is its own.
	Above uint32
	// Names without "." and "..", sorted by bytes; none is twice there.
	Names []tree.Name
}

// Folder lists a folder, or fails with tree.ErrTooManyNames.
func (i *Inode) Folder(limit int) (*Folder, error) {
	f := i.filesystem
	if !i.IsFolder() || i.Size%f.blockBytes != 0 || i.Size > folderBytesLimit {
		return nil, unreadable("the folder of inode %d", i.Number)
	}
	l := listing{inode: i, limit: limit}
	block := make([]byte, f.blockBytes)
	err := i.Extents(func(e Extent) error {
		if e.Offset < 0 {
			return unreadable("the folder of inode %d has holes", i.Number)
		}
		for at := int64(0); at < e.Bytes; at += f.blockBytes {
			if err := f.read(block, e.Offset+at); err != nil {
				return err
			}
			if err := l.block(block); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(l.names, func(a, b tree.Name) int { return cmp.Compare(a.Name, b.Name) })
	for n := 1; n < len(l.names); n++ {
		if l.names[n-1].Name == l.names[n].Name {
			return nil, unreadable("the folder of inode %d has a name twice", i.Number)
		}
	}
	if l.above == 0 {
		return nil, unreadable("the folder of inode %d does not say where it lies", i.Number)
	}
	return &Folder{Above: l.above, Names: l.names}, nil
}

// listing collects the names of one folder block by block. Blocks of its index look like blocks without names.
type listing struct {
	inode  *Inode
	limit  int
	blocks int
	above  uint32
	names  []tree.Name
}

func (l *listing) block(raw []byte) error {
	damaged := unreadable("the folder of inode %d", l.inode.Number)
	if l.inode.filesystem.checked && !l.isChecked(raw) {
		return unreadable("the checksum of the folder of inode %d", l.inode.Number)
	}
	l.blocks++
	for at := 0; at < len(raw); {
		entry := raw[at:]
		if len(entry) < entryHeadBytes {
			return damaged
		}
		inode, size, length := little.Uint32(entry), int(little.Uint16(entry[4:])), int(entry[6])
		if size < entryHeadBytes || size%entryAlignment != 0 || size > len(entry) || entryHeadBytes+length > size {
			return damaged
		}
		at += size
		if inode == 0 {
			continue
		}
		name := entry[entryHeadBytes:][:length]
		switch {
		case length == 0 || bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0:
			return damaged
		case string(name) == ".":
			if inode != l.inode.Number {
				return damaged
			}
		case string(name) == "..":
			if l.above != 0 {
				return damaged
			}
			l.above = inode
		default:
			if len(l.names) == l.limit {
				return tree.ErrTooManyNames
			}
			l.names = append(l.names, tree.Name{Name: string(name), Inode: uint64(inode)})
		}
	}
	return nil
}

func (l *listing) isChecked(raw []byte) bool {
	if l.inode.flags&flagIndex != 0 {
		if l.blocks == 0 {
			return l.isIndexChecked(raw, indexRootAt)
		}
		if little.Uint32(raw) == 0 && int(little.Uint16(raw[4:])) == len(raw) {
			return l.isIndexChecked(raw, indexNodeAt)
		}
	}
	tail := raw[len(raw)-tailBytes:]
	isTail := little.Uint32(tail) == 0 && little.Uint16(tail[4:]) == tailBytes && tail[6] == 0 && tail[7] == tailType
	return isTail && little.Uint32(tail[8:]) == checksum(l.inode.seed, raw[:len(raw)-tailBytes])
}

// isIndexChecked: the entries in use are summed, then the first half of the tail behind all that have room.
func (l *listing) isIndexChecked(raw []byte, at int) bool {
	limit, count := int(little.Uint16(raw[at:])), int(little.Uint16(raw[at+2:]))
	tail := at + limit*indexEntryBytes
	if count > limit || tail+8 > len(raw) {
		return false
	}
	sum := checksum(l.inode.seed, raw[:at+count*indexEntryBytes])
	sum = checksum(sum, raw[tail:][:4])
	sum = checksum(sum, []byte{0, 0, 0, 0})
	return sum == little.Uint32(raw[tail+4:])
}
