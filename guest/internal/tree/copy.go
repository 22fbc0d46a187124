package tree

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// copyChunkBytes is what one copy_file_range call is asked for, so that a cancel is seen in time.
	copyChunkBytes = 64 << 20
	// linksPrefix begins the name of the folder that holds one name of every hard-linked file during a copy.
	linksPrefix = ".pyro-links-"
)

// CopyResult counts what a copy made.
type CopyResult struct {
	Entries   int64 `json:"entries"`
	Bytes     int64 `json:"bytes"`
	Reflinked bool  `json:"reflinked"`
}

// Copy makes target, which must not exist, an exact copy of the tree source: hard links, holes, xattrs, owners, modes,
// times, devices and FIFOs. On failure nothing of the copy remains.
func Copy(cx context.Context, source, target string) (CopyResult, error) {
	from, err := Open(source)
	if err != nil {
		return CopyResult{}, err
	}
	defer from.Leave()
	if err := unix.Mkdir(target, 0o700); err != nil {
		return CopyResult{}, fmt.Errorf("make %s: %w", target, err)
	}
	result, err := copyInto(cx, from, target)
	if err == nil {
		return result, nil
	}
	parent, open := OpenFolder(unix.AT_FDCWD, filepath.Dir(target))
	if open == nil {
		_, open = Delete(context.WithoutCancel(cx), parent, filepath.Base(target))
		unix.Close(parent)
	}
	if open != nil {
		err = fmt.Errorf("%w (and %s was left behind: %w)", err, target, open)
	}
	return CopyResult{}, err
}

func copyInto(cx context.Context, from *Dir, target string) (CopyResult, error) {
	to, err := Open(target)
	if err != nil {
		return CopyResult{}, err
	}
	defer to.Leave()
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return CopyResult{}, err
	}
	c := copying{cx: cx, reflink: true, links: linksPrefix + hex.EncodeToString(random[:]), linksFd: -1}
	if c.mount, err = mountID(from.fd); err != nil {
		return CopyResult{}, err
	}
	defer c.close()
	if err := c.children(from, to); err != nil {
		return CopyResult{}, err
	}
	if c.linksFd >= 0 {
		if _, err := Delete(cx, to.fd, c.links); err != nil {
			return CopyResult{}, fmt.Errorf("remove %s: %w", c.links, err)
		}
	}
	if err := c.folderMetadata(from.fd, to.fd); err != nil {
		return CopyResult{}, err
	}
	return CopyResult{Entries: c.entries + 1, Bytes: c.bytes, Reflinked: c.reflink && c.files > 0}, nil
}

type copying struct {
	cx      context.Context
	mount   uint64
	reflink bool
	// links holds one name of every file with several, so that later names can be linked whatever the depth of the first.
	links   string
	linksFd int
	entries int64
	files   int64
	bytes   int64
}

func (c *copying) close() {
	if c.linksFd >= 0 {
		unix.Close(c.linksFd)
	}
}

func (c *copying) children(from, to *Dir) error {
	if err := c.cx.Err(); err != nil {
		return err
	}
	names, err := from.Names()
	if err != nil {
		return err
	}
	for _, entry := range names {
		var stat unix.Stat_t
		if err := unix.Fstatat(from.fd, entry.Name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("stat %q: %w", entry.Name, err)
		}
		if err := c.entry(from, to, entry.Name, &stat); err != nil {
			return err
		}
		c.entries++
	}
	return nil
}

func (c *copying) entry(from, to *Dir, name string, stat *unix.Stat_t) error {
	kind := stat.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.folder(from, to, name)
	}
	linked := stat.Nlink > 1
	key := strconv.FormatUint(stat.Dev, 16) + "-" + strconv.FormatUint(stat.Ino, 16)
	if linked {
		if c.linksFd < 0 {
			if err := c.makeLinks(to); err != nil {
				return err
			}
		}
		err := unix.Linkat(c.linksFd, key, to.fd, name, 0)
		if err == nil {
			return nil
		}
		if err != unix.ENOENT {
			return fmt.Errorf("link %q: %w", name, err)
		}
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		err = c.file(from.fd, to.fd, name)
	case unix.S_IFLNK:
		err = c.symlink(from.fd, to.fd, name)
		if err == nil {
			err = c.nodeMetadata(from.fd, to.fd, name, stat)
		}
	default:
		err = unix.Mknodat(to.fd, name, stat.Mode, int(stat.Rdev))
		if err == nil {
			err = c.nodeMetadata(from.fd, to.fd, name, stat)
		}
	}
	if err == nil && linked {
		err = unix.Linkat(to.fd, name, c.linksFd, key, 0)
	}
	if err != nil {
		return fmt.Errorf("copy %q: %w", name, err)
	}
	return nil
}

// makeLinks makes the folder of hard links at the top of the copy; to is somewhere below.
func (c *copying) makeLinks(to *Dir) error {
	top := to
	for top.parent != nil {
		top = top.parent
	}
	if err := unix.Mkdirat(top.fd, c.links, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", c.links, err)
	}
	var err error
	c.linksFd, err = OpenFolder(top.fd, c.links)
	return err
}

func (c *copying) folder(from, to *Dir, name string) error {
	source, err := from.Enter(name)
	if err != nil {
		return fmt.Errorf("open %q: %w", name, err)
	}
	err = c.enterFolder(source, to, name)
	if left := source.Leave(); err == nil {
		err = left
	}
	return err
}

func (c *copying) enterFolder(source, to *Dir, name string) error {
	mount, err := mountID(source.fd)
	if err != nil {
		return err
	}
	if mount != c.mount {
		return fmt.Errorf("copy %q: %w", name, ErrMount)
	}
	if err := unix.Mkdirat(to.fd, name, 0o700); err != nil {
		return fmt.Errorf("make %q: %w", name, err)
	}
	target, err := to.Enter(name)
	if err != nil {
		return fmt.Errorf("open %q: %w", name, err)
	}
	err = c.children(source, target)
	if err == nil {
		err = c.folderMetadata(source.fd, target.fd)
	}
	if left := target.Leave(); err == nil {
		err = left
	}
	return err
}

func (c *copying) file(from, to int, name string) error {
	source, err := openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	var stat unix.Stat_t
	if err := unix.Fstat(source, &stat); err != nil {
		return err
	}
	target, err := openat(to, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := c.contents(source, target, stat.Size); err != nil {
		return err
	}
	c.files++
	c.bytes += stat.Size
	return c.openMetadata(source, target, &stat)
}

func (c *copying) contents(source, target int, size int64) error {
	if size == 0 {
		return nil
	}
	if c.reflink {
		err := unix.IoctlFileClone(target, source)
		if err == nil {
			return nil
		}
		switch err {
		case unix.EOPNOTSUPP, unix.EXDEV, unix.ENOTTY, unix.EINVAL, unix.ENOSYS:
			c.reflink = false
		default:
			return err
		}
	}
	if err := unix.Ftruncate(target, size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(source, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(source, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := c.extent(source, target, data, hole); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

func (c *copying) extent(source, target int, at, end int64) error {
	var buffer []byte
	for at < end {
		if err := c.cx.Err(); err != nil {
			return err
		}
		if buffer == nil {
			in, out := at, at
			n, err := unix.CopyFileRange(source, &in, target, &out, int(min(end-at, copyChunkBytes)), 0)
			switch err {
			case nil:
				if n == 0 {
					return io.ErrUnexpectedEOF
				}
				at += int64(n)
				continue
			case unix.EINTR:
				continue
			case unix.EXDEV, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
				buffer = make([]byte, 1<<20)
			default:
				return err
			}
		}
		n, err := unix.Pread(source, buffer[:min(end-at, int64(len(buffer)))], at)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		for done := 0; done < n; {
			m, err := unix.Pwrite(target, buffer[done:n], at+int64(done))
			if err != nil {
				return err
			}
			done += m
		}
		at += int64(n)
	}
	return nil
}

func (c *copying) symlink(from, to int, name string) error {
	target, err := ReadLink(from, name)
	if err != nil {
		return err
	}
	return unix.Symlinkat(target, to, name)
}

// folderMetadata comes after the children, which change the times of their folder.
func (c *copying) folderMetadata(from, to int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(from, &stat); err != nil {
		return err
	}
	return c.openMetadata(from, to, &stat)
}

// openMetadata keeps this order: a change of owner drops set-id bits and capabilities, everything changes the times.
func (c *copying) openMetadata(from, to int, stat *unix.Stat_t) error {
	if err := unix.Fchown(to, int(stat.Uid), int(stat.Gid)); err != nil {
		return fmt.Errorf("set the owner: %w", err)
	}
	if err := unix.Fchmod(to, stat.Mode&0o7777); err != nil {
		return fmt.Errorf("set the mode: %w", err)
	}
	attributes, err := Xattrs(from)
	if err != nil {
		return fmt.Errorf("read xattrs: %w", err)
	}
	for _, attribute := range attributes {
		if err := unix.Fsetxattr(to, attribute.Name, attribute.Value, 0); err != nil {
			return fmt.Errorf("set xattr %s: %w", attribute.Name, err)
		}
	}
	times := []unix.Timespec{stat.Atim, stat.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(to), times, 0)
}

// nodeMetadata is openMetadata for what cannot be opened.
func (c *copying) nodeMetadata(from, to int, name string, stat *unix.Stat_t) error {
	if err := unix.Fchownat(to, name, int(stat.Uid), int(stat.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the owner: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(to, name, stat.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("set the mode: %w", err)
		}
	}
	if err := copyNodeXattrs(from, to, name); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{stat.Atim, stat.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyNodeXattrs(from, to int, name string) error {
	source := "/proc/self/fd/" + strconv.Itoa(from) + "/" + name
	target := "/proc/self/fd/" + strconv.Itoa(to) + "/" + name
	names, err := readGrowing(func(buffer []byte) (int, error) { return unix.Llistxattr(source, buffer) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list xattrs: %w", err)
	}
	for _, attribute := range splitNames(names) {
		value, err := readGrowing(func(buffer []byte) (int, error) { return unix.Lgetxattr(source, attribute, buffer) })
		if err == nil {
			err = unix.Lsetxattr(target, attribute, value, 0)
		}
		if err != nil {
			return fmt.Errorf("copy xattr %s: %w", attribute, err)
		}
	}
	return nil
}
