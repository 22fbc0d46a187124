package exec

import (
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// readAheadBytes is more than a library of C has. The kernel reads no more than pieceBytes at a time that nobody waits for.
	readAheadBytes = 4 << 20
	pieceBytes     = 1 << 20
)

// kernelNames are what Linux calls the processors that Go has other names for.
var kernelNames = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// firstFiles are what the first command reads in most environments: accounts, a shell, and the loader and the C library of glibc
// (multiarch or not) or musl.
func firstFiles() []string {
	machine := kernelNames[runtime.GOARCH]
	return []string{
		"/etc/passwd", "/etc/group", "/bin/sh",
		"/lib/" + machine + "-linux-gnu/libc.so.6", "/lib64/libc.so.6",
		"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-" + machine + ".so.1",
	}
}

// GetReady does ahead what the first command would wait for, where that has a kernel of its own. It changes nothing on the disk.
func (r *Registry) GetReady() {
	if !r.spares.forks {
		return
	}
	if tree, err := quietTree("/"); err == nil {
		for _, path := range firstFiles() {
			readAhead(tree, path)
		}
		for folder := range strings.SplitSeq(fallbackPath, ":") {
			if fd, err := openWithin(tree, folder+"/sh", unix.O_PATH); err == nil {
				unix.Close(fd)
			}
		}
		unix.Close(tree)
	}
	r.prepareSpare()
}

// quietTree shows a folder, without what is mounted below, so that looking at it leaves no time of access, not even of a symlink.
func quietTree(folder string) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, folder, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	quiet := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME, Attr_clr: unix.MOUNT_ATTR__ATIME}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &quiet); err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// openWithin takes the tree for the root.
func openWithin(tree int, path string, flags uint64) (int, error) {
	return unix.Openat2(tree, path, &unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// readAhead waits for what says where the content lies, and not for the content. Only that of a file is asked for: to open a device may
// mean something.
func readAhead(tree int, path string) {
	place, err := openWithin(tree, path, unix.O_PATH)
	if err != nil {
		return
	}
	defer unix.Close(place)
	var status unix.Stat_t
	if err := unix.Fstat(place, &status); err != nil || status.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	file, err := openWithin(tree, path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return
	}
	defer unix.Close(file)
	for at := int64(0); at < min(status.Size, readAheadBytes); at += pieceBytes {
		_ = unix.Fadvise(file, at, pieceBytes, unix.FADV_WILLNEED)
	}
}
