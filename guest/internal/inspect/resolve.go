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
	root, err := in.open(nil)
	if err != nil {
		return nil, false, err
	}
	at := way{folders: []folderView{root}}
	defer func() {
		if left := at.up(len(at.parts) + 1); err == nil {
			err = left
		}
	}()
	pending := split(name)
	for links := 0; len(pending) > 0; {
		part := pending[0]
		pending = pending[1:]
		if part == ".." {
			if err := at.up(min(1, len(at.parts))); err != nil {
				return nil, false, err
			}
			continue
		}
		m, there, err := at.folder().stat(part)
		target := ""
		if err == nil && there && m.isSymlink() && (len(pending) > 0 || followLast) {
			target, err = at.folder().readLink(part)
		}
		switch {
		case err == unix.ENAMETOOLONG:
			return nil, false, errUnresolvable
		case err != nil:
			return nil, false, err
		case target == "" && len(pending) == 0:
			return append(slices.Clone(at.parts), part), true, nil
		case !there:
			return nil, false, nil
		case target == "":
			if err := at.down(part); err != nil {
				if isMissing(err) {
					err = nil
				}
				return nil, false, err
			}
			continue
		}
		if links++; links > symlinkLimit {
			return nil, false, errUnresolvable
		}
		if path.IsAbs(target) {
			if err := at.up(len(at.parts)); err != nil {
				return nil, false, err
			}
		}
		pending = append(split(target), pending...)
	}
	return slices.Clone(at.parts), true, nil
}

// way is where resolve is: the folders from the root down, and the parts that lead from one to the next.
type way struct {
	folders []folderView
	parts   []string
}

func (w *way) folder() folderView { return w.folders[len(w.folders)-1] }

func (w *way) down(part string) error {
	below, err := w.folder().enter(part)
	if err != nil {
		return err
	}
	w.folders, w.parts = append(w.folders, below), append(w.parts, part)
	return nil
}

// up leaves so many folders.
func (w *way) up(levels int) error {
	var err error
	for range levels {
		if left := w.folder().leave(); err == nil {
			err = left
		}
		w.folders = w.folders[:len(w.folders)-1]
		w.parts = w.parts[:max(0, len(w.folders)-1)]
	}
	return err
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
