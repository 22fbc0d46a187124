package tree

import (
	"sync"

	"golang.org/x/sys/unix"
)

const openFolder = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// followsDespiteNoFollow tells a kernel in which O_DIRECTORY defeats O_NOFOLLOW: gVisor (seen in 2024-07) follows a
// symlink then. /proc/self is a symlink to a folder wherever there is a /proc.
var followsDespiteNoFollow = sync.OnceValue(func() bool {
	fd, err := unix.Open("/proc/self", openFolder, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
})

// OpenFolder opens a subfolder of an open folder; a symlink is none (ENOTDIR or ELOOP).
func OpenFolder(parent int, name string) (int, error) {
	if !followsDespiteNoFollow() {
		return openat(parent, name, openFolder, 0)
	}
	// Without O_DIRECTORY other things open, too: none of them may block or become a terminal of ours.
	fd, err := openat(parent, name, openFolder&^unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, err
	}
	var stat unix.Stat_t
	if err = unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
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
