package ext4

import "math"

const (
	extentMagic      = 0xf30a
	extentBytes      = 12
	extentDepthLimit = 5
	// writtenLimit: a length above it is of blocks that were promised and never written, less this.
	writtenLimit = 32768
	directBlocks = 12
	blocksLimit  = math.MaxUint32
)

// Extent is a part of a file that lies in one piece on the disk.
type Extent struct {
	Bytes int64
	// Offset on the disk; -1 for a hole, which reads as zeros.
	Offset int64
}

// Extents calls each with all parts of a file in order, which together are as long as the file. It may be given up with an
// error of the caller's.
func (i *Inode) Extents(each func(Extent) error) error { return i.extentsFrom(0, each) }

// extentsFrom begins at a block of the file.
func (i *Inode) extentsFrom(block int64, each func(Extent) error) error {
	m := &mapping{inode: i, each: each, from: block, sent: block * i.filesystem.blockBytes}
	var err error
	if i.flags&flagExtents != 0 {
		err = m.node(i.field[:], -1, blocksLimit)
	} else {
		err = m.blockMap()
	}
	if err == nil {
		err = m.holeUpTo(m.end())
	}
	if err == nil {
		err = m.flush()
	}
	return err
}

// mapping is one pass through the blocks of a file, in order.
type mapping struct {
	inode *Inode
	each  func(Extent) error
	// from is the block of the file before which nothing is asked for.
	from int64
	// at is the block of the file that comes next.
	at int64
	// used counts blocks of the disk.
	used int64
	// held was not sent yet: its neighbour may belong to it.
	held Extent
	// sent bytes of the file.
	sent int64
}

// end is the number of blocks that the size takes.
func (m *mapping) end() int64 {
	size := m.inode.filesystem.blockBytes
	return (m.inode.Size + size - 1) / size
}

// put takes count blocks at a block of the disk, or none for block -1. What lies beyond the size is no part of the file.
func (m *mapping) put(count, block int64) error {
	f := m.inode.filesystem
	count = min(count, m.end()-m.at)
	if count <= 0 {
		return nil
	}
	if block >= 0 {
		if block <= f.firstBlock || block+count > f.blocks {
			return unreadable("inode %d has blocks beyond the end", m.inode.Number)
		}
		// A file that maps blocks again and again would take as long to read as it says that it is.
		if m.used += count; m.used > f.blocks {
			return unreadable("inode %d has more blocks than the disk", m.inode.Number)
		}
	}
	skipped := min(count, max(0, m.from-m.at))
	m.at += count
	if count -= skipped; count == 0 {
		return nil
	}
	bytes := count * f.blockBytes
	offset := int64(-1)
	if block >= 0 {
		offset = (block + skipped) * f.blockBytes
	}
	continues := offset == -1 && m.held.Offset == -1 || offset >= 0 && m.held.Offset >= 0 && m.held.Offset+m.held.Bytes == offset
	if m.held.Bytes > 0 && !continues {
		if err := m.flush(); err != nil {
			return err
		}
	}
	if m.held.Bytes == 0 {
		m.held.Offset = offset
	}
	m.held.Bytes += bytes
	return nil
}

func (m *mapping) holeUpTo(block int64) error { return m.put(block-m.at, -1) }

func (m *mapping) flush() error {
	extent := m.held
	extent.Bytes = min(extent.Bytes, m.inode.Size-m.sent)
	m.held = Extent{}
	if extent.Bytes == 0 {
		return nil
	}
	m.sent += extent.Bytes
	return m.each(extent)
}

// node visits a node of the tree of extents. Its depth is that of the node above less one; above is -1 at the root. What
// it maps must lie before limit, so that no node is visited twice.
func (m *mapping) node(raw []byte, above int, limit int64) error {
	damaged := unreadable("the extents of inode %d", m.inode.Number)
	entries, most, depth := int(little.Uint16(raw[2:])), int(little.Uint16(raw[4:])), int(little.Uint16(raw[6:]))
	if little.Uint16(raw) != extentMagic || entries > most || (most+1)*extentBytes > len(raw) || depth > extentDepthLimit {
		return damaged
	}
	if above >= 0 && depth != above-1 || depth > 0 && entries == 0 {
		return damaged
	}
	if above >= 0 && m.inode.filesystem.checked {
		tail := (most + 1) * extentBytes
		if tail+4 > len(raw) || little.Uint32(raw[tail:]) != checksum(m.inode.seed, raw[:tail]) {
			return damaged
		}
	}
	var below []byte
	for n := 1; n <= entries && m.at < m.end(); n++ {
		entry := raw[n*extentBytes:][:extentBytes]
		first := int64(little.Uint32(entry))
		if first < m.at || first >= limit {
			return damaged
		}
		if depth == 0 {
			if err := m.extent(entry, limit); err != nil {
				return err
			}
			continue
		}
		if err := m.holeUpTo(first); err != nil {
			return err
		}
		next := limit
		if n < entries {
			if next = int64(little.Uint32(raw[(n+1)*extentBytes:])); next <= first {
				return damaged
			}
		}
		if end := min(next, limit); end <= m.from {
			m.at = end
			continue
		}
		if below == nil {
			below = make([]byte, m.inode.filesystem.blockBytes)
		}
		block := int64(little.Uint32(entry[4:])) | int64(little.Uint16(entry[8:]))<<32
		if err := m.inode.filesystem.read(below, block*m.inode.filesystem.blockBytes); err != nil {
			return err
		}
		if err := m.node(below, depth, min(next, limit)); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapping) extent(entry []byte, limit int64) error {
	first, length := int64(little.Uint32(entry)), int64(little.Uint16(entry[4:]))
	block := int64(little.Uint32(entry[8:])) | int64(little.Uint16(entry[6:]))<<32
	if length > writtenLimit {
		length, block = length-writtenLimit, -1
	}
	if length == 0 || first+length > limit {
		return unreadable("the extents of inode %d", m.inode.Number)
	}
	if err := m.holeUpTo(first); err != nil {
		return err
	}
	return m.put(length, block)
}

// blockMap is how files lie that have no extents: twelve blocks, and three trees of block numbers.
func (m *mapping) blockMap() error {
	for n := range directBlocks {
		if err := m.block(m.inode.field[n*4:]); err != nil {
			return err
		}
	}
	for level := range 3 {
		if err := m.indirect(m.inode.field[(directBlocks+level)*4:], level); err != nil {
			return err
		}
	}
	if m.at < m.end() {
		return unreadable("the size of inode %d", m.inode.Number)
	}
	return nil
}

func (m *mapping) block(pointer []byte) error {
	if block := int64(little.Uint32(pointer)); block != 0 {
		return m.put(1, block)
	}
	return m.put(1, -1)
}

func (m *mapping) indirect(pointer []byte, level int) error {
	if m.at >= m.end() {
		return nil
	}
	f := m.inode.filesystem
	count := f.blockBytes / 4
	for range level {
		count *= f.blockBytes / 4
	}
	block := int64(little.Uint32(pointer))
	if block == 0 || m.at+count <= m.from {
		return m.put(count, -1)
	}
	raw := make([]byte, f.blockBytes)
	if err := f.read(raw, block*f.blockBytes); err != nil {
		return err
	}
	for at := 0; at < len(raw) && m.at < m.end(); at += 4 {
		var err error
		if level == 0 {
			err = m.block(raw[at:])
		} else {
			err = m.indirect(raw[at:], level-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
