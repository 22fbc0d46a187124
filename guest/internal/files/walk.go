// Package files reads and writes single files below a root for the engine. A path is walked component by component from
// open folders, so that neither a symlink nor a rename during the walk leads out of the root; this needs no openat2, which
// gVisor does not have, and never jumps through the magic links of /proc.
package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

const (
	// linksLimit is how many symlinks one path may lead through, as in the kernel.
	linksLimit = 40
	// pathLimitBytes is PATH_MAX without its end.
	pathLimitBytes = 4095
	// folderMode of folders that a write makes.
	folderMode = 0o755
)

// walk is where a path has led so far: the folders from the root down to the current one.
type walk struct {
	wanted string
	root   string
	// path is the wanted one as messages name it.
	path string
	// create makes folders that are missing.
	create  bool
	folders []step
	links   int
	// roots are the folders up to the root that the walk made, innermost first.
	roots []string
}

type step struct {
	*tree.Dir
	name string
	// made says that this walk made the folder.
	made bool
}

// begin opens the root.
func begin(root, path string, create bool) (*walk, error) {
	if !filepath.IsAbs(root) || strings.ContainsRune(root, 0) {
		return nil, message.Errorf(message.KindInvalid, "the root %q is not an absolute path", message.Clip(root, 512))
	}
	if path == "" || len(path) > pathLimitBytes || strings.ContainsRune(path, 0) {
		return nil, message.Errorf(message.KindInvalid, "%q is not a path", message.Clip(path, 512))
	}
	w := &walk{wanted: path, path: message.Clip(path, 1024), root: filepath.Clean(root), create: create}
	fd, err := unix.Open(w.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT && create {
		if err = w.makeRoot(); err == nil {
			fd, err = unix.Open(w.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, message.Errorf(message.KindNotFound, "there is no folder %q", message.Clip(w.root, 1024))
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EEXIST):
		return nil, message.Errorf(message.KindNotAFile, "%q is not a folder", message.Clip(w.root, 1024))
	case err != nil:
		w.undo()
		return nil, w.explain(err)
	}
	dir, err := tree.FromFd(fd)
	if err != nil {
		return nil, err
	}
	w.folders = []step{{Dir: dir}}
	return w, nil
}

func (w *walk) makeRoot() error {
	for at := w.root; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, unix.ENOENT) {
			break
		}
		w.roots = append(w.roots, at)
	}
	return os.MkdirAll(w.root, folderMode)
}

// end closes all folders.
func (w *walk) end() {
	for len(w.folders) > 0 {
		w.leave()
	}
}

// undo also removes the folders that the walk made.
func (w *walk) undo() {
	for len(w.folders) > 0 {
		w.leaveUnmade()
	}
	for _, made := range w.roots {
		// Somebody else may have put something into it.
		_ = unix.Rmdir(made)
	}
}

func (w *walk) leave() step {
	last := w.folders[len(w.folders)-1]
	w.folders = w.folders[:len(w.folders)-1]
	// An error is that of the folder above, and shows when that is used.
	_ = last.Leave()
	return last
}

func (w *walk) leaveUnmade() {
	last := w.leave()
	if last.made {
		// Somebody else may have put something into it.
		_ = unix.Unlinkat(w.folder(), last.name, unix.AT_REMOVEDIR)
	}
}

// folder is the current one.
func (w *walk) folder() int { return w.folders[len(w.folders)-1].Fd() }

// file walks to the folder of the last name of the path and returns that name. What stands there, if anything, is no
// symlink: those were followed.
func (w *walk) file() (name string, stat unix.Stat_t, exists bool, err error) {
	left, err := w.below(nil, w.wanted)
	if err != nil {
		return "", stat, false, err
	}
	for len(left) > 0 {
		part := left[len(left)-1]
		left = left[:len(left)-1]
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			if err := w.up(); err != nil {
				return "", stat, false, err
			}
			continue
		case len(left) > 0:
			if left, err = w.enter(part, left); err != nil {
				return "", stat, false, err
			}
			continue
		}
		err := unix.Fstatat(w.folder(), part, &stat, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			return part, stat, false, nil
		}
		if err != nil {
			return "", stat, false, w.explain(err)
		}
		if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			return part, stat, true, nil
		}
		if left, err = w.follow(part, left); err != nil {
			return "", stat, false, err
		}
	}
	return "", stat, false, message.Errorf(message.KindNotAFile, "%q is a folder", w.path)
}

// below pushes the parts of a path or a symlink's target. An absolute one must name something below the root and starts
// there again.
func (w *walk) below(left []string, path string) ([]string, error) {
	if strings.HasPrefix(path, "/") {
		rest, inside := strings.CutPrefix(path, strings.TrimSuffix(w.root, "/"))
		if !inside || rest != "" && rest[0] != '/' {
			return nil, w.outside()
		}
		for len(w.folders) > 1 {
			w.leaveUnmade()
		}
		path = rest
	}
	parts := strings.Split(path, "/")
	for at := len(parts) - 1; at >= 0; at-- {
		left = append(left, parts[at])
	}
	return left, nil
}

func (w *walk) outside() error {
	return message.Errorf(message.KindOutsideRoot, "%q leads out of %q", w.path, message.Clip(w.root, 1024))
}

func (w *walk) up() error {
	if len(w.folders) > 1 {
		w.leaveUnmade()
		return nil
	}
	if w.root == "/" {
		return nil
	}
	return w.outside()
}

// enter goes into a folder, or follows a symlink.
func (w *walk) enter(name string, left []string) ([]string, error) {
	current := w.folders[len(w.folders)-1]
	child, err := current.Enter(name)
	made := false
	if err == unix.ENOENT && w.create {
		if err = unix.Mkdirat(current.Fd(), name, folderMode); err == nil || err == unix.EEXIST {
			made = err == nil
			child, err = current.Enter(name)
		}
	}
	if err == nil {
		w.folders = append(w.folders, step{child, name, made})
		return left, nil
	}
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return w.follow(name, left)
	}
	return nil, w.explain(err)
}

func (w *walk) follow(name string, left []string) ([]string, error) {
	if w.links++; w.links > linksLimit {
		return nil, message.Errorf(message.KindNotFound, "%q leads through more than %d symlinks", w.path, linksLimit)
	}
	target, err := tree.ReadLink(w.folder(), name)
	if err == unix.EINVAL {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, w.explain(err)
	}
	if target == "" {
		return nil, w.explain(unix.ENOENT)
	}
	return w.below(left, target)
}

// explain names the path in an error of the kernel.
func (w *walk) explain(err error) error {
	var own *message.Error
	if errors.As(err, &own) {
		return err
	}
	kind, text := message.KindFailed, err.Error()
	switch {
	case errors.Is(err, unix.ENOENT):
		kind, text = message.KindNotFound, "there is no such file"
	case errors.Is(err, unix.ENOTDIR) && !w.create:
		kind, text = message.KindNotFound, "a part of the path is not a folder"
	case errors.Is(err, unix.ENOTDIR):
		kind, text = message.KindNotAFile, "a part of the path is not a folder"
	case errors.Is(err, unix.EISDIR):
		kind, text = message.KindNotAFile, "it is a folder"
	case errors.Is(err, unix.ENAMETOOLONG):
		kind, text = message.KindInvalid, "a part of the path is too long"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		kind, text = message.KindNoSpace, "no space is left"
	case errors.Is(err, unix.EFBIG):
		kind, text = message.KindLimit, "the file is too large for this filesystem"
	case errors.Is(err, unix.EROFS):
		text = "the filesystem is read-only"
	}
	return message.Errorf(kind, "%q: %s", w.path, text)
}

// kindOf says what stands in the place of a file.
func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a folder"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFLNK:
		return "a symlink"
	}
	return "no regular file"
}

func (w *walk) notAFile(mode uint32) error {
	return message.Errorf(message.KindNotAFile, "%q is %s", w.path, kindOf(mode))
}
