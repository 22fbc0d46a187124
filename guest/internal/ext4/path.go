package ext4

import (
	"strings"

	"golang.org/x/sys/unix"
)

// linksLimit is how many symlinks a kernel follows on one way: path_resolution(7).
const linksLimit = 40

// Follow gives the node that a path leads to, through symlinks also at its end, and never out of the filesystem. As a
// kernel does, it fails with ENOENT, ENOTDIR or ELOOP where there is none.
func (f *Filesystem) Follow(path string) (*Inode, error) {
	root, err := f.Inode(RootInode)
	if err != nil {
		return nil, err
	}
	at, links := root, 0
	for rest := strings.Split(path, "/"); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next, err := at.Child(name)
		if err != nil {
			return nil, err
		}
		if !next.IsSymlink() {
			at = next
			continue
		}
		if links++; links > linksLimit {
			return nil, unix.ELOOP
		}
		target, err := next.Target()
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			at = root
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// Child gives the node that has a name in a folder, itself also where it is a symlink, or fails with ENOENT or ENOTDIR.
func (i *Inode) Child(name string) (*Inode, error) {
	if !i.IsFolder() {
		return nil, unix.ENOTDIR
	}
	number, err := i.Lookup(name)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		return nil, unix.ENOENT
	}
	return i.filesystem.Inode(number)
}
