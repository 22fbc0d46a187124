package tree

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrMount is met where another filesystem is mounted inside a tree.
var ErrMount = fmt.Errorf("something is mounted inside: %w", unix.EBUSY)

// Delete removes name and everything below it from the open folder parent. It neither follows symlinks nor enters
// mounts, and returns how many entries it removed.
func Delete(cx context.Context, parent int, name string) (int64, error) {
	d := deletion{cx: cx}
	err := unix.Unlinkat(parent, name, 0)
	if err == nil {
		return 1, nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return 0, err
	}
	fd, err := OpenFolder(parent, name)
	if err != nil {
		return 0, err
	}
	root, err := FromFd(fd)
	if err != nil {
		return 0, err
	}
	if d.mount, err = mountID(root.fd); err == nil {
		var outer uint64
		if outer, err = mountID(parent); err == nil && outer != d.mount {
			err = ErrMount
		}
	}
	if err == nil {
		err = d.empty(root)
	}
	if left := root.Leave(); err == nil {
		err = left
	}
	if err != nil {
		return d.entries, err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil {
		return d.entries, err
	}
	return d.entries + 1, nil
}

type deletion struct {
	cx      context.Context
	mount   uint64
	entries int64
}

func (d *deletion) empty(dir *Dir) error {
	if err := d.cx.Err(); err != nil {
		return err
	}
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, entry := range names {
		if entry.Kind != unix.DT_DIR {
			err := unix.Unlinkat(dir.fd, entry.Name, 0)
			if err == nil || err == unix.ENOENT {
				d.entries++
				continue
			}
			if err != unix.EISDIR && err != unix.EPERM {
				return fmt.Errorf("unlink %q: %w", entry.Name, err)
			}
		}
		if err := d.remove(dir, entry.Name); err != nil {
			return err
		}
	}
	return nil
}

func (d *deletion) remove(dir *Dir, name string) error {
	child, err := dir.Enter(name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %q: %w", name, err)
	}
	mount, err := mountID(child.fd)
	if err == nil && mount != d.mount {
		err = ErrMount
	}
	if err == nil {
		err = d.empty(child)
	}
	if left := child.Leave(); err == nil {
		err = left
	}
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(dir.fd, name, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove folder %q: %w", name, err)
	}
	d.entries++
	return nil
}

// mountID tells mounts apart, also two of the same filesystem.
func mountID(fd int) (uint64, error) {
	var stat unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &stat); err != nil {
		return 0, err
	}
	return stat.Mnt_id, nil
}
