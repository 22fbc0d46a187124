package inspect

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/ignore"
	"pyro.dev/agent/internal/tree"
)

// volume is what is compared, exported and what a path is resolved in: a tree that the kernel shows, or an image that it
// does not.
type volume interface {
	// device is what the metadata of its own files says; that of what is mounted below is another.
	device() (uint64, error)
	// open opens a folder by parts none of which may be a symlink; isMissing tells of its errors whether there is none.
	open(parts []string) (folderView, error)
}

type lister interface {
	// NamesUpTo lists a folder, sorted by bytes, without "." and "..", or fails with tree.ErrTooManyNames.
	NamesUpTo(limit int) ([]tree.Name, error)
}

// folderView is one folder of a volume. No symlink is followed.
type folderView interface {
	lister
	// stat tells of a name, or of the folder itself by the name ""; found is false where there is nothing.
	stat(name string) (m meta, found bool, err error)
	readLink(name string) (string, error)
	// enter opens a folder below, which is left before this one is used again.
	enter(name string) (folderView, error)
	leave() error
	// send writes the content of a file.
	send(name string, size int64, to *frameStream) error
	// readSmall reads a regular file below, as far as the limit of rules goes.
	readSmall(parts ...string) ([]byte, error)
	xattrs() ([]tree.Xattr, error)
	// share gives what is in the folder to other goroutines, which may use it after the walk has left.
	share() (entries, error)
}

// entries is what is in a folder, as the walk saw it. Any goroutine may use it.
type entries interface {
	// openEntry opens a regular file or a folder; "." is the folder itself.
	openEntry(name string, m *meta) (file, error)
	readLink(name string, m *meta) (string, error)
	close()
}

// file is an open file, or a folder, which has attributes and no content.
type file interface {
	// read fills the buffer from a place on, as far as the file goes.
	read(buffer []byte, at int64) (int, error)
	// nextData and nextHole are the first place from at on that is none of the other; the size when there is none.
	nextData(at, size int64) (int64, error)
	nextHole(at, size int64) (int64, error)
	xattrs() ([]tree.Xattr, error)
	close()
}

// mountedVolume is the path of a volume that the kernel shows.
type mountedVolume string

func (v mountedVolume) device() (uint64, error) {
	m, _, err := statAt(unix.AT_FDCWD, string(v))
	return m.device, err
}

func (v mountedVolume) open(parts []string) (folderView, error) {
	fd, err := openParts(string(v), parts)
	if err != nil {
		return nil, err
	}
	dir, err := tree.FromFd(fd)
	if err != nil {
		return nil, err
	}
	return mountedFolder{dir}, nil
}

type mountedFolder struct{ *tree.Dir }

func (f mountedFolder) stat(name string) (meta, bool, error) { return statAt(f.Fd(), name) }
func (f mountedFolder) readLink(name string) (string, error) { return tree.ReadLink(f.Fd(), name) }
func (f mountedFolder) leave() error                         { return f.Leave() }
func (f mountedFolder) xattrs() ([]tree.Xattr, error)        { return tree.Xattrs(f.Fd()) }

func (f mountedFolder) enter(name string) (folderView, error) {
	dir, err := f.Enter(name)
	if err != nil {
		return nil, err
	}
	return mountedFolder{dir}, nil
}

func (f mountedFolder) send(name string, size int64, to *frameStream) error {
	fd, err := unix.Openat(f.Fd(), name, openFile, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return to.copyFrom(descriptor(fd), 0, size)
}

func (f mountedFolder) readSmall(parts ...string) ([]byte, error) {
	fd := f.Fd()
	for at, part := range parts {
		flags := openFolder
		if at == len(parts)-1 {
			flags = openFile
		}
		next, err := unix.Openat(fd, part, flags, 0)
		if fd != f.Fd() {
			unix.Close(fd)
		}
		if err != nil {
			return nil, err
		}
		fd = next
	}
	file := os.NewFile(uintptr(fd), parts[len(parts)-1])
	defer file.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.ENOENT
	}
	return io.ReadAll(io.LimitReader(file, ignore.FileLimitBytes))
}

func (f mountedFolder) share() (entries, error) {
	copied, err := unix.FcntlInt(uintptr(f.Fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share a folder: %w", err)
	}
	return mountedEntries(copied), nil
}

// mountedEntries is the descriptor of a folder.
type mountedEntries int

func (e mountedEntries) openEntry(name string, m *meta) (file, error) {
	if m.isFolder() {
		fd, err := unix.Openat(int(e), name, openFolder, 0)
		if err != nil {
			return nil, err
		}
		return descriptor(fd), nil
	}
	// Nothing changes in a frozen tree, so it is what stat said; checked all the same.
	fd, err := unix.Openat(int(e), name, openFile, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	var stat unix.Stat_t
	if err = unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EINVAL
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	return descriptor(fd), nil
}

func (e mountedEntries) readLink(name string, _ *meta) (string, error) {
	return tree.ReadLink(int(e), name)
}
func (e mountedEntries) close() { unix.Close(int(e)) }

// descriptor is a file that is read at any place.
type descriptor int

// ReadAt is io.ReaderAt.
func (d descriptor) ReadAt(p []byte, at int64) (int, error) {
	n, err := d.read(p, at)
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (d descriptor) read(buffer []byte, at int64) (int, error) {
	done := 0
	for done < len(buffer) {
		n, err := unix.Pread(int(d), buffer[done:], at+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, fmt.Errorf("read: %w", err)
		case n == 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

func (d descriptor) nextData(at, size int64) (int64, error) { return d.seek(at, unix.SEEK_DATA, size) }
func (d descriptor) nextHole(at, size int64) (int64, error) { return d.seek(at, unix.SEEK_HOLE, size) }
func (d descriptor) xattrs() ([]tree.Xattr, error)          { return tree.Xattrs(int(d)) }
func (d descriptor) close()                                 { unix.Close(int(d)) }

func (d descriptor) seek(at int64, whence int, size int64) (int64, error) {
	found, err := unix.Seek(int(d), at, whence)
	switch err {
	case nil:
		return min(found, size), nil
	case unix.ENXIO:
		return size, nil
	case unix.EINVAL, unix.EOPNOTSUPP:
		// A filesystem that does not tell has data everywhere.
		if whence == unix.SEEK_DATA {
			return at, nil
		}
		return size, nil
	}
	return 0, fmt.Errorf("look for holes: %w", err)
}
