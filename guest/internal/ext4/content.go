package ext4

import "errors"

// windowExtents of a file are held at once, however many pieces it lies in.
const windowExtents = 256

// Content is what is in a file, read at any place. One goroutine at a time.
type Content struct {
	inode *Inode
	// window is where start of the file and what follows it, up to end, lie.
	window     []Extent
	start, end int64
}

// Content is that of a regular file.
func (i *Inode) Content() *Content { return &Content{inode: i} }

// Read fills the buffer from a place on, as far as the file goes.
func (c *Content) Read(buffer []byte, at int64) (int, error) {
	done := 0
	for done < len(buffer) && at < c.inode.Size {
		piece, err := c.piece(at)
		if err != nil {
			return done, err
		}
		part := buffer[done:][:min(int64(len(buffer)-done), piece.Bytes)]
		if piece.Offset < 0 {
			clear(part)
		} else if err := c.inode.filesystem.read(part, piece.Offset); err != nil {
			return done, err
		}
		done += len(part)
		at += int64(len(part))
	}
	return done, nil
}

// NextData is the first place from at on that is in no hole; the size when there is none.
func (c *Content) NextData(at int64) (int64, error) { return c.next(at, false) }

// NextHole is the first place from at on that is in a hole; the size when there is none.
func (c *Content) NextHole(at int64) (int64, error) { return c.next(at, true) }

func (c *Content) next(at int64, hole bool) (int64, error) {
	for at < c.inode.Size {
		piece, err := c.piece(at)
		if err != nil {
			return 0, err
		}
		if piece.Offset < 0 == hole {
			return at, nil
		}
		at += piece.Bytes
	}
	return c.inode.Size, nil
}

// piece is what of one extent begins at a place within the file.
func (c *Content) piece(at int64) (Extent, error) {
	if at < c.start || at >= c.end {
		if err := c.move(at); err != nil {
			return Extent{}, err
		}
	}
	place := c.start
	for _, extent := range c.window {
		if skipped := at - place; skipped < extent.Bytes {
			extent.Bytes -= skipped
			if extent.Offset >= 0 {
				extent.Offset += skipped
			}
			return extent, nil
		}
		place += extent.Bytes
	}
	return Extent{}, unreadable("the extents of inode %d", c.inode.Number)
}

var errWindowFull = errors.New("enough extents")

func (c *Content) move(at int64) error {
	block := at / c.inode.filesystem.blockBytes
	c.window, c.start = c.window[:0], block*c.inode.filesystem.blockBytes
	c.end = c.start
	err := c.inode.extentsFrom(block, func(extent Extent) error {
		if len(c.window) == windowExtents {
			return errWindowFull
		}
		c.window = append(c.window, extent)
		c.end += extent.Bytes
		return nil
	})
	if err == errWindowFull {
		return nil
	}
	return err
}
