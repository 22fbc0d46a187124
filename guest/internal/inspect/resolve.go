package inspect

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// symlinkLimit is what the kernel follows in one path.
	symlinkLimit = 40
	openFolder   = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// errUnresolvable is met where too many symlinks lead on, or a part is longer than any name.
var errUnresolvable = errors.New("too many symlinks, or too long a name")

// resolve gives the parts of an absolute path with every symlink followed, the last part's only if followLast. The kernel
// follows none on these mounts; here each target is read and starts over at the root of the volume, whatever it says.
// found is false when a folder on the way is missing; the last part need not exist.
func resolve(in volume, name string, followLast bool) (parts []string, found bool, err error) {
	pending := split(name)
	for links := 0; len(pending) > 0; {
		part := pending[0]
		pending = pending[1:]
		if part == ".." {
			parts = parts[:max(0, len(parts)-1)]
			continue
		}
		folder, err := in.open(parts)
		if isMissing(err) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		m, there, err := folder.stat(part)
		target := ""
		if err == nil && there && m.isSymlink() && (len(pending) > 0 || followLast) {
			target, err = folder.readLink(part)
		}
		if left := folder.leave(); err == nil {
			err = left
		}
		switch {
		case err == unix.ENAMETOOLONG:
			return nil, false, errUnresolvable
		case err != nil:
			return nil, false, err
		case !there && len(pending) > 0:
			return nil, false, nil
		case target == "":
			parts = append(parts, part)
			continue
		}
		if links++; links > symlinkLimit {
			return nil, false, errUnresolvable
		}
		if path.IsAbs(target) {
			parts = nil
		}
		pending = append(split(target), pending...)
	}
	return parts, true, nil
}

// openParts opens a folder by parts none of which may be a symlink.
func openParts(volume string, parts []string) (int, error) {
	fd, err := unix.Open(volume, openFolder, 0)
	if err != nil {
		return -1, err
	}
	for _, part := range parts {
		next, err := unix.Openat(fd, part, openFolder, 0)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

func split(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." })
}
