package archive

import (
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/tree"
)

// openFolderLimit bounds the folders kept open.
const openFolderLimit = 512

// folders keeps descriptors of the folders in use, by path from the root. It resolves component by component without
// following symlinks, which needs no openat2 (gVisor has none).
type folders struct {
	root int
	open map[string]int
	// last is the folder of the entry before: archives go folder by folder.
	lastPath string
	lastFd   int
}

func newFolders(root int) *folders {
	return &folders{root: root, open: map[string]int{}, lastFd: -1}
}

func (f *folders) close() {
	for path, fd := range f.open {
		unix.Close(fd)
		delete(f.open, path)
	}
	f.lastFd = -1
}

// forget drops the descriptors at and below a path whose folder was replaced.
func (f *folders) forget(path string) {
	for open, fd := range f.open {
		if open == path || strings.HasPrefix(open, path+"/") {
			unix.Close(fd)
			delete(f.open, open)
		}
	}
	f.lastFd = -1
}

// get opens the folder at a clean path. A missing one is made when make says so; ENOTDIR or ELOOP tell that something
// that is no folder, a symlink for one, is in the way.
func (f *folders) get(path string, create bool) (int, error) {
	if path == "" {
		return f.root, nil
	}
	if f.lastFd >= 0 && f.lastPath == path {
		return f.lastFd, nil
	}
	fd, err := f.walk(path, create)
	if err == nil {
		f.lastPath, f.lastFd = path, fd
	}
	return fd, err
}

func (f *folders) walk(path string, create bool) (int, error) {
	if fd, found := f.open[path]; found {
		return fd, nil
	}
	parent, name := f.root, path
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		var err error
		if parent, err = f.walk(path[:slash], create); err != nil {
			return -1, err
		}
		name = path[slash+1:]
	}
	fd, err := tree.OpenFolder(parent, name)
	if err == unix.ENOENT && create {
		if err = unix.Mkdirat(parent, name, 0o755); err == nil || err == unix.EEXIST {
			fd, err = tree.OpenFolder(parent, name)
		}
	}
	if err != nil {
		return -1, err
	}
	if len(f.open) >= openFolderLimit {
		// The chain that led here may be closed too: it is opened again when it is needed.
		for open, old := range f.open {
			unix.Close(old)
			delete(f.open, open)
		}
		f.lastFd = -1
	}
	f.open[path] = fd
	return fd, nil
}

func openat(fd int, name string, flags int, mode uint32) (int, error) {
	for {
		opened, err := unix.Openat(fd, name, flags, mode)
		if err != unix.EINTR {
			return opened, err
		}
	}
}

func splitPath(path string) (folder, name string) {
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		return path[:slash], path[slash+1:]
	}
	return "", path
}
