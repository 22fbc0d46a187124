package tree

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Usage is what a tree occupies.
type Usage struct {
	Entries int64 `json:"entries"`
	// Bytes are allocated ones; hard links count once.
	Bytes int64 `json:"bytes"`
}

// Measure adds up the tree at path.
func Measure(cx context.Context, path string) (Usage, error) {
	root, err := Open(path)
	if err != nil {
		return Usage{}, err
	}
	defer root.Leave()
	var total Usage
	seen := map[[2]uint64]bool{}
	err = visit(cx, root, func(_ *Dir, _ string, stat *unix.Stat_t) error {
		if stat.Nlink > 1 && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			key := [2]uint64{stat.Dev, stat.Ino}
			if seen[key] {
				total.Entries++
				return nil
			}
			seen[key] = true
		}
		total.Entries++
		total.Bytes += stat.Blocks * 512
		return nil
	})
	return total, err
}

// Sync makes every file and folder of the tree durable.
func Sync(cx context.Context, path string) error {
	root, err := Open(path)
	if err != nil {
		return err
	}
	defer root.Leave()
	err = visit(cx, root, func(dir *Dir, name string, stat *unix.Stat_t) error {
		kind := stat.Mode & unix.S_IFMT
		if kind != unix.S_IFREG && kind != unix.S_IFDIR {
			return nil
		}
		fd, err := openat(dir.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fsync(fd)
	})
	if err != nil {
		return err
	}
	return unix.Fsync(root.fd)
}

// visit calls each for everything below dir, folders after what is in them, and stays on one mount.
func visit(cx context.Context, dir *Dir, each func(dir *Dir, name string, stat *unix.Stat_t) error) error {
	if err := cx.Err(); err != nil {
		return err
	}
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, entry := range names {
		var stat unix.Stat_t
		err := unix.Fstatat(dir.fd, entry.Name, &stat, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Dev == dir.device {
			var child *Dir
			if child, err = dir.Enter(entry.Name); err == nil {
				err = visit(cx, child, each)
				if left := child.Leave(); err == nil {
					err = left
				}
			}
		}
		if err == nil {
			err = each(dir, entry.Name, &stat)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", entry.Name, err)
		}
	}
	return nil
}
