// Package tree walks, compares, copies and deletes directory trees by descriptors: no path is ever resolved twice, no
// symlink is followed, and depth costs neither descriptors nor path length.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// openLevels is how many of the innermost folders of a walk keep their descriptor; those above are opened again
	// through "..", which is checked to lead to the same folder.
	openLevels = 64
	// direntBufferBytes is what one getdents call may return.
	direntBufferBytes = 64 << 10
)

// ErrMoved is met when a folder changes its place during a walk. Frozen trees never do that.
var ErrMoved = errors.New("the tree changed while it was walked")

// Dir is one open folder of a walk. A walk is depth first, by one goroutine.
type Dir struct {
	fd          int
	parent      *Dir
	depth       int
	device, ino uint64
}

// Open starts a walk at path, which must be a folder and not a symlink.
func Open(path string) (*Dir, error) {
	fd, err := OpenFolder(unix.AT_FDCWD, path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return FromFd(fd)
}

// FromFd starts a walk at an open folder and takes the descriptor over.
func FromFd(fd int) (*Dir, error) {
	d := &Dir{fd: fd}
	if err := d.identify(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return d, nil
}

func (d *Dir) identify() error {
	var stat unix.Stat_t
	if err := unix.Fstat(d.fd, &stat); err != nil {
		return err
	}
	d.device, d.ino = stat.Dev, stat.Ino
	return nil
}

// Fd is valid until a child is entered and again after it is left.
func (d *Dir) Fd() int { return d.fd }

// Depth is 0 at the start of the walk.
func (d *Dir) Depth() int { return d.depth }

// Enter opens a subfolder; Leave must follow.
func (d *Dir) Enter(name string) (*Dir, error) {
	fd, err := OpenFolder(d.fd, name)
	if err != nil {
		return nil, err
	}
	child := &Dir{fd: fd, parent: d, depth: d.depth + 1}
	if err := child.identify(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	far := d
	for range openLevels {
		if far = far.parent; far == nil {
			return child, nil
		}
	}
	if far.parent != nil && far.fd >= 0 {
		unix.Close(far.fd)
		far.fd = -1
	}
	return child, nil
}

// Leave closes the folder and makes its parent usable again.
func (d *Dir) Leave() error {
	var err error
	if p := d.parent; p != nil && p.fd < 0 {
		if p.fd, err = OpenFolder(d.fd, ".."); err == nil {
			device, ino := p.device, p.ino
			if err = p.identify(); err == nil && (p.device != device || p.ino != ino) {
				err = ErrMoved
			}
		}
	}
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	d.fd = -1
	return err
}

// Name is one entry of a folder as getdents tells it.
type Name struct {
	Name string
	// Kind is a DT_ constant; DT_UNKNOWN on filesystems that do not tell.
	Kind  byte
	Inode uint64
}

// ErrTooManyNames is met in a folder with more names than the caller can hold.
var ErrTooManyNames = errors.New("the folder holds too many names")

// Names lists a folder, sorted by bytes, without "." and "..".
func (d *Dir) Names() ([]Name, error) { return ReadNames(d.fd) }

// NamesUpTo is Names for folders that somebody may have filled to use up memory.
func (d *Dir) NamesUpTo(limit int) ([]Name, error) { return readNames(d.fd, limit) }

// ReadNames lists an open folder from its start.
func ReadNames(fd int) ([]Name, error) { return readNames(fd, math.MaxInt) }

func readNames(fd, limit int) ([]Name, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var names []Name
	buffer := make([]byte, direntBufferBytes)
	for {
		n, err := unix.Getdents(fd, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list a folder: %w", err)
		}
		if n == 0 {
			break
		}
		if names = parseDirents(names, buffer[:n]); len(names) > limit {
			return nil, ErrTooManyNames
		}
	}
	slices.SortFunc(names, func(a, b Name) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return names, nil
}

const direntNameOffset = int(unsafe.Offsetof(unix.Dirent{}.Name))

func parseDirents(names []Name, buffer []byte) []Name {
	for len(buffer) >= direntNameOffset {
		entry := (*unix.Dirent)(unsafe.Pointer(&buffer[0]))
		size := int(entry.Reclen)
		if size < direntNameOffset || size > len(buffer) {
			break
		}
		name := buffer[direntNameOffset:size]
		end := slices.Index(name, 0)
		if end < 0 {
			end = len(name)
		}
		if text := string(name[:end]); text != "." && text != ".." {
			names = append(names, Name{text, entry.Type, entry.Ino})
		}
		buffer = buffer[size:]
	}
	return names
}
