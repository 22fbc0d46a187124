package inspect

import (
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/ext4"
	"pyro.dev/agent/internal/gitpatch"
)

// meta is what stat tells of a path.
type meta struct {
	mode     uint32
	links    uint32
	uid, gid uint32
	device   uint64
	inode    uint64
	number   uint64 // of a device node
	size     int64
	modified unix.StatxTimestamp
	changed  int64 // nanoseconds
	// node is what it tells of, in an image.
	node *ext4.Inode
}

const statMask = unix.STATX_BASIC_STATS

// statAt follows no symlink; found is false where there is nothing.
func statAt(folder int, name string) (m meta, found bool, err error) {
	var stat unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(folder, name, flags, statMask, &stat); err != nil {
		if err == unix.ENOENT {
			err = nil
		}
		return meta{}, false, err
	}
	return meta{
		mode: uint32(stat.Mode), links: stat.Nlink, uid: stat.Uid, gid: stat.Gid,
		device: unix.Mkdev(stat.Dev_major, stat.Dev_minor), inode: stat.Ino,
		number: unix.Mkdev(stat.Rdev_major, stat.Rdev_minor), size: int64(stat.Size),
		modified: stat.Mtime, changed: nanoseconds(stat.Ctime),
	}, true, nil
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*int64(time.Second) + int64(t.Nsec) }

func (m *meta) kind() uint32        { return m.mode & unix.S_IFMT }
func (m *meta) isFolder() bool      { return m.kind() == unix.S_IFDIR }
func (m *meta) isFile() bool        { return m.kind() == unix.S_IFREG }
func (m *meta) isSymlink() bool     { return m.kind() == unix.S_IFLNK }
func (m *meta) permissions() uint32 { return m.mode & 0o7777 }

// gitMode is 0 for what git does not store.
func (m *meta) gitMode() gitpatch.Mode {
	switch {
	case m.isSymlink():
		return gitpatch.Symlink
	case m.isFile() && m.mode&0o100 != 0:
		return gitpatch.Executable
	case m.isFile():
		return gitpatch.File
	}
	return 0
}

// isPlain tells whether owner and mode are those of what root makes, so that a patch says all of them.
func (m *meta) isPlain() bool {
	if m.uid != 0 || m.gid != 0 {
		return false
	}
	switch m.gitMode() {
	case gitpatch.Symlink:
		return true
	case gitpatch.File:
		return m.permissions() == 0o644
	case gitpatch.Executable:
		return m.permissions() == 0o755
	}
	return m.isFolder() && m.permissions() == 0o755
}

// isKept tells whether a file that git writes anew looks as it should: it belongs to who applies the patch and has one of
// two modes. Whether the group may write is left to the umask there, as long as that did not change.
func isKept(from, to *meta) bool {
	plain := *to
	if to.isFile() && from.mode&0o020 != 0 {
		plain.mode &^= 0o020
	}
	return plain.isPlain()
}

func (m *meta) typeName() string {
	switch m.kind() {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK:
		return "block"
	}
	return "char"
}

// sameMetadata compares what git and stat show beside the content; times are no difference.
func sameMetadata(a, b *meta) bool {
	return a.mode == b.mode && a.uid == b.uid && a.gid == b.gid &&
		(a.kind() != unix.S_IFBLK && a.kind() != unix.S_IFCHR || a.number == b.number)
}
