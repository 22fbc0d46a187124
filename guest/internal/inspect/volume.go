package inspect

import (
	"io"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/tree"
)

// volume is what an export reads and a path is resolved in: a tree that the kernel shows, or an image that it does not.
type volume interface {
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
}

// mountedVolume is the path of a volume that the kernel shows.
type mountedVolume string

func (v mountedVolume) open(parts []string) (folderView, error) {
	fd, err := openParts(string(v), parts)
	if err != nil {
		return nil, err
	}
	dir, err := tree.FromFd(fd)
	return mountedFolder{dir}, err
}

type mountedFolder struct{ *tree.Dir }

func (f mountedFolder) stat(name string) (meta, bool, error) { return statAt(f.Fd(), name) }
func (f mountedFolder) readLink(name string) (string, error) { return tree.ReadLink(f.Fd(), name) }
func (f mountedFolder) leave() error                         { return f.Leave() }

func (f mountedFolder) enter(name string) (folderView, error) {
	dir, err := f.Enter(name)
	return mountedFolder{dir}, err
}

func (f mountedFolder) send(name string, size int64, to *frameStream) error {
	fd, err := unix.Openat(f.Fd(), name, openFile, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return to.copyFrom(descriptor(fd), 0, size)
}

// descriptor is a file that is read at any place.
type descriptor int

// ReadAt is io.ReaderAt.
func (d descriptor) ReadAt(p []byte, at int64) (int, error) {
	n, err := readFull(int(d), p, at)
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
